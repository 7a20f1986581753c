"""A prepared scan as a small picture: what the model saw, upright, in a bounded number of bytes.

An image is one square. A volume is its axial plane as a square, and to the right of it, at half the
size, the coronal plane above the sagittal one: a page that shows the left square alone cuts it out
of the same picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

from pipeline.serving.upright import Plane, channels

# Edge of the square in pixels, and the most that an encoded picture may take.
EDGE_PX: Final = 96
MAX_BYTES: Final = 2200
# JPEG qualities that are tried in turn, at each of the edges in turn: the bytes of a picture depend
# on the scan only. The last are small enough for noise, which no codec makes small. WebP would take
# two thirds of the bytes and ten times the time.
_QUALITIES: Final = (85, 70, 50, 30)
_EDGES: Final = (EDGE_PX, 64, 48, 32)
# Percentiles of what is shown that are black and white.
_SHOWN: Final = (0.5, 99.5)
# Values that these are taken of: more tell them no better.
_COUNTED: Final = 1 << 14


def picture(shown: Sequence[Plane]) -> bytes:
    """The planes of one scan as JPEG of at most ``MAX_BYTES``; the same bytes for the same planes.

    Grey, or colour where an image's three channels differ. The scan has its own grey scale.
    """
    images = _grey_scaled(shown)
    # Twice its voxels, so that the planes at half the size keep theirs.
    most = 2 * max(images[0].size)
    data = b""
    for edge in _EDGES:
        sheet = laid_out(images, [plane.size for plane in shown], min(edge, most))
        for quality in _QUALITIES:
            data = _jpeg(sheet, quality)
            if len(data) <= MAX_BYTES:
                return data
    return data


def laid_out(
    images: Sequence[Image.Image], sizes: Sequence[tuple[float, float]], edge: int
) -> Image.Image:
    """Planes on black: the first fills a square of ``edge``, two more stand to the right of it.

    Args:
        images: One or three, of one mode.
        sizes: Relative height and width of each.
        edge: Of the square, in pixels.
    """
    half = edge // 2
    boxes = ((0, 0, edge), (edge, 0, half), (edge, half, half))
    sheet = Image.new(images[0].mode, (edge + half if len(images) > 1 else edge, edge))
    for image, (height, width), (left, top, side) in zip(images, sizes, boxes, strict=False):
        scale = side / max(height, width)
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        # A mean of what falls into a pixel; a voxel that is larger than pixels stays a square.
        small = image.resize(shape, Image.Resampling.BOX)
        sheet.paste(small, (left + (side - shape[0]) // 2, top + (side - shape[1]) // 2))
    return sheet


def _grey_scaled(shown: Sequence[Plane]) -> list[Image.Image]:
    values = [channels(plane.values) for plane in shown]
    flat = np.concatenate([v.reshape(-1) for v in values])
    low, high = np.percentile(flat[:: 1 + len(flat) // _COUNTED], _SHOWN)
    if high <= low:  # hardly anything in it differs
        low, high = flat.min(), flat.max()
    scale = 255 / (high - low) if high > low else 0.0
    return [
        Image.fromarray(np.rint(((v - low) * scale).clip(0, 255)).astype(np.uint8)) for v in values
    ]


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
