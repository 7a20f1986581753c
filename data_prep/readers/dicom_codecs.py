"""Compressed and native pixels -> stored values. One decoder for each transfer syntax.

A second decoder is never tried where the first one fails: a file that one of two decoders refuses
is damaged more often than not. pydicom frames the data and corrects signs; the decoding libraries
are imported by it on first use, in the decode child.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder

from data_prep.errors import ScanError
from data_prep.readers.codestream import frame_header, is_irreversible
from data_prep.readers.dicom_file import element, lookup
from data_prep.readers.dicom_format import PixelFormat
from data_prep.readers.quiet import quiet_pydicom
from data_prep.volume import Array

# pydicom's name of the plugin: Pillow is libjpeg-turbo, pylibjpeg is OpenJPEG 2.5, pyjpegls is
# CharLS; GDCM is the only permissive decoder of lossless JPEG. "" is pydicom's own.
_PLUGINS: Final[dict[str, str]] = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "",
    uid.RLELossless: "pydicom",
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGExtended12Bit: "pillow",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
}
_LOSSY: Final = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless)
_PLAIN: Final = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
_STATED: Final = ("SamplesPerPixel", "PhotometricInterpretation", "BitsStored")
_SELF_DESCRIBING: Final = frozenset(
    (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes, *uid.JPEG2000TransferSyntaxes)
)


def is_lossy(dataset: Dataset, form: PixelFormat, path: str) -> bool:
    """True where pixels were compressed with loss, now or before (PS3.3 C.7.6.1.1.5).

    The JPEG 2000 syntaxes that allow loss do not say whether there is any: the codestream does.
    """
    syntax = element(dataset.file_meta, "TransferSyntaxUID", path)
    if syntax in _LOSSY or str(element(dataset, "LossyImageCompression", path)) == "01":
        return True
    if syntax not in (uid.JPEG2000, uid.HTJ2K):
        return False
    return is_irreversible(next(generate_frames(dataset.PixelData, number_of_frames=form.frames)))


def stored_frames(
    dataset: Dataset, form: PixelFormat, frames: Sequence[int], path: str
) -> list[Array]:
    """Decode frames to stored values, each (rows, columns), or (rows, columns, 3) RGB.

    Bits that are not stored (overlays, rubbish) are masked out, signs are extended.

    Raises:
        ScanError: ``dicom.unsupported_transfer_syntax``, ``dicom.pixel_data_length``,
            ``dicom.decode_failed`` or ``dicom.header_mismatch``.
    """
    syntax = uid.UID(str(element(dataset.file_meta, "TransferSyntaxUID", path)))
    if syntax not in _PLUGINS:
        raise ScanError(
            "dicom.unsupported_transfer_syntax",
            f"{path}: transfer syntax {syntax} ({_name(syntax)}) cannot be decoded",
            fix="export the series uncompressed or as lossless JPEG",
        )
    if syntax.is_encapsulated:
        _check_encapsulated(dataset, form, syntax, path)
    else:
        _check_native_length(dataset, form, path)
    try:
        with quiet_pydicom():
            decoded = _decode(dataset, form, syntax, frames)
    except MemoryError:
        raise
    except Exception as error:
        # what the decoders raise can quote pixel bytes: only the type is passed on
        raise ScanError(
            "dicom.decode_failed",
            f"{path}: cannot be decoded as {_name(syntax)} ({type(error).__name__})",
        ) from error
    expected = (form.rows, form.columns) + ((form.samples,) if form.samples > 1 else ())
    for array in decoded:
        if array.shape != expected:
            raise ScanError(
                "dicom.header_mismatch",
                f"{path}: a frame of {array.shape} was decoded, the header states {expected}",
            )
    return [_masked(array, form) for array in decoded]


def _name(syntax: uid.UID) -> str:
    return syntax.name if syntax in uid.AllTransferSyntaxes else "private or unknown"


def _decode(
    dataset: Dataset, form: PixelFormat, syntax: uid.UID, frames: Sequence[int]
) -> list[Array]:
    if syntax == uid.JPEGExtended12Bit and form.bits_stored > 8:
        encoded = list(generate_frames(dataset.PixelData, number_of_frames=form.frames))
        return [_jpeg_12_bit(encoded[n], form) for n in frames]
    if _is_plain(dataset, form, syntax):
        kind = f"<{'i' if form.signed else 'u'}{form.bits // 8}"
        shape = (form.frames, form.rows, form.columns)
        pixels = np.frombuffer(dataset.PixelData, kind, math.prod(shape)).reshape(shape)
        return [pixels[n] for n in frames]
    decoder: Any = get_decoder(syntax)
    plugin = _PLUGINS[syntax]
    if not syntax.is_encapsulated:
        # unused bits are masked here, where the high bit is minded as well
        as_stored = {"correct_unused_bits": False, "view_only": True}
        return [decoder.as_array(dataset, index=n, **as_stored)[0] for n in frames]
    if list(frames) == list(range(form.frames)):
        return [array for array, _ in decoder.iter_array(dataset, decoding_plugin=plugin)]
    return [decoder.as_array(dataset, index=n, decoding_plugin=plugin)[0] for n in frames]


def _is_plain(dataset: Dataset, form: PixelFormat, syntax: uid.UID) -> bool:
    """Whole numbers one after the other, for which no decoder is needed (PS3.5 8.1.1).

    Where the header leaves out what it must state, pydicom's decoder says so.
    """
    return (
        syntax in _PLAIN
        and form.element == "PixelData"
        and form.samples == 1
        and form.bits in (8, 16, 32)
        and lookup(dataset, "PixelRepresentation") in (0, 1)
        and all(lookup(dataset, name) is not None for name in _STATED)
    )


def _jpeg_12_bit(data: bytes, form: PixelFormat) -> Array:
    """Sequential DCT with 12 bits a sample, which pydicom passes to no decoder; GDCM has one.

    Tested against a decoder written from ITU T.81: at most 1 grey level apart.
    """
    import gdcm

    if form.samples != 1:
        raise ValueError("12-bit JPEG is for grey images only")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    name = str(uid.JPEGExtended12Bit)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(name)))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, form.bits_stored, form.bits_stored - 1, 0))
    pixels = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(pixels, "<u2").reshape(form.rows, form.columns)


def _masked(array: Array, form: PixelFormat) -> Array:
    """Native byte order, and only the stored bits, sign extended (PS3.5 8.1.1)."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    width = 8 * array.dtype.itemsize
    if form.is_float or form.bits == 1 or form.bits_stored == width:
        return array
    plain = array.dtype.kind == "u" and form.bits_stored == form.high_bit + 1
    if plain and array.max() <= (1 << form.bits_stored) - 1:
        return array  # as is usual: nothing stands in the bits above
    drop = width - 1 - form.high_bit if width == form.bits else width - form.bits_stored
    shifted: Array = np.left_shift(array, drop)
    shifted >>= width - form.bits_stored
    return shifted


