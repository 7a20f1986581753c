"""FAULTS.md items 4 to 44 that must be read, flagged or skipped: each on small files of its own.

Every case lies in a folder with a good series, a good NIfTI and a good PNG, which must be read
whatever becomes of the odd one. What is asserted: the voxels, the flags, and what was skipped.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch import read_batch
from dicom_streams import HTJ2K_STREAM, JPEG_12_BIT_STREAM, encapsulated, lossless_jpeg
from PIL import Image
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.pixels.processing import convert_color_space
from pydicom.sequence import Sequence as DicomSequence
from scan_files import (
    ct_dataset,
    enhanced_dataset,
    save,
    set_pixels,
    slice_pixels,
    uid,
    write_ct,
    write_series,
)

from data_prep.readers import DEFAULT_POLICY, ReadPolicy

Case = Callable[[Path], object]


def hounsfield(pixels: np.ndarray) -> np.ndarray:
    """What the builder's rescale makes of stored pixels, (1, ...)."""
    return pixels.astype(np.int64)[np.newaxis] - 1024


def stack(count: int) -> np.ndarray:
    """The builder's series of so many slices, in Hounsfield units."""
    return hounsfield(np.stack([slice_pixels(n) for n in range(count)], axis=-1))


@dataclass(frozen=True)
class Read:
    """What must become of a case.

    Attributes:
        case: Writes the files.
        volumes: Voxels of each scan.
        flags: Flags of each scan.
        skipped: Reasons of the files that are passed over.
        policy: How it is read.
        tolerance: Largest difference of a voxel: 0 but for lossy codecs and colour conversion.
    """

    case: Case
    volumes: tuple[np.ndarray, ...]
    flags: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    policy: ReadPolicy = DEFAULT_POLICY
    tolerance: int = 0


def one(change: Callable[[Dataset], object] = lambda ds: None, **options: Any) -> Case:
    """A single CT slice, changed."""
    return lambda folder: write_ct(folder / "x.dcm", change=change, **options)


def compressed(syntax: str, **options: Any) -> Callable[[Dataset], None]:
    return lambda ds: ds.compress(syntax, **options)


def as_stream(stream: bytes, syntax: str, pixels: np.ndarray, **elements: Any) -> Case:
    """A slice whose pixel data is a codestream made elsewhere."""

    def case(folder: Path) -> None:
        ds = ct_dataset(pixels=pixels)
        for name, value in elements.items():
            setattr(ds, name, value)
        save(encapsulated(ds, stream, syntax), folder / "x.dcm")

    return case


def native(syntax: str) -> Case:
    def case(folder: Path) -> None:
        ds = ct_dataset()
        if syntax == uids.ExplicitVRBigEndian:
            ds.PixelData = slice_pixels().astype(">u2").tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
        ds._read_implicit = ds._read_little = None
        save(ds, folder / "x.dcm")

    return case


def jpeg_lossless(folder: Path) -> None:
    save(lossless_jpeg(folder, ct_dataset()), folder / "x.dcm")


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=98, **options)
    return stream.getvalue()


def without_preamble(folder: Path) -> None:
    path = write_ct(folder / "x")
    path.write_bytes(path.read_bytes()[132:])


def twelve_bits(ds: Dataset) -> None:
    ds.BitsStored, ds.HighBit = 12, 11


def other_sign(ds: Dataset) -> None:
    """The codestream says unsigned, the header two's complement."""
    ds.PixelRepresentation = 0
    ds.compress(uids.JPEG2000Lossless)
    ds.PixelRepresentation = 1


def with_overlay(ds: Dataset) -> None:
    set_pixels(ds, (slice_pixels() & 0xFFF) | 0x5000)
    twelve_bits(ds)


def without_rescale(ds: Dataset) -> None:
    del ds.RescaleSlope, ds.RescaleIntercept


def rescaled(slope: float, intercept: float) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept

    return change


def with_lut(ds: Dataset) -> None:
    without_rescale(ds)
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [100, 50, 16], LUT.astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    ds.ModalityLUTSequence = DicomSequence([item])


def windowed(ds: Dataset) -> None:
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 40, 80, "SIGMOID"


