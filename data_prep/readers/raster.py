"""PNG, JPEG and TIFF images -> Volume (C, rows, columns) without geometry.

Pillow decodes; what it would change silently (16-bit colour cut to 8 bits, a damaged PNG chunk
read on, EXIF orientation ignored, a decompression bomb only warned about) is checked here.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_prep.errors import ScanError
from data_prep.readers.access import read_bytes
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.scaling import finite
from data_prep.volume import Array, Volume

_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_TAG_BITS_PER_SAMPLE: Final = 258  # TIFF 6.0, section 8
_TAG_SAMPLES_PER_PIXEL: Final = 277
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
    if data.startswith(_PNG_MAGIC):
        _check_png(data, path)
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


def _check_png(data: bytes, path: str) -> None:
    """Check every chunk's CRC-32 and the end chunk, which Pillow does not (PNG, 5.3 and 11.2.5)."""
    position, kind = len(_PNG_MAGIC), b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise ScanError("raster.malformed", f"{path}: the PNG stream ends before IEND")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise ScanError("raster.malformed", f"{path}: chunk {kind!r} is cut off")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ScanError("raster.malformed", f"{path}: chunk {kind!r} fails its CRC")
        if kind == b"IHDR" and length == 13 and data[position + 16] == 16:
            colour = data[position + 17]
            if colour != 0:  # 0 is greyscale (PNG, 11.2.2)
                raise ScanError(
                    "raster.unsupported_mode",
                    f"{path}: PNG with 16 bits a colour sample; allowed: 16-bit grey, 8-bit colour",
                    fix="convert it to 8 bits a sample",
                )
        position = end + 4


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


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1)


def _pixels(image: Image.Image, path: str) -> tuple[Array, tuple[str, ...]]:
    """Decode to (C, rows, columns)."""
    flags: list[str] = []
    turned = _is_turned(image)
    image.load()  # turns a TIFF upright by itself; a PNG may state its EXIF data after the pixels
    if turned or _is_turned(image):
        image = ImageOps.exif_transpose(image)
        flags.append("exif_oriented")
    if image.mode in _GREY:
        array = np.array(image)
        return array.astype(array.dtype.newbyteorder("="), copy=False)[np.newaxis], tuple(flags)
    if image.mode == "1":
        return np.array(image.convert("L"))[np.newaxis], tuple(flags)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        alpha = np.array(image.getchannel("A"))
        if alpha.min() < 255:
            flags.append("alpha_dropped")
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode in ("CMYK", "YCbCr"):
        flags.append("converted_to_rgb")
        image = image.convert("RGB")
    if image.mode == "L":
        return np.array(image)[np.newaxis], tuple(flags)
    if image.mode != "RGB":
        raise ScanError(
            "raster.unsupported_mode",
            f"{path}: colour mode {image.mode}; allowed: grey, RGB, palette, CMYK, with or "
            "without alpha",
        )
    return np.array(image).transpose(2, 0, 1), tuple(flags)
