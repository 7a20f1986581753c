"""What a DICOM header says about the pixels, checked before any memory is taken for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from data_prep.errors import ScanError
from data_prep.readers.dicom_file import element
from data_prep.readers.policy import ReadPolicy

_GREY: Final = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_INTEGER_PIXELS: Final = "PixelData"
_FLOAT_PIXELS: Final = ("FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True)
class PixelFormat:
    """The Image Pixel module of one object (PS3.3 C.7.6.3).

    Attributes:
        element: Keyword of the element that holds the pixels.
        bits: Allocated for one sample.
        bits_stored: Used of them, up to and with bit ``high_bit``.
        signed: Two's complement.
        is_float: Floating-point pixels; then ``bits_stored`` and ``signed`` mean nothing.
        padding: Range of stored values that mean "no pixel", or None.
    """

    element: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    padding: tuple[int, int] | None

    @property
    def is_float(self) -> bool:
        """True for Float Pixel Data and Double Float Pixel Data."""
        return self.element in _FLOAT_PIXELS

    @property
    def limits(self) -> tuple[int, int]:
        """Least and largest stored value that the header allows."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


def pixel_format(dataset: Dataset, path: str, policy: ReadPolicy) -> PixelFormat:
    """Read and check the Image Pixel module.

    Raises:
        ScanError: ``dicom.no_pixel_data``, ``dicom.malformed``, ``dicom.unsupported_pixels``,
            ``file.too_large`` or ``volume.bad_shape``.
    """
    pixels = next((n for n in (_INTEGER_PIXELS, *_FLOAT_PIXELS) if n in dataset), "")
    if not pixels:
        raise ScanError("dicom.no_pixel_data", f"{path}: no Pixel Data element")
    bits = _integer(dataset, "BitsAllocated", path)
    stored = _integer(dataset, "BitsStored", path, bits)
    signed = bool(_integer(dataset, "PixelRepresentation", path, 0))
    form = PixelFormat(
        element=pixels,
        rows=_integer(dataset, "Rows", path),
        columns=_integer(dataset, "Columns", path),
        frames=_integer(dataset, "NumberOfFrames", path, 1),
        samples=_integer(dataset, "SamplesPerPixel", path, 1),
        bits=bits,
        bits_stored=stored,
        high_bit=_integer(dataset, "HighBit", path, stored - 1),
        signed=signed,
        photometric=str(element(dataset, "PhotometricInterpretation", path) or "").strip(),
        padding=_padding(dataset, signed, bits, path),
    )
    _check(form, path)
    _check_size(form, path, policy)
    return form


def _check(form: PixelFormat, path: str) -> None:
    if min(form.rows, form.columns, form.frames) < 1:
        raise ScanError(
            "volume.bad_shape",
            f"{path}: the header declares {form.frames} x {form.rows} x {form.columns} pixels",
        )
    if form.samples not in (1, 3) or form.bits not in (1, 8, 16, 32, 64):
        raise ScanError(
            "dicom.unsupported_pixels",
            f"{path}: {form.samples} samples a pixel of {form.bits} bits; allowed: 1 or 3 samples "
            "of 1, 8, 16, 32 or 64 bits",
        )
    # PS3.5 8.1.1 asks for High Bit = Bits Stored - 1; older files keep the bits elsewhere
    if not form.is_float and not 1 <= form.bits_stored <= form.high_bit + 1 <= form.bits:
        raise ScanError(
            "dicom.unsupported_pixels",
            f"{path}: {form.bits_stored} bits stored up to bit {form.high_bit} of {form.bits}",
        )
    if form.photometric not in (_GREY if form.samples == 1 else _COLOUR):
        raise ScanError(
            "dicom.unsupported_pixels",
            f"{path}: photometric interpretation '{form.photometric}' with {form.samples} samples "
            f"a pixel; allowed: {', '.join(_GREY if form.samples == 1 else _COLOUR)}",
        )


def _check_size(form: PixelFormat, path: str, policy: ReadPolicy) -> None:
    size = form.rows * form.columns * form.frames * form.samples * max(1, form.bits // 8)
    if size > policy.max_volume_bytes:
        raise ScanError(
            "file.too_large",
            f"{path}: the header declares {form.frames} x {form.rows} x {form.columns} pixels of "
            f"{form.samples} samples, {size} bytes; at most {policy.max_volume_bytes}",
        )


def _integer(dataset: Dataset, name: str, path: str, default: int | None = None) -> int:
    value = element(dataset, name, path)
    if value is None and default is not None:
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        found = "not stated" if value is None else "not a number"
        raise ScanError("dicom.malformed", f"{path}: {name} is {found}") from None


def _padding(dataset: Dataset, signed: bool, bits: int, path: str) -> tuple[int, int] | None:
    """Pixel Padding Value, with its Range Limit (PS3.3 C.7.5.1.1.2)."""
    names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ends = [element(dataset, name, path) for name in names]
    # often written with the wrong sign: 63536 for -2000
    found = [
        value - (1 << bits) if signed and value >= 1 << (bits - 1) else value
        for value in ends
        if isinstance(value, int)
    ]
    return (min(found), max(found)) if isinstance(ends[0], int) else None
