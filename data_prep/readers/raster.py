"""PNG, JPEG and TIFF images -> Volume (C, rows, columns) without geometry.

Pillow decodes; what it would change silently (16-bit colour cut to 8 bits, a damaged PNG chunk
read on, EXIF orientation ignored, a decompression bomb only warned about) is checked here.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_prep.errors import ScanError
from data_prep.readers import png
from data_prep.readers.access import read_bytes
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.scaling import finite
from data_prep.volume import Array, Volume

_TAG_BITS_PER_SAMPLE: Final = 258  # TIFF 6.0, section 8
_TAG_PHOTOMETRIC: Final = 262  # 0: the smallest value is white
_TAG_SAMPLES_PER_PIXEL: Final = 277
_TAG_SAMPLE_FORMAT: Final = 339  # TIFF 6.0, section 19: 1 unsigned, 2 signed, 3 floating point
_EXIF_ORIENTATION: Final = 0x0112
_GREY: Final = ("L", "I;16", "I;16L", "I;16B", "I", "F")


def read_raster(root: Path, path: str, policy: ReadPolicy) -> Volume:
    """Read one image.

    Returns:
        (1, rows, columns) for grey, (3, rows, columns) for colour; uint8, uint16, int32 or
        float32 as stored. The affine is the identity and ``has_geometry`` is False: dots per
        inch of an image file say nothing about the patient. EXIF orientation is applied, once.

    Raises:
        ScanError: ``raster.*``, ``volume.*`` or ``file.*``.
    """
    data = read_bytes(root, path)
    if data.startswith(png.MAGIC):
        data = png.readable_png(data, path)
    elif data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        # ITU T.81 B.2.1: a scan (SOS) must be closed by an EOI marker
        raise ScanError("raster.malformed", f"{path}: the JPEG stream ends early")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as image:
                _check_frame(image, path, policy)
                array, flags = _pixels(image, path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ScanError(
            "file.too_large",
            f"{path}: declares more than {Image.MAX_IMAGE_PIXELS} pixels",
        ) from None
    except ScanError:
        raise
    except UnidentifiedImageError:
        raise ScanError("raster.malformed", f"{path}: not a whole PNG, JPEG or TIFF file") from None
    except Exception as error:
        # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error and others on
        # damaged files; all of them mean the same here.
        reason = f"{type(error).__name__}: {error}"
        raise ScanError("raster.malformed", f"{path}: {reason}") from error
    array, filled = finite(np.ascontiguousarray(array), policy, path)
    return Volume(array, np.eye(4), has_geometry=False, flags=(*flags, *filled))


def _check_frame(image: Image.Image, path: str, policy: ReadPolicy) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ScanError(
            "raster.multi_page",
            f"{path}: {frames} frames or pages; allowed: one",
            fix="save each page as a file of its own",
        )
    size = image.width * image.height * max(1, len(image.getbands())) * 4
    if size > policy.max_volume_bytes:
        raise ScanError("file.too_large", f"{path}: declares {image.width} x {image.height} pixels")
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits = tags.get(_TAG_BITS_PER_SAMPLE, (1,))
        if tags.get(_TAG_SAMPLES_PER_PIXEL, 1) > 1 and max(bits) > 8:
            raise ScanError(
                "raster.unsupported_mode",
                f"{path}: TIFF with {max(bits)} bits a colour sample; allowed: 8",
                fix="convert it to 8 bits a sample",
            )
        if tags.get(_TAG_PHOTOMETRIC) == 0 and (max(bits) > 16 or _sample_format(image) == 3):
            raise ScanError(
                "raster.unsupported_mode",
                f"{path}: TIFF of {max(bits)} bits in which the smallest value is white; allowed: "
                "at most 16 bits, whole numbers",
                fix="save it with the smallest value black",
            )


def _sample_format(image: Image.Image) -> int:
    """Sample Format of a TIFF; 1, as the specification says, where it is not stated."""
    if image.format != "TIFF":
        return 1
    return int(image.tag_v2.get(_TAG_SAMPLE_FORMAT, (1,))[0])  # type: ignore[attr-defined]


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1)


def _pixels(image: Image.Image, path: str) -> tuple[Array, tuple[str, ...]]:
    """Decode to (C, rows, columns)."""
    flags: list[str] = []
    signed = _sample_format(image) == 2
    white_is_zero = (
        image.format == "TIFF" and image.tag_v2.get(_TAG_PHOTOMETRIC) == 0  # type: ignore[attr-defined]
    )
    turned = _is_turned(image)
    image.load()  # turns a TIFF upright by itself; a PNG may state its EXIF data after the pixels
    if turned or _is_turned(image):
        image = ImageOps.exif_transpose(image)
        flags.append("exif_oriented")
    if white_is_zero:
        flags.append("monochrome1_inverted")
    if image.mode in _GREY:
        array = _grey(image, signed=signed, white_is_zero=white_is_zero)
    else:
        array, more = _decoded(image, path)
        flags += more
    if _has_clear_pixels(image, array):
        flags.append("alpha_dropped")
    return array, tuple(flags)


def _grey(image: Image.Image, *, signed: bool, white_is_zero: bool) -> Array:
    """(1, rows, columns) in the numbers that the file states, where Pillow takes them for others.

    It reads 8 bits as unsigned and 32 bits as signed, whatever a TIFF says, and mirrors a TIFF
    whose smallest value is white up to 8 bits only.
    """
    array = np.array(image)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint8 and signed:
        array = array.view(np.int8)
    elif array.dtype == np.int32 and not signed and array.min() < 0:
        array = array.view(np.uint32)
    elif array.dtype == np.uint16 and white_is_zero:
        array = 0xFFFF - array
    return array[np.newaxis]


def _decoded(image: Image.Image, path: str) -> tuple[Array, tuple[str, ...]]:
    """(C, rows, columns) of an image in colour, with alpha or of one bit."""
    flags: tuple[str, ...] = ()
    if image.mode == "1":
        return np.array(image.convert("L"))[np.newaxis], flags
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        if np.array(image.getchannel("A")).min() < 255:
            flags = ("alpha_dropped",)
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode in ("CMYK", "YCbCr"):
        flags = ("converted_to_rgb",)
        image = image.convert("RGB")
    if image.mode == "L":
        return np.array(image)[np.newaxis], flags
    if image.mode != "RGB":
        raise ScanError(
            "raster.unsupported_mode",
            f"{path}: colour mode {image.mode}; allowed: grey, RGB, palette, CMYK, with or "
            "without alpha",
        )
    return np.array(image).transpose(2, 0, 1), flags


def _has_clear_pixels(image: Image.Image, array: Array) -> bool:
    """True where a PNG without alpha names a colour that is transparent (tRNS), and holds it."""
    clear = image.info.get("transparency")
    if image.mode not in (*_GREY, "RGB") or not isinstance(clear, int | tuple):
        return False
    return bool((array == np.reshape(clear, (-1, 1, 1))).all(axis=0).any())
