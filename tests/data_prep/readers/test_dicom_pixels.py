"""DICOM pixels: every transfer syntax and every way to store a number gives the same numbers."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_streams import HTJ2K_STREAM, JPEG_12_BIT_STREAM, encapsulated, lossless_jpeg
from PIL import Image
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.pixels.processing import convert_color_space
from pydicom.sequence import Sequence as DicomSequence
from scan_files import ct_dataset, save, set_pixels, slice_pixels, write_ct

from data_prep.errors import ScanError
from data_prep.readers import ReadPolicy, discover, read_scan
from data_prep.readers.source import SCAN_FLAGS
from data_prep.volume import Volume


def read(folder: Path, ds: Dataset, policy: ReadPolicy | None = None) -> Volume:
    """Write one data set and read it back."""
    policy = policy or ReadPolicy()
    save(ds, folder / "scan.dcm")
    found = discover(folder, policy=policy)
    assert not found.rejected, found.rejected
    (source,) = found.sources
    volume = read_scan(folder, source, policy)
    assert set(volume.flags) <= set(SCAN_FLAGS)
    return volume


def hounsfield(pixels: np.ndarray) -> np.ndarray:
    """What the default rescale of ``ct_dataset`` makes of stored pixels."""
    return pixels.astype(np.int64)[np.newaxis] - 1024


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint8])
@pytest.mark.parametrize(
    "syntax",
    [
        uids.ExplicitVRLittleEndian,
        uids.ImplicitVRLittleEndian,
        uids.ExplicitVRBigEndian,
        uids.DeflatedExplicitVRLittleEndian,
        uids.RLELossless,
        uids.JPEGLSLossless,
        uids.JPEG2000Lossless,
        uids.JPEGLosslessSV1,
    ],
    ids=lambda syntax: uids.UID(syntax).name[:28],
)
def test_lossless_syntaxes_give_the_native_numbers(tmp_path: Path, syntax: str, dtype: Any) -> None:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(5)  # items 6, 13, 25, 26
    pixels = rng.integers(info.min, info.max, (32, 40), endpoint=True).astype(dtype)
    ds = ct_dataset(pixels=pixels)
    if syntax == uids.ExplicitVRBigEndian:
        swapped = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
        ds.PixelData = swapped
    if syntax == uids.JPEGLosslessSV1:
        ds = lossless_jpeg(tmp_path, ds)
    elif uids.UID(syntax).is_encapsulated:
        ds.compress(syntax)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
        ds._read_implicit = ds._read_little = None
    volume = read(tmp_path, ds)
    np.testing.assert_array_equal(volume.array, hounsfield(pixels))
    assert volume.array.dtype.kind == "i"
    assert "lossy" not in volume.flags


@pytest.mark.parametrize("syntax", [uids.HTJ2KLossless, uids.HTJ2K])
def test_high_throughput_jpeg_2000(tmp_path: Path, syntax: str) -> None:
    row, column = np.mgrid[:16, :12]
    pixels = ((row * 37 + column * 101) % 4096).astype(np.uint16)
    ds = ct_dataset(pixels=pixels)
    ds.BitsStored, ds.HighBit = 12, 11
    volume = read(tmp_path, encapsulated(ds, HTJ2K_STREAM, syntax))
    np.testing.assert_array_equal(volume.array, hounsfield(pixels))


def test_jpeg_extended_with_12_bits(tmp_path: Path) -> None:
    row, column = np.mgrid[:16, :12]
    pixels = (1000 + row * 60 + column * 40).astype(np.uint16)
    ds = ct_dataset(pixels=pixels)
    ds.BitsStored, ds.HighBit = 12, 11
    volume = read(tmp_path, encapsulated(ds, JPEG_12_BIT_STREAM, uids.JPEGExtended12Bit))
    assert np.abs(volume.array - hounsfield(pixels)).max() <= 1
    assert "lossy" in volume.flags


@pytest.mark.parametrize("syntax", [uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit])
def test_jpeg_with_8_bits_is_flagged_lossy(tmp_path: Path, syntax: str) -> None:
    pixels = slice_pixels().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=98)
    volume = read(tmp_path, encapsulated(ct_dataset(pixels=pixels), stream.getvalue(), syntax))
    assert np.abs(volume.array - hounsfield(pixels)).max() <= 3
    assert "lossy" in volume.flags


def test_near_lossless_jpeg_ls_keeps_its_promise(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.compress(uids.JPEGLSNearLossless, jls_error=2)
    volume = read(tmp_path, ds)
    assert 0 < np.abs(volume.array - hounsfield(slice_pixels())).max() <= 2
    assert "lossy" in volume.flags


def test_loss_before_this_file_was_written_is_flagged(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.LossyImageCompression = "01"
    assert "lossy" in read(tmp_path, ds).flags


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_monochrome1_is_mirrored_once_within_the_stored_range(tmp_path: Path, dtype: Any) -> None:
    pixels = slice_pixels().astype(dtype)
    ds = ct_dataset(pixels=pixels)
    ds.BitsStored, ds.HighBit = 12, 11
    ds.PhotometricInterpretation = "MONOCHROME1"
    volume = read(tmp_path, ds)  # item 12
    top = 4095 if dtype is np.uint16 else -1  # lowest and highest stored value change places
    np.testing.assert_array_equal(volume.array, hounsfield(top - pixels.astype(np.int64)))
    assert volume.flags == ("monochrome1_inverted",)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.RLELossless])
def test_overlay_bits_are_masked_and_signs_extended(
    tmp_path: Path, signed: bool, syntax: str
) -> None:
    rng = np.random.default_rng(1)  # item 14
    low, high = (-2048, 2047) if signed else (0, 4095)
    pixels = rng.integers(low, high, (32, 40), endpoint=True)
    overlay = rng.integers(0, 15, pixels.shape, endpoint=True) << 12
    ds = ct_dataset(pixels=((pixels & 0xFFF) | overlay).astype(np.uint16))
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, int(signed)
    if syntax == uids.RLELossless:
        ds.compress(syntax)
    np.testing.assert_array_equal(read(tmp_path, ds).array, hounsfield(pixels))


def test_bits_that_are_stored_high_are_moved_down(tmp_path: Path) -> None:
    pixels = slice_pixels() & 0xFFF
    ds = ct_dataset(pixels=(pixels << 4) | 5)
    ds.BitsStored, ds.HighBit = 12, 15
    np.testing.assert_array_equal(read(tmp_path, ds).array, hounsfield(pixels))


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, "int32"), (1, 0, "uint16"), (2, 5, "float32"), (0.1, 0.25, "float32")],
)
def test_rescale_is_exact_where_it_can_be(
    tmp_path: Path, slope: float, intercept: float, dtype: str
) -> None:
    ds = ct_dataset()
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    volume = read(tmp_path, ds)  # item 15
    assert volume.array.dtype == dtype
    expected = slice_pixels() * np.float64(slope) + intercept
    np.testing.assert_array_equal(volume.array[0], expected.astype(dtype))


def test_12_bit_ct_takes_two_bytes_a_voxel(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.BitsStored, ds.HighBit = 12, 11
    assert read(tmp_path, ds).array.dtype == np.int16


def test_ct_without_rescale_is_flagged(tmp_path: Path) -> None:
    ds = ct_dataset()
    del ds.RescaleSlope, ds.RescaleIntercept
    volume = read(tmp_path, ds)
    assert volume.flags == ("no_rescale",)
    np.testing.assert_array_equal(volume.array[0], slice_pixels())


@pytest.mark.parametrize("as_bytes", [True, False])
def test_modality_lut_is_looked_up_and_clipped_at_its_ends(tmp_path: Path, as_bytes: bool) -> None:
    table = (np.arange(100, dtype=np.uint16) ** 2) % 5000
    item = Dataset()  # item 16
    item.LUTDescriptor = [100, 50, 16]
    item.LUTData = table.astype("<u2").tobytes() if as_bytes else [int(v) for v in table]
    item["LUTData"].VR = "OW" if as_bytes else "US"
    ds = ct_dataset()
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.ModalityLUTSequence = DicomSequence([item])
    expected = table[np.clip(slice_pixels().astype(int) - 50, 0, 99)]
    np.testing.assert_array_equal(read(tmp_path, ds).array[0], expected)


def test_a_window_is_never_applied(tmp_path: Path) -> None:
    ds = ct_dataset()  # item 17
    ds.WindowCenter, ds.WindowWidth = 40, 80
    np.testing.assert_array_equal(read(tmp_path, ds).array, hounsfield(slice_pixels()))


@pytest.mark.parametrize(("padding", "limit"), [(63536, None), (-2000, None), (-2000, -1900)])
def test_padding_takes_the_smallest_value_of_the_rest(
    tmp_path: Path, padding: int, limit: int | None
) -> None:
    pixels = slice_pixels().astype(np.int16)
    pixels[:3] = -2000 if limit is None else -1950
    ds = ct_dataset(pixels=pixels)  # item 18
    ds.PixelPaddingValue = padding
    ds["PixelPaddingValue"].VR = "US" if padding > 0 else "SS"
    if limit is not None:
        ds.PixelPaddingRangeLimit = limit
        ds["PixelPaddingRangeLimit"].VR = "SS"
    volume = read(tmp_path, ds)
    np.testing.assert_array_equal(volume.array[0, 3:], hounsfield(pixels)[0, 3:])
    assert (volume.array[0, :3] == volume.array[0, 3:].min()).all()
    assert volume.flags == ("padding_filled",)


def test_an_image_of_padding_alone_is_left_alone(tmp_path: Path) -> None:
    ds = ct_dataset(pixels=np.zeros((4, 4), np.uint16))
    ds.PixelPaddingValue = 0
    assert (read(tmp_path, ds).array == -1024).all()


def test_padding_that_does_not_occur_is_not_flagged(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.PixelPaddingValue = 60000
    ds["PixelPaddingValue"].VR = "US"
    assert read(tmp_path, ds).flags == ()


def colour_pixels() -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.integers(0, 255, (32, 40, 3), endpoint=True).astype(np.uint8)


@pytest.mark.parametrize(("planar", "compress"), [(0, False), (1, False), (0, True)])
def test_planar_configuration(tmp_path: Path, planar: int, compress: bool) -> None:
    pixels = colour_pixels()  # item 21
    ds = ct_dataset(pixels=pixels)
    ds.PlanarConfiguration = planar
    if planar:
        ds.PixelData = pixels.transpose(2, 0, 1).tobytes()
    if compress:
        ds.compress(uids.RLELossless)
    np.testing.assert_array_equal(read(tmp_path, ds).array, pixels.transpose(2, 0, 1))


def test_ybr_full_becomes_rgb_once(tmp_path: Path) -> None:
    rgb = colour_pixels()  # item 22
    ds = ct_dataset(pixels=convert_color_space(rgb, "RGB", "YBR_FULL"))
    ds.PhotometricInterpretation = "YBR_FULL"
    found = read(tmp_path, ds).array.astype(int)
    assert np.abs(found - rgb.transpose(2, 0, 1)).max() <= 2  # rounding there and back


def test_ybr_jpeg_becomes_rgb_once(tmp_path: Path) -> None:
    row, column = np.mgrid[:32, :40]
    rgb = np.stack([4 * row, 3 * column, 200 - 2 * row], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=98, subsampling=0)
    ds = ct_dataset(pixels=rgb)
    ds.PhotometricInterpretation = "YBR_FULL"
    volume = read(tmp_path, encapsulated(ds, stream.getvalue(), uids.JPEGBaseline8Bit))
    assert np.abs(volume.array.astype(int) - rgb.transpose(2, 0, 1)).max() <= 6


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_becomes_rgb(tmp_path: Path, bits: int) -> None:
    table = np.random.default_rng(3).integers(0, 255, (3, 256), endpoint=True)
    pixels = slice_pixels().astype(np.uint8)  # item 23
    ds = ct_dataset(pixels=pixels)
    ds.PhotometricInterpretation = "PALETTE COLOR"
    del ds.RescaleSlope, ds.RescaleIntercept
    for colour, values in zip(("Red", "Green", "Blue"), table, strict=True):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        ds[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        data = values.astype("u1") if bits == 8 else (values << 8 | 77).astype("<u2")
        setattr(ds, f"{colour}PaletteColorLookupTableData", data.tobytes())
    found = read(tmp_path, ds).array
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, table[:, pixels])


def test_one_bit_pixels(tmp_path: Path) -> None:
    pixels = (slice_pixels() % 3 == 0).astype(np.uint8)
    ds = ct_dataset(pixels=pixels)  # item 24
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.Modality = "OT"
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    ds.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    np.testing.assert_array_equal(read(tmp_path, ds).array[0], pixels)


def float_dataset(values: np.ndarray) -> Dataset:
    ds = ct_dataset()
    del ds.PixelData, ds.RescaleSlope, ds.RescaleIntercept
    ds.Modality = "MR"
    ds.BitsAllocated = 8 * values.dtype.itemsize
    name = "FloatPixelData" if values.dtype.itemsize == 4 else "DoubleFloatPixelData"
    setattr(ds, name, values.tobytes())
    return ds


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_float_pixels(tmp_path: Path, dtype: str) -> None:
    values = (slice_pixels() / 7).astype(dtype)
    np.testing.assert_array_equal(read(tmp_path, float_dataset(values)).array[0], values)


def test_float_pixels_of_monochrome1_and_not_finite_ones(tmp_path: Path) -> None:
    values = (slice_pixels() / 8).astype("<f4")
    mirrored = float_dataset(values)
    mirrored.PhotometricInterpretation = "MONOCHROME1"
    expected = values.max() + values.min() - values
    np.testing.assert_array_equal(read(tmp_path, mirrored).array[0], expected)
    values[2, 2] = np.inf
    volume = read(tmp_path, float_dataset(values), ReadPolicy(not_finite="fill"))
    assert volume.array[0, 2, 2] == values.min()
    assert volume.flags == ("not_finite_filled",)


@pytest.mark.parametrize(("cine", "frame"), [("first", 0), ("middle", 2)])
@pytest.mark.parametrize("compress", [False, True])
def test_cine_by_policy(tmp_path: Path, cine: Any, frame: int, compress: bool) -> None:
    pixels = np.stack([slice_pixels(n) for n in range(4)])  # item 20
    ds = ct_dataset(pixels=pixels[0])
    ds.NumberOfFrames, ds.PixelData = 4, pixels.astype("<u2").tobytes()
    del ds.ImagePositionPatient
    if compress:
        ds.compress(uids.JPEGLSLossless)
    volume = read(tmp_path, ds, ReadPolicy(cine=cine))
    np.testing.assert_array_equal(volume.array, hounsfield(pixels[frame]))
    assert "cine_frame" in volume.flags


def test_a_frame_too_few_is_refused(tmp_path: Path) -> None:
    ds = ct_dataset()
    ds.compress(uids.JPEGLSLossless)
    ds.NumberOfFrames = 2
    save(ds, tmp_path / "scan.dcm")
    policy = ReadPolicy(cine="first")
    (source,) = discover(tmp_path, policy=policy).sources
    with pytest.raises(ScanError, match=r"dicom\.pixel_data_length"):
        read_scan(tmp_path, source, policy)


Spoil = Callable[[Dataset], None]


@pytest.mark.parametrize(
    ("spoil", "flags"),
    [
        pytest.param(lambda ds: ds.add_new(0x00091001, "LO", "private"), (), id="28 private tag"),
        pytest.param(
            lambda ds: (
                setattr(ds, "SpecificCharacterSet", "ISO_IR 999"),
                setattr(ds, "PatientName", "X"),
            ),
            ("bad_charset",),
            id="29 bad character set",
        ),
        pytest.param(
            lambda ds: setattr(ds, "SpecificCharacterSet", "ISO_IR 192"), (), id="29 UTF-8"
        ),
        pytest.param(
            lambda ds: setattr(ds, "preamble", b"MZ" + b"\0" * 126),
            ("executable_preamble",),
            id="30 Windows program",
        ),
        pytest.param(
            lambda ds: setattr(ds, "preamble", b"\x7fELF" + b"\0" * 124),
            ("executable_preamble",),
            id="30 Linux program",
        ),
        pytest.param(
            lambda ds: setattr(ds, "preamble", b"II*\0" + b"\0" * 124), (), id="30 TIFF is legal"
        ),
        pytest.param(
            lambda ds: setattr(ds, "BurnedInAnnotation", "YES"),
            ("burned_in_annotation",),
            id="31 burned-in text",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_oddities_that_leave_the_pixels_alone(
    tmp_path: Path, spoil: Spoil, flags: tuple[str, ...]
) -> None:
    ds = ct_dataset()
    spoil(ds)
    volume = read(tmp_path, ds)
    np.testing.assert_array_equal(volume.array, hounsfield(slice_pixels()))
    assert volume.flags == flags


def test_bad_value_representation(tmp_path: Path) -> None:
    path = write_ct(tmp_path / "scan.dcm")  # item 28
    path.write_bytes(path.read_bytes().replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00ZZ"))
    (source,) = discover(tmp_path).sources
    np.testing.assert_array_equal(read_scan(tmp_path, source).array, hounsfield(slice_pixels()))


def test_no_preamble_but_file_meta_information(tmp_path: Path) -> None:
    path = write_ct(tmp_path / "scan")  # item 4
    path.write_bytes(path.read_bytes()[132:])
    (source,) = discover(tmp_path).sources
    np.testing.assert_array_equal(read_scan(tmp_path, source).array, hounsfield(slice_pixels()))


def test_sixteen_bit_samples_in_colour(tmp_path: Path) -> None:
    pixels = colour_pixels().astype(np.uint16) * 257
    ds = ct_dataset()
    set_pixels(ds, pixels)
    np.testing.assert_array_equal(read(tmp_path, ds).array, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["PixelRepresentation", "BitsStored"])
def test_plain_pixels_whose_header_leaves_out_their_format_are_refused(
    tmp_path: Path, name: str
) -> None:
    ds = ct_dataset()
    del ds[name]
    with pytest.raises(ScanError) as error:
        read(tmp_path, ds)
    assert error.value.code == "dicom.decode_failed"