def padded(ds: Dataset) -> None:
    ds.PixelPaddingValue = 0
    ds["PixelPaddingValue"].VR = "US"
    set_pixels(ds, PADDED)


def enhanced(**elements: Any) -> Case:
    def case(folder: Path) -> None:
        ds = enhanced_dataset(FRAMES, [4.0, 0.0, 2.0])  # frames need not be in order
        for name, value in elements.items():
            setattr(ds, name, value)
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        save(ds, folder / "x.dcm")

    return case


def cine(ds: Dataset) -> None:
    ds.NumberOfFrames, ds.PixelData = 3, FRAMES.astype("<u2").tobytes()
    del ds.ImagePositionPatient


def planar(ds: Dataset) -> None:
    ds.PlanarConfiguration, ds.PixelData = 1, COLOUR.transpose(2, 0, 1).tobytes()


def ybr_full(ds: Dataset) -> None:
    set_pixels(ds, convert_color_space(COLOUR, "RGB", "YBR_FULL"))
    ds.PhotometricInterpretation = "YBR_FULL"


def ybr_422(ds: Dataset) -> None:
    """Two luminances share a pair of chrominances (PS3.3 C.7.6.3.1.2)."""
    ybr = convert_color_space(PAIRS, "RGB", "YBR_FULL")
    first, second = ybr[:, ::2], ybr[:, 1::2]
    four = np.stack([first[..., 0], second[..., 0], first[..., 1], first[..., 2]], axis=-1)
    ds.PhotometricInterpretation, ds.PixelData = "YBR_FULL_422", four.tobytes()


def ybr_rct(ds: Dataset) -> None:
    ds.PhotometricInterpretation = "YBR_RCT"
    ds.compress(uids.JPEG2000Lossless)


