"""DICOM pixels -> numbers: decoding, colour, modality values. One convention comes out.

Out comes (C, rows, columns) per frame, C = 1 for grey and 3 for RGB, in modality values (Hounsfield
units for CT), bright where the tissue is shown bright. A window (VOI LUT) is never applied: it
is a matter of display.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import UID, AllTransferSyntaxes

from data_prep.errors import ScanError
from data_prep.readers.dicom_file import quiet_pydicom
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.scaling import rescale
from data_prep.volume import Array

_GREY: Final = ("MONOCHROME1", "MONOCHROME2")
_COLOUR: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PIXEL_NAMES: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True)
class PixelFormat:
    """The Image Pixel module of one object (PS3.3 C.7.6.3).

    Attributes:
        limits: Least and largest stored value that the header allows.
        padding: Range of stored values that mean "no pixel", or None.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    limits: tuple[int, int]
    padding: tuple[int, int] | None


def pixel_format(dataset: Dataset, path: str, policy: ReadPolicy) -> PixelFormat:
    """Read and check what the header says about the pixels, before any memory is taken.

    Raises:
        ScanError: ``dicom.no_pixel_data``, ``dicom.unsupported_pixels``, ``file.too_large`` or
            ``volume.bad_shape``.
    """
    name = next((name for name in _PIXEL_NAMES if name in dataset), "")
    if not name:
        raise ScanError("dicom.no_pixel_data", f"{path}: no Pixel Data element")
    rows, columns = _integer(dataset, "Rows", path), _integer(dataset, "Columns", path)
    frames = _integer(dataset, "NumberOfFrames", path, 1) or 1
    samples = _integer(dataset, "SamplesPerPixel", path, 1)
    allocated = _integer(dataset, "BitsAllocated", path)
    stored = _integer(dataset, "BitsStored", path, allocated)
    signed = bool(_integer(dataset, "PixelRepresentation", path, 0))
    photometric = str(dataset.get("PhotometricInterpretation", "") or "").strip()
    if name != "PixelData":
        signed, stored = True, allocated
    if min(rows, columns, frames) < 1:
        raise ScanError(
            "volume.bad_shape", f"{path}: the header declares {frames} x {rows} x {columns} pixels"
        )
    if samples not in (1, 3) or allocated not in (1, 8, 16, 32, 64):
        raise ScanError(
            "dicom.unsupported_pixels",
            f"{path}: {samples} samples a pixel of {allocated} bits; allowed: 1 or 3 samples of "
            "1, 8, 16, 32 or 64 bits",
        )
    if not 1 <= stored <= allocated:
        raise ScanError(
            "dicom.unsupported_pixels", f"{path}: {stored} bits stored of {allocated} allocated"
        )
    grey = photometric in _GREY or photometric == "PALETTE COLOR"
    if not (grey and samples == 1) and not (photometric in _COLOUR and samples == 3):
        raise ScanError(
            "dicom.unsupported_pixels",
            f"{path}: photometric interpretation '{photometric}' with {samples} samples a pixel",
        )
    size = rows * columns * frames * samples * max(1, allocated // 8)
    if size > policy.max_volume_bytes:
        raise ScanError(
            "file.too_large",
            f"{path}: the header declares {frames} x {rows} x {columns} x {samples} samples, "
            f"{size} bytes; at most {policy.max_volume_bytes}",
        )
    limits = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if signed else (0, (1 << stored) - 1)
    return PixelFormat(
        rows,
        columns,
        frames,
        samples,
        allocated,
        stored,
        signed,
        photometric,
        limits,
        _padding(dataset, path),
    )


def stored_frame(dataset: Dataset, form: PixelFormat, frame: int, path: str) -> Array:
    """Decode one frame to stored values, (rows, columns) or (rows, columns, 3) RGB.

    Raises:
        ScanError: ``dicom.unsupported_transfer_syntax``, ``dicom.pixel_data_length``,
            ``dicom.decode_failed`` or ``dicom.header_mismatch``.
    """
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        name = syntax.name if syntax in AllTransferSyntaxes else "private or unknown"
        raise ScanError(
            "dicom.unsupported_transfer_syntax",
            f"{path}: transfer syntax {syntax} ({name}) cannot be decoded",
            fix="export the series uncompressed or as lossless JPEG",
        ) from None
    if not syntax.is_encapsulated:
        _check_native_length(dataset, form, path)
    try:
        with quiet_pydicom():
            array, _ = decoder.as_array(dataset, index=frame)
    except Exception as error:
        # the plugins raise anything; what they raise can quote pixel bytes, so only the type goes
        raise ScanError(
            "dicom.decode_failed",
            f"{path}: frame {frame} cannot be decoded as {syntax.name} ({type(error).__name__})",
        ) from error
    expected = (form.rows, form.columns) + ((form.samples,) if form.samples > 1 else ())
    if array.shape != expected:
        raise ScanError(
            "dicom.header_mismatch",
            f"{path}: the codestream holds {array.shape}, the header states {expected}",
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def modality_values(
    stored: Array, dataset: Dataset, form: PixelFormat, path: str, groups: Sequence[Dataset] = ()
) -> tuple[Array, tuple[str, ...]]:
    """Stored values of one frame -> (C, rows, columns) modality values, and flags.

    Args:
        stored: As ``stored_frame`` returns it.
        dataset: The object's data set.
        form: Its pixel format.
        path: For messages.
        groups: Functional groups of the frame, searched before ``dataset``.

    Raises:
        ScanError: ``dicom.bad_rescale``, ``dicom.bad_palette`` or ``dicom.unsupported_pixels``.
    """
    if form.photometric == "PALETTE COLOR":
        return _palette_to_rgb(stored, dataset, path).transpose(2, 0, 1), ()
    if form.samples == 3:
        return stored.transpose(2, 0, 1), ()
    flags: tuple[str, ...] = ()
    limits = form.limits
    if form.photometric == "MONOCHROME1":
        # PS3.3 C.7.6.3.1.2: the smallest value is shown white; mirrored within the stored range
        stored = _mirror(stored, limits)
        flags = ("monochrome1_inverted",)
    slope, intercept = _rescale_of(dataset, groups, path)
    if slope is None or intercept is None:
        if str(dataset.get("Modality", "")) == "CT":
            flags = (*flags, "no_rescale")
        return stored[np.newaxis], flags
    if stored.dtype.kind == "f":
        limits = None  # type: ignore[assignment]
    return rescale(stored, slope, intercept, limits)[np.newaxis], flags


def _mirror(stored: Array, limits: tuple[int, int]) -> Array:
    if stored.dtype.kind == "f":
        mirrored: Array = stored.max() + stored.min() - stored
        return mirrored
    total = limits[0] + limits[1]
    return (total - stored.astype(np.int64)).astype(stored.dtype)


def _integer(dataset: Dataset, name: str, path: str, default: int | None = None) -> int:
    try:
        value = dataset.get(name)
        if value is None or value == "":
            if default is not None:
                return default
            raise ScanError("dicom.malformed", f"{path}: {name} is not stated")
        return int(value)
    except ScanError:
        raise
    except Exception:
        raise ScanError("dicom.malformed", f"{path}: {name} is not a number") from None


def _padding(dataset: Dataset, path: str) -> tuple[int, int] | None:
    """Pixel Padding Value, with its Range Limit (PS3.3 C.7.5.1.1.2)."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    other = last if isinstance(last, int) else first
    return (min(first, other), max(first, other))


def _rescale_of(
    dataset: Dataset, groups: Sequence[Dataset], path: str
) -> tuple[float | None, float | None]:
    """Rescale Slope and Intercept of a frame (PS3.3 C.11.1.1.2), or None twice."""
    for place in (*groups, dataset):
        slope, intercept = place.get("RescaleSlope"), place.get("RescaleIntercept")
        if slope is None and intercept is None:
            continue
        try:
            values = (
                1.0 if slope is None else float(slope),
                0.0 if intercept is None else float(intercept),
            )
        except (TypeError, ValueError):
            values = (math.nan, math.nan)
        if not all(map(math.isfinite, values)) or values[0] == 0:
            raise ScanError(
                "dicom.bad_rescale",
                f"{path}: Rescale Slope is {slope!s:.20}, Rescale Intercept {intercept!s:.20}",
            )
        return values
    return None, None


def _palette_to_rgb(stored: Array, dataset: Dataset, path: str) -> Array:
    try:
        with quiet_pydicom():
            rgb: Array = apply_color_lut(stored, dataset)
    except Exception as error:
        raise ScanError(
            "dicom.bad_palette", f"{path}: the palette is damaged ({type(error).__name__})"
        ) from error
    return rgb


def _check_native_length(dataset: Dataset, form: PixelFormat, path: str) -> None:
    """Native pixels must have the stated length, padded to an even one (PS3.5 8.1.1)."""
    name = next(name for name in _PIXEL_NAMES if name in dataset)
    found = len(dataset[name].value or b"")
    bits = form.rows * form.columns * form.samples * form.frames * form.bits_allocated
    if form.photometric == "YBR_FULL_422":
        bits = bits // 3 * 2  # PS3.3 C.7.6.3.1.2: two chrominance samples for two pixels
    expected = math.ceil(bits / 8)
    if found not in (expected, expected + expected % 2):
        raise ScanError(
            "dicom.pixel_data_length",
            f"{path}: {found} bytes of pixels; the header demands {expected}",
        )
