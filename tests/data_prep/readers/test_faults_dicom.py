"""FAULTS.md items 1 to 45, as far as they are the reader's: each on a small file of its own.

Every case lies in a folder with a good series, a good NIfTI and a good PNG, which must be read
whatever happens to the bad one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch import read_batch
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from scan_files import (
    ct_dataset,
    save,
    set_pixels,
    slice_pixels,
    uid,
    write_ct,
    write_series,
)

from data_prep.readers import dicom_file, discover

Case = Callable[[Path], object]


def one(change: Callable[[Dataset], None]) -> Case:
    """A single CT slice, changed."""
    return lambda folder: write_ct(folder / "x.dcm", change=change)


def series(change: Callable[[Dataset, int], None], count: int = 6) -> Case:
    """A CT series, each slice changed."""
    return lambda folder: write_series(folder, count, change)


def each(**values: Any) -> Callable[[Dataset], None]:
    """Set elements by keyword; None deletes."""

    def change(ds: Dataset) -> None:
        for name, value in values.items():
            if value is None:
                delattr(ds, name)
            else:
                setattr(ds, name, value)

    return change


def compressed(syntax: str, **options: Any) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.compress(syntax, **options)

    return change


def cut_stream(syntax: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        from pydicom.encaps import generate_frames

        ds.compress(syntax)
        stream = next(generate_frames(ds.PixelData, number_of_frames=1))
        ds.PixelData = encapsulate([stream[: len(stream) * 2 // 3]])

    return change


def other_size(syntax: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.compress(syntax)
        ds.Columns += 4

    return change


def truncated(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def cut_file(folder: Path) -> None:
    truncated(write_ct(folder / "x.dcm", pixels=np.zeros((64, 64), np.uint16)), 0.8)


def cut_fragments(folder: Path) -> None:
    ds = ct_dataset(pixels=np.random.default_rng(0).integers(0, 999, (64, 64)).astype(np.uint16))
    ds.compress(RLELossless)
    truncated(save(ds, folder / "x.dcm"), 0.8)


def no_transfer_syntax(folder: Path) -> None:
    ds = ct_dataset()
    del ds.file_meta.TransferSyntaxUID
    ds.save_as(folder / "x.dcm", implicit_vr=False, little_endian=True)


def with_excess(count: int) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.PixelData += b"\1" * count

    return change


def nested(folder: Path) -> None:
    """Sequences of undefined length, thousands deep (27)."""
    path = write_ct(folder / "x.dcm")
    data = path.read_bytes()
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    path.write_bytes(data[: data.index(b"\x08\x00\x18\x00UI")] + (sequence + item) * 20000)


def long_value(folder: Path) -> None:
    """An element that claims four gigabytes (27)."""
    path = write_ct(folder / "x.dcm")
    data = path.read_bytes()
    head = data[: data.index(b"\x10\x00\x20\x00LO")]
    path.write_bytes(head + struct.pack("<HH2sHI", 0x0010, 0x0020, b"UT", 0, 0xFFFFFFF0) + b"abc")


def many_elements(folder: Path) -> None:
    """Any number of empty elements (27)."""
    path = write_ct(folder / "x.dcm")
    data = path.read_bytes()
    at = data.index(b"\x08\x00\x60\x00CS")
    path.write_bytes(data[:at] + struct.pack("<HH2sH", 0x0008, 0x0050, b"SH", 0) * 30_000)


def deflate_bomb(folder: Path) -> None:
    path = write_ct(
        folder / "x.dcm",
        change=lambda ds: setattr(
            ds.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian
        ),
    )
    data = path.read_bytes()
    start = data.index(b"\x02\x00\x10\x00UI")
    start += 8 + struct.unpack_from("<H", data, start + 6)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(20)) + packer.flush()
    path.write_bytes(data[:start] + bomb)


def bare(folder: Path) -> None:
    """Not DICOM at all, but called so (4)."""
    (folder / "x.dcm").write_bytes(b"hello, this is text " * 30)


def group_0008_only(folder: Path) -> None:
    """A data set without preamble and file meta information (4, 5)."""
    path = write_ct(folder / "x.dcm")
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\x08\x00\x16\x00UI") :])


def rle_header(folder: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.compress(RLELossless)
        ds.Rows = ds.Columns = 60000

    write_ct(folder / "x.dcm", change=change)


def bad_palette(ds: Dataset) -> None:
    set_pixels(ds, slice_pixels().astype(np.uint8))
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", b"\0\0\0\0\0\0")


def ybr_partial(ds: Dataset) -> None:
    set_pixels(ds, np.zeros((4, 4, 3), np.uint8))
    ds.PhotometricInterpretation = "YBR_PARTIAL_420"


def not_finite_pixels(ds: Dataset) -> None:
    set_pixels(ds, slice_pixels())
    values = slice_pixels().astype("<f4")
    values[0, 0] = np.nan
    del ds.PixelData
    ds.BitsAllocated = 32
    ds.FloatPixelData = values.tobytes()


def not_a_number(folder: Path, value: bytes = b"nan ") -> None:
    """A Rescale Slope that only some libraries take for a number."""
    path = write_ct(folder / "x.dcm", change=each(RescaleSlope="1.25"))
    path.write_bytes(path.read_bytes().replace(b"1.25", value))


def damaged_lut(ds: Dataset) -> None:
    item = Dataset()
    item.LUTDescriptor = [256, 0, 16]
    item.LUTData = b"\0\1\2\3"
    item["LUTData"].VR = "OW"
    ds.ModalityLUTSequence = DicomSequence([item])


def damaged(tag: bytes, folder: Path) -> None:
    """An element whose value representation no standard knows."""
    path = write_ct(folder / "x.dcm")
    data = path.read_bytes()
    at = data.index(tag)
    path.write_bytes(data[: at + 4] + b"QQ" + data[at + 6 :])


def no_stream(ds: Dataset) -> None:
    ds.compress(JPEGLSLossless)
    ds.PixelData = encapsulate([b"no JPEG-LS stream at all"])


def no_fragments(ds: Dataset) -> None:
    ds.compress(JPEGLSLossless)
    ds.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"  # an offset table, and nothing else


def broken_entropy(ds: Dataset) -> None:
    """Headers and end marker as they should be, and nothing between them."""
    from pydicom.encaps import generate_frames

    ds.compress(JPEG2000Lossless)
    stream = next(generate_frames(ds.PixelData, number_of_frames=1))
    start = stream.index(b"\xff\x52")  # COD: how the stream is coded
    ds.PixelData = encapsulate([stream[:start] + b"\xff\xd9"])


def colour_12_bit(ds: Dataset) -> None:
    set_pixels(ds, np.zeros((16, 12, 3), np.uint16))
    ds.BitsStored, ds.HighBit = 12, 11
    body = b"\xff\xd8\xff\xc1\x00\x11\x0c\x00\x10\x00\x0c\x03" + b"\1\x11\0\2\x11\0\3\x11\0"
    ds.PixelData = encapsulate([body + b"\xff\xd9"])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.51"


def cut_deflate(folder: Path) -> None:
    deflate_bomb(folder)
    truncated(folder / "x.dcm", 0.5)


QUARANTINED: list[tuple[str, Case, str]] = [
    ("1 no pixel data", one(each(PixelData=None)), "dicom.no_pixel_data"),
    ("2 truncated native", cut_file, "dicom.pixel_data_length"),
    ("3 cut JPEG-LS", one(cut_stream(JPEGLSLossless)), "dicom.decode_failed"),
    ("3 cut JPEG 2000", one(cut_stream(JPEG2000Lossless)), "dicom.decode_failed"),
    ("3 cut RLE", one(cut_stream(RLELossless)), "dicom.decode_failed"),
    ("3 cut fragments", cut_fragments, "dicom.no_pixel_data"),
    ("3 no codestream", one(no_stream), "dicom.decode_failed"),
    ("3 no fragments", one(no_fragments), "dicom.decode_failed"),
    ("3 no coding parameters", one(broken_entropy), "dicom.decode_failed"),
    ("3 12-bit colour", one(colour_12_bit), "dicom.decode_failed"),
    ("26 cut deflate", cut_deflate, "dicom.malformed"),
    ("28 damaged rows", lambda f: damaged(b"\x28\0\x10\0US", f), "dicom.malformed"),
    ("28 damaged slope", lambda f: damaged(b"\x28\0\x53\x10DS", f), "dicom.malformed"),
    ("11 rows not stated", one(each(Rows=None)), "dicom.malformed"),
    ("4 text named .dcm", bare, "file.unknown_format"),
    ("4 no preamble, no meta", group_0008_only, "dicom.no_transfer_syntax"),
    ("5 no transfer syntax", no_transfer_syntax, "dicom.no_transfer_syntax"),
    (
        "7 no decoder",
        one(
            lambda ds: (
                ds.compress(JPEGLSLossless),
                setattr(ds.file_meta, "TransferSyntaxUID", MPEG2MPML),
            )
        ),
        "dicom.unsupported_transfer_syntax",
    ),
    ("9 header is not codestream", one(other_size(JPEGLSLossless)), "dicom.header_mismatch"),
    ("9 header is not J2K", one(other_size(JPEG2000Lossless)), "dicom.header_mismatch"),
    ("9 header is not RLE", one(other_size(RLELossless)), "dicom.decode_failed"),
    ("10 excess pixels", one(with_excess(4)), "dicom.pixel_data_length"),
    ("11 no rows", one(each(Rows=0)), "volume.bad_shape"),
    ("11 absurd rows", one(each(Rows=65535, Columns=65535)), "file.too_large"),
    ("11 absurd frames", one(each(NumberOfFrames=2**31 - 1)), "dicom.multi_frame"),
    ("11 absurd RLE", rle_header, "file.too_large"),
    ("15 slope 0", one(each(RescaleSlope=0)), "dicom.bad_rescale"),
    ("15 slope NaN", not_a_number, "dicom.bad_rescale"),
    ("15 slope infinite", lambda f: not_a_number(f, b"inf "), "dicom.bad_rescale"),
    ("16 damaged LUT", one(damaged_lut), "dicom.bad_rescale"),
    ("20 cine", one(each(NumberOfFrames=3)), "dicom.multi_frame"),
    ("22 unsupported colour", one(ybr_partial), "dicom.unsupported_pixels"),
    ("23 bad palette", one(bad_palette), "dicom.bad_palette"),
    ("24 NaN float pixels", one(not_finite_pixels), "volume.not_finite"),
    ("24 odd bits", one(each(BitsAllocated=12)), "dicom.unsupported_pixels"),
    ("24 too many bits stored", one(each(BitsStored=17)), "dicom.unsupported_pixels"),
    ("24 four samples", one(each(SamplesPerPixel=4)), "dicom.unsupported_pixels"),
    ("27 nesting bomb", nested, "dicom.malformed"),
    ("27 length bomb", long_value, "dicom.no_pixel_data"),
]


@pytest.mark.parametrize(
    ("case", "code"), [pytest.param(c, code, id=name) for name, c, code in QUARANTINED]
)
def test_a_bad_file_is_quarantined_and_the_rest_is_read(
    tmp_path: Path, case: Case, code: str
) -> None:
    outcome = read_batch(tmp_path, case)
    assert outcome.codes == [code]
    assert outcome.good_ones_read


@pytest.mark.fault(26)
def test_a_deflate_bomb_is_refused_before_it_is_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_file, "MAX_INFLATED_BYTES", 1 << 23)
    outcome = read_batch(tmp_path, deflate_bomb)  # item 26
    assert outcome.codes == ["file.too_large"]
    assert outcome.good_ones_read


def test_a_header_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_file, "MAX_READS", 10_000)
    outcome = read_batch(tmp_path, many_elements)  # item 27
    assert outcome.codes == ["dicom.malformed"]
    assert outcome.good_ones_read


def slices_where(wanted: Callable[[int], bool]) -> Case:
    """A series of 8 slices of which only some are there."""

    def case(folder: Path) -> None:
        for number in filter(wanted, range(8)):
            write_ct(folder / f"{number}.dcm", number)

    return case


def moved(number: int, by: float, axis: int = 2) -> Case:
    def change(ds: Dataset, n: int) -> None:
        if n == number:
            position = list(ds.ImagePositionPatient)
            position[axis] += by
            ds.ImagePositionPatient = position

    return series(change)


def duplicate(change: Callable[[Dataset], None]) -> Case:
    """A series, and one of its slices again, changed."""

    def case(folder: Path) -> None:
        write_series(folder, 5)
        write_ct(folder / "again.dcm", 2, change)

    return case


def on_slice(number: int, **values: Any) -> Callable[[Dataset, int], None]:
    def change(ds: Dataset, n: int) -> None:
        if n == number:
            each(**values)(ds)

    return change


SERIES_QUARANTINED: list[tuple[str, Case, str]] = [
    ("34 one slice missing", slices_where(lambda n: n != 3), "dicom.missing_slices"),
    ("34 two in a row missing", slices_where(lambda n: n not in (3, 4)), "dicom.missing_slices"),
    ("34 two apart missing", slices_where(lambda n: n not in (2, 5)), "dicom.missing_slices"),
    ("34 one far slice", moved(5, 100.0), "dicom.missing_slices"),
    (
        "35 different images at one place",
        duplicate(lambda ds: (set_pixels(ds, slice_pixels(7)), each(SOPInstanceUID=uid("x"))(ds))),
        "dicom.duplicate_slices",
    ),
    (
        "38 one slice turned",
        series(on_slice(2, ImageOrientationPatient=[1, 0, 0, 0, 0.996, 0.0872])),
        "dicom.mixed_orientation",
    ),
    (
        "38 two slices turned",
        series(lambda ds, n: n < 2 or each(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])(ds), 4),
        "dicom.mixed_orientation",
    ),
    (
        "41 matrix changed half way",
        series(lambda ds, n: set_pixels(ds, slice_pixels(n, columns=40 if n < 4 else 44)), 8),
        "dicom.mixed_matrix",
    ),
    ("40 one slice off", moved(2, 0.6), "dicom.uneven_spacing"),
    ("39 one slice aside", moved(2, 3.0, axis=0), "dicom.uneven_spacing"),
    (
        "41 differing matrix",
        series(lambda ds, n: set_pixels(ds, slice_pixels(n, columns=40 if n else 44))),
        "dicom.mixed_matrix",
    ),
    ("41 differing spacing", series(on_slice(3, PixelSpacing=[0.6, 0.75])), "dicom.mixed_matrix"),
    (
        "42 no position at all",
        series(lambda ds, n: each(ImagePositionPatient=None)(ds)),
        "dicom.no_geometry",
    ),
    ("42 no position once", series(on_slice(1, ImagePositionPatient=None)), "dicom.no_geometry"),
    (
        "42 bad orientation",
        series(lambda ds, n: each(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])(ds)),
        "dicom.no_geometry",
    ),
    (
        "44 other bytes under one UID",
        duplicate(lambda ds: set_pixels(ds, slice_pixels(7))),
        "dicom.duplicate_instance",
    ),
    ("15 slope 0 in one slice", series(on_slice(2, RescaleSlope=0)), "dicom.bad_rescale"),
    ("1 no pixels in one slice", series(on_slice(2, PixelData=None)), "dicom.no_pixel_data"),
]


@pytest.mark.parametrize(
    ("case", "code"), [pytest.param(c, code, id=name) for name, c, code in SERIES_QUARANTINED]
)
def test_a_bad_series_is_quarantined_and_the_rest_is_read(
    tmp_path: Path, case: Case, code: str
) -> None:
    outcome = read_batch(tmp_path, case)
    assert outcome.codes == [code]
    assert not outcome.volumes
    assert outcome.good_ones_read


@pytest.mark.parametrize(
    ("cut", "code"), [(True, "dicom.malformed"), (False, "dicom.no_geometry")], ids=str
)
def test_the_image_that_spoils_its_series_is_named(tmp_path: Path, cut: bool, code: str) -> None:
    """Cut off before its place (1), or without one (42)."""
    lost = {} if cut else {"ImagePositionPatient": None}
    paths = write_series(tmp_path, 12, on_slice(5, **lost))
    if cut:
        data = paths[5].read_bytes()
        paths[5].write_bytes(data[: data.index(b"\x20\x00\x32\x00DS")])
    (rejected,) = discover(tmp_path).rejected
    assert (rejected.code, len(rejected.paths)) == (code, 12)
    assert rejected.reason.startswith("a-005.dcm: ")
    assert "in 1 of the 12 images of the series" in rejected.reason