def palette(ds: Dataset) -> None:
    without_rescale(ds)
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for colour, values in zip(("Red", "Green", "Blue"), TABLE, strict=True):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        ds[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(ds, f"{colour}PaletteColorLookupTableData", values.tobytes())


def one_bit(ds: Dataset) -> None:
    without_rescale(ds)
    ds.Modality = "OT"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
    ds.PixelData = np.packbits(BITS.ravel(), bitorder="little").tobytes()


def float_pixels(ds: Dataset) -> None:
    without_rescale(ds)
    ds.Modality, ds.BitsAllocated, ds.FloatPixelData = "MR", 32, REALS.tobytes()
    del ds.PixelData


def bad_representation(folder: Path) -> None:
    path = write_ct(folder / "x.dcm")
    path.write_bytes(path.read_bytes().replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00ZZ"))


def private(ds: Dataset) -> None:
    ds.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "LO", "his own")
    ds.add_new(0x00091101, "UN", b"\0\1\2")


def named(character_set: str, name: bytes) -> Case:
    """A patient's name in a character set, written byte for byte."""

    def case(folder: Path) -> None:
        ds = ct_dataset()
        ds.SpecificCharacterSet, ds.PatientName = character_set, "X" * len(name)
        path = save(ds, folder / "x.dcm")
        path.write_bytes(path.read_bytes().replace(b"X" * len(name), name))

    return case


def capture(ds: Dataset) -> None:
    ds.SOPClassUID = uids.SecondaryCaptureImageStorage
    del ds.ImagePositionPatient


def of_class(sop_class: str) -> Case:
    return one(lambda ds: setattr(ds, "SOPClassUID", sop_class))


def with_again(change: Callable[[Dataset], object], name: str = "x.dcm", count: int = 5) -> Case:
    """A series, and beside it slice 2 once more, changed."""

    def case(folder: Path) -> None:
        write_series(folder, count)
        write_ct(folder / name, 2, change)

    return case


def scout(ds: Dataset) -> None:
    ds.SOPInstanceUID, ds.ImageType = uid("scout"), ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    set_pixels(ds, slice_pixels(9, 20, 20))


def two_series(folder: Path) -> None:
    write_series(folder, 3, series="a")
    write_series(folder, 4, series="b")


def two_planes(folder: Path) -> None:
    """Axial and coronal images under one UID."""
    write_series(folder, 4)
    for number in range(4):
        ds = ct_dataset(number)
        ds.SOPInstanceUID = uid(f"coronal/{number}")
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        ds.ImagePositionPatient = [0, 3.0 * number, 0]
        save(ds, folder / f"coronal-{number}.dcm")


def two_matrices(folder: Path) -> None:
    """The same length twice, once in fewer pixels."""
    write_series(folder, 4)
    for number in range(4):
        ds = ct_dataset(number, pixels=slice_pixels(number, 16, 20))
        ds.SOPInstanceUID, ds.PixelSpacing = uid(f"coarse/{number}"), [1.0, 1.5]
        save(ds, folder / f"coarse-{number}.dcm")


def misnumbered(ds: Dataset, number: int) -> None:
    ds.InstanceNumber = ["7", "", "-3", "7", "0"][number]


def tilted(ds: Dataset, number: int) -> None:
    """Each slice, 2.5 mm up, has moved by two of its 0.75 mm columns."""
    ds.ImagePositionPatient = [1.5 * number, 0, 2.5 * number]


def sheared_back() -> np.ndarray:
    found = np.full((1, 32, 40 + 4, 3), -1019)
    for number in range(3):
        found[..., 2 * number : 2 * number + 40, number] = hounsfield(slice_pixels(number))
    return found


def uneven(ds: Dataset, number: int) -> None:
    height = [0.0, 2.0, 5.0][number]
    ds.ImagePositionPatient = [0, 0, height]
    set_pixels(ds, np.full((4, 4), 100 * height, np.uint16))


def no_position(ds: Dataset) -> None:
    del ds.ImagePositionPatient


PIXELS = slice_pixels()
SMALL = PIXELS.astype(np.uint8)
SIGNED = PIXELS.astype(np.int16) - 300
TWELVE = (np.add.outer(np.arange(16) * 37, np.arange(12) * 101) % 4096).astype(np.uint16)
RAMP = (1000 + np.add.outer(np.arange(16) * 60, np.arange(12) * 40)).astype(np.uint16)
COLOUR = np.random.default_rng(2).integers(0, 255, (32, 40, 3), endpoint=True).astype(np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[60:124:2, 0:160:4], 90), axis=-1).astype(np.uint8)
PAIRS = np.repeat(SMOOTH[:, ::2], 2, axis=1)
BITS = (PIXELS % 3 == 0).astype(np.uint8)
REALS = (PIXELS / 7).astype("<f4")
FRAMES = np.stack([slice_pixels(n) for n in range(3)])
LUT = (np.arange(100, dtype=np.uint16) ** 2) % 5000
TABLE = np.random.default_rng(3).integers(0, 255, (3, 256), endpoint=True).astype(np.uint8)
PADDED = PIXELS.copy()
PADDED[:3] = 0
FILLED = hounsfield(np.where(PADDED == 0, PADDED[3:].min(), PADDED))
IN_ORDER = np.stack([2 * FRAMES[1], 3 * FRAMES[2], FRAMES[0]], axis=-1)[np.newaxis]
PLAIN = (hounsfield(PIXELS),)
RGB = (COLOUR.transpose(2, 0, 1),)
SMOOTH_RGB = (SMOOTH.transpose(2, 0, 1),)

