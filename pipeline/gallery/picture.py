"""A prepared scan as a small picture: what the model saw, upright, in a bounded number of bytes.

An image is one square. A volume is its axial plane as a square, and to the right of it, at half the
size, the coronal plane above the sagittal one: a page that shows the left square alone cuts it out
of the same picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.geometry import reorient
from data_prep.glimpse import plane_code
from data_prep.preprocess import AS_STORED, PrepConfig
from data_prep.volume import Volume

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
# Correlation from which channels count as one: JPEG rounds the channels of a grey image apart.
_ALIKE: Final = 0.999
# Axis that a plane lies across, axis to its right and axis down, where axes grow to L, P and I:
# axial, coronal and sagittal as radiologists look at them.
_PLANES: Final = ((2, 0, 1), (1, 0, 2), (0, 1, 2))
_RAS: Final = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Upright:
    """How a recipe's arrays are turned to be looked at.

    Attributes:
        orientation: Direction of each axis as the recipe leaves it, "RAS" or "PL"; "" where it
            leaves scans as they are stored.
        spacing: Relative edge of a voxel along each axis; where the recipe stretches scans to a
            shape a voxel is what the model saw, a cube.
    """

    orientation: str
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, config: PrepConfig, spatial_ndim: int) -> Upright:
        """As the recipe of this config leaves scans of so many dimensions."""
        stated = config.spacing_mm if config.fit == "crop_or_pad" else None
        spacing = stated if isinstance(stated, tuple) else (stated or 1.0,) * spatial_ndim
        return cls("" if config.orientation == AS_STORED else config.orientation, spacing)

    def turn(self, array: NDArray[np.float32]) -> Volume:
        """(C, I, J[, K]) with axes to the left, posterior and inferior; a view."""
        volume = Volume(array, self._affine(), has_geometry=bool(self.orientation))
        if not self.orientation:
            return volume
        return reorient(volume, "LPI" if array.ndim == 4 else plane_code(self.orientation))

    def _affine(self) -> NDArray[np.float64]:
        if not self.orientation:
            return np.diag([*self.spacing, 1.0, 1.0][:4])
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for column, (letter, mm) in enumerate(zip(self.orientation, self.spacing, strict=True)):
            axis, sign = _RAS[letter]
            affine[axis, column] = sign * mm
        if len(self.orientation) == 2:  # the plane's normal is what is left
            affine[int(np.flatnonzero(~affine[:3, :2].any(axis=1))[0]), 2] = 1
        return affine


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a scan.

    Attributes:
        values: (C, rows, columns).
        size: Relative height and width.
    """

    values: NDArray[np.float32]
    size: tuple[float, float]


def planes(turned: Volume, through: Sequence[int] | None = None) -> list[Plane]:
    """The plane of an image, or three planes of a volume.

    Args:
        turned: As ``Upright.turn`` gives it.
        through: Voxel of ``turned`` where the planes of a volume cross; None: its middle.
    """
    array, spacing = turned.array, turned.spacing_mm
    if turned.spatial_ndim == 2:
        rows, columns = array.shape[1:]
        return [Plane(array, (rows * spacing[0], columns * spacing[1]))]
    place = [n // 2 for n in array.shape[1:]] if through is None else through
    return [
        Plane(
            array.take(place[across], axis=1 + across).transpose(0, 2, 1),
            (array.shape[1 + down] * spacing[down], array.shape[1 + right] * spacing[right]),
        )
        for across, right, down in _PLANES
    ]


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
    values = [_channels(plane.values) for plane in shown]
    flat = np.concatenate([v.reshape(-1) for v in values])
    low, high = np.percentile(flat[:: 1 + len(flat) // _COUNTED], _SHOWN)
    if high <= low:  # hardly anything in it differs
        low, high = flat.min(), flat.max()
    scale = 255 / (high - low) if high > low else 0.0
    return [
        Image.fromarray(np.rint(((v - low) * scale).clip(0, 255)).astype(np.uint8)) for v in values
    ]


def _channels(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns) of grey, or (rows, columns, 3) of an image in colour."""
    colour = len(values) == 3 and not _is_grey(values)
    return np.ascontiguousarray(values.transpose(1, 2, 0) if colour else values[0])


def _is_grey(values: NDArray[np.float32]) -> bool:
    """Whether the channels are one image, each on a linear scale of its own (``imagenet``)."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    spread = np.linalg.norm(flat, axis=1)
    together = np.abs(flat[1:] @ flat[0])
    return bool((together >= _ALIKE * spread[1:] * spread[0]).all())


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