def _check_encapsulated(dataset: Dataset, form: PixelFormat, syntax: uid.UID, path: str) -> None:
    """Compare the number, size and end of the codestreams with the header."""
    value = element(dataset, form.element, path)
    try:
        with quiet_pydicom():
            encoded = list(generate_frames(value, number_of_frames=form.frames))
    except Exception as error:
        raise ScanError(
            "dicom.pixel_data_length",
            f"{path}: the pixel data fragments do not make {form.frames} frames "
            f"({type(error).__name__})",
        ) from None
    if len(encoded) != form.frames:
        raise ScanError(
            "dicom.pixel_data_length",
            f"{path}: {len(encoded)} frames are encapsulated; the header states {form.frames}",
        )
    if syntax not in _SELF_DESCRIBING:
        return
    for number, data in enumerate(encoded):
        header = frame_header(data)
        if header is None:
            raise ScanError(
                "dicom.decode_failed", f"{path}: frame {number} is not a {_name(syntax)} stream"
            )
        found = (header.rows, header.columns, header.samples)
        if found != (form.rows, form.columns, form.samples) or header.precision > form.bits:
            raise ScanError(
                "dicom.header_mismatch",
                f"{path}: frame {number} holds {found[0]} x {found[1]} pixels of {found[2]} "
                f"samples of {header.precision} bits; the header states {form.rows} x "
                f"{form.columns}, {form.samples}, {form.bits}",
            )
        if not header.complete:
            raise ScanError(
                "dicom.decode_failed", f"{path}: frame {number} ends before its end marker"
            )


def _check_native_length(dataset: Dataset, form: PixelFormat, path: str) -> None:
    """Native pixels must have the stated length, padded to an even one (PS3.5 8.1.1)."""
    found = len(element(dataset, form.element, path) or b"")
    bits = form.rows * form.columns * form.samples * form.frames * form.bits
    if form.photometric == "YBR_FULL_422":
        bits = bits // 3 * 2  # PS3.3 C.7.6.3.1.2: two chrominance samples for two pixels
    expected = math.ceil(bits / 8)
    if found not in (expected, expected + expected % 2):
        raise ScanError(
            "dicom.pixel_data_length",
            f"{path}: {found} bytes of pixels; the header demands {expected}",
        )