CASES: dict[str, Read] = {
    "4 no preamble, but file meta information": Read(without_preamble, PLAIN),
    "6 implicit little endian": Read(native(uids.ImplicitVRLittleEndian), PLAIN),
    "6 RLE": Read(one(compressed(uids.RLELossless)), PLAIN),
    "6 JPEG lossless": Read(jpeg_lossless, PLAIN),
    "6 JPEG-LS": Read(one(compressed(uids.JPEGLSLossless)), PLAIN),
    "6 JPEG-LS, near lossless": Read(
        one(compressed(uids.JPEGLSNearLossless, jls_error=2)), PLAIN, ("lossy",), tolerance=2
    ),
    "6 JPEG 2000": Read(one(compressed(uids.JPEG2000Lossless)), PLAIN),
    "6 JPEG 2000, lossy": Read(
        one(compressed(uids.JPEG2000, j2k_psnr=[100])), PLAIN, ("lossy",), tolerance=8
    ),
    "6 HTJ2K": Read(
        as_stream(HTJ2K_STREAM, uids.HTJ2KLossless, TWELVE, BitsStored=12, HighBit=11),
        (hounsfield(TWELVE),),
    ),
    "6 JPEG, 8 bits": Read(
        as_stream(jpeg(SMALL), uids.JPEGBaseline8Bit, SMALL),
        (hounsfield(SMALL),),
        ("lossy",),
        tolerance=3,
    ),
    "6 JPEG, 12 bits": Read(
        as_stream(JPEG_12_BIT_STREAM, uids.JPEGExtended12Bit, RAMP, BitsStored=12, HighBit=11),
        (hounsfield(RAMP),),
        ("lossy",),
        tolerance=1,
    ),
    "6 lossy before": Read(
        one(lambda ds: setattr(ds, "LossyImageCompression", "01")), PLAIN, ("lossy",)
    ),
    "12 MONOCHROME1": Read(
        one(
            lambda ds: (
                twelve_bits(ds),
                setattr(ds, "PhotometricInterpretation", "MONOCHROME1"),
            )
        ),
        (hounsfield(4095 - PIXELS.astype(int)),),
        ("monochrome1_inverted",),
    ),
    "13 signed": Read(one(pixels=SIGNED), (hounsfield(SIGNED),)),
    "13 signed, JPEG 2000": Read(
        one(compressed(uids.JPEG2000Lossless), pixels=SIGNED), (hounsfield(SIGNED),)
    ),
    "13 signed, unsigned codestream": Read(one(other_sign, pixels=SIGNED), (hounsfield(SIGNED),)),
    "14 overlay in the upper bits": Read(one(with_overlay), (hounsfield(PIXELS & 0xFFF),)),
    "15 whole numbers": Read(one(rescaled(1, -7)), (PIXELS[np.newaxis].astype(int) - 7,)),
    "15 fractions": Read(one(rescaled(0.5, 0.25)), (PIXELS[np.newaxis] * 0.5 + 0.25,)),
    "15 absent on CT": Read(one(without_rescale), (PIXELS[np.newaxis],), ("no_rescale",)),
    "16 modality LUT": Read(
        one(with_lut), (LUT[np.clip(PIXELS.astype(int) - 50, 0, 99)][np.newaxis],)
    ),
    "17 a window is not applied": Read(one(windowed), PLAIN),
    "18 padding": Read(one(padded), (FILLED,), ("padding_filled",)),
    "19 enhanced MR": Read(enhanced(), (IN_ORDER,)),
    "19 enhanced CT": Read(
        enhanced(SOPClassUID=uids.EnhancedCTImageStorage, Modality="CT"), (IN_ORDER,)
    ),
    "20 cine, first frame": Read(
        one(cine), (hounsfield(FRAMES[0]),), ("cine_frame",), policy=ReadPolicy(cine="first")
    ),
    "20 cine, middle frame": Read(
        one(cine), (hounsfield(FRAMES[1]),), ("cine_frame",), policy=ReadPolicy(cine="middle")
    ),
    "21 colour by pixel": Read(one(pixels=COLOUR), RGB),
    "21 colour by plane": Read(one(planar, pixels=COLOUR), RGB),
    "21 colour, RLE": Read(one(compressed(uids.RLELossless), pixels=COLOUR), RGB),
    "22 YBR_FULL": Read(one(ybr_full, pixels=COLOUR), RGB, tolerance=2),
    "22 YBR_FULL_422": Read(one(ybr_422, pixels=PAIRS), (PAIRS.transpose(2, 0, 1),), tolerance=2),
    "22 YBR_RCT": Read(one(ybr_rct, pixels=COLOUR), RGB),
    "22 YBR_FULL_422, JPEG": Read(
        as_stream(
            jpeg(SMOOTH, subsampling=1),
            uids.JPEGBaseline8Bit,
            SMOOTH,
            PhotometricInterpretation="YBR_FULL_422",
        ),
        SMOOTH_RGB,
        ("lossy",),
        tolerance=6,
    ),
    "23 palette": Read(one(palette, pixels=SMALL), (TABLE[:, SMALL],)),
    "24 one bit": Read(one(one_bit), (BITS[np.newaxis],)),
    "24 float": Read(one(float_pixels), (REALS[np.newaxis],)),
    "25 big endian": Read(native(uids.ExplicitVRBigEndian), PLAIN),
    "26 deflated": Read(native(uids.DeflatedExplicitVRLittleEndian), PLAIN),
    "28 unknown value representation": Read(bad_representation, PLAIN),
    "28 private elements": Read(one(private), PLAIN),
    "29 UTF-8 name": Read(named("ISO_IR 192", "Müller^Jürgen".encode()), PLAIN),
    "29 name that is not of its character set": Read(named("ISO_IR 192", b"M\xfcller^\xff"), PLAIN),
    "29 Japanese name": Read(
        named("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"), PLAIN
    ),
    "29 unknown character set": Read(named("ISO_IR 999", b"X"), PLAIN, ("bad_charset",)),
    "30 a program in the preamble": Read(
        one(lambda ds: setattr(ds, "preamble", b"MZ".ljust(128, b"\0"))),
        PLAIN,
        ("executable_preamble",),
    ),
    "31 secondary capture": Read(one(capture), PLAIN, ("secondary_capture",)),
    "31 burned-in text": Read(
        one(lambda ds: setattr(ds, "BurnedInAnnotation", "YES")), PLAIN, ("burned_in_annotation",)
    ),
    **{
        f"32 {uids.UID(name).name}": Read(
            of_class(name), (), skipped=(f"DICOM without an image: {uids.UID(name).name}",)
        )
        for name in (
            uids.EnhancedSRStorage,
            uids.RTStructureSetStorage,
            uids.GrayscaleSoftcopyPresentationStateStorage,
            uids.KeyObjectSelectionDocumentStorage,
            uids.EncapsulatedPDFStorage,
        )
    },
    "33 DICOMDIR": Read(
        lambda folder: write_ct(folder / "DICOMDIR"),
        (),
        skipped=("DICOMDIR: an index, never followed",),
    ),
    "35 the same slice twice": Read(
        with_again(lambda ds: setattr(ds, "SOPInstanceUID", uid("again"))),
        (stack(5),),
        ("duplicate_dropped",),
        skipped=("the same slice as case/a-002.dcm",),
    ),
    "36 two series in one folder": Read(two_series, (stack(3), stack(4))),
    "38 two whole stacks of other planes": Read(
        two_planes, (stack(4), stack(4)), ("split_by_geometry",)
    ),
    "41 two whole stacks of other matrices": Read(
        two_matrices,
        (stack(4), hounsfield(np.stack([slice_pixels(n, 16, 20) for n in range(4)], axis=-1))),
        ("split_by_geometry",),
    ),
    "37 localizer": Read(
        with_again(scout),
        (stack(5),),
        ("localizer_removed",),
        skipped=("a localizer within another series",),
    ),
    "39 gantry tilt": Read(
        lambda folder: write_series(folder, 3, tilted), (sheared_back(),), ("tilt_corrected",)
    ),
    "40 uneven, resampled on request": Read(
        lambda folder: write_series(folder, 3, uneven),
        (np.tile([-1024, -774, -524], (1, 4, 4, 1)),),
        ("uneven_resampled",),
        policy=ReadPolicy(uneven_spacing="resample"),
    ),
    "42 one image without position": Read(one(no_position), PLAIN),
    "43 instance numbers": Read(lambda folder: write_series(folder, 5, misnumbered), (stack(5),)),
    "44 the same file twice": Read(
        with_again(lambda ds: None),
        (stack(5),),
        skipped=("an identical copy of case/a-002.dcm",),
    ),
}


@pytest.mark.parametrize("title", CASES)
@pytest.mark.filterwarnings("ignore:(Unknown encoding|The value length|Failed to decode)")
def test_it_is_read_and_so_is_the_rest(tmp_path: Path, title: str) -> None:
    wanted = CASES[title]
    outcome = read_batch(tmp_path, wanted.case, wanted.policy)
    assert outcome.codes == []
    assert [volume.flags for volume in outcome.volumes] == [wanted.flags] * len(wanted.volumes)
    for volume, expected in zip(outcome.volumes, wanted.volumes, strict=True):
        assert volume.array.shape == expected.shape
        difference = np.abs(volume.array.astype(np.float64) - expected)
        assert difference.max() <= wanted.tolerance
    assert outcome.skipped == list(wanted.skipped)
    assert outcome.good_ones_read
