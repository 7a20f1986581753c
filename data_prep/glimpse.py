"""A glimpse of one scan: how its intensities are distributed, and a small picture of its middle.

Taken in the decode child, so that a whole volume never has to cross to the parent.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from data_prep import intensity
from data_prep.geometry import reorient, resize
from data_prep.volume import Array, Volume

# Evenly spaced quantiles 0, 1/256, ... 1: steps fine enough to draw histograms from.
N_QUANTILES: Final = 257
# More voxels than this are not looked at: drawn at random, with the same seed for every scan.
MAX_VOXELS: Final = 1 << 20
_SEED: Final = 0x611
# Longest edge of a thumbnail in pixels.
THUMBNAIL_PX: Final = 112
# Air is -1000 HU by definition (Hounsfield 1973); what lies above this is not air.
AIR_HU: Final = -900.0
# nnU-Net clips CT to these percentiles of its foreground (Isensee et al. 2021, Suppl. Note 2).
TISSUE_PERCENTILES: Final = (0.5, 99.5)
# An axis is the one across the slices where its voxels are longer than the others' by this factor.
_SLICED: Final = 1.5
# Channels that differ by less than this share of the range are one grey image saved as colour
# (JPEG rounds each colour by itself).
_GREY_TOLERANCE: Final = 0.02
# A plane belongs to the body where it has at least this share of the fullest plane's foreground.
_BODY_PLANE: Final = 0.02
# How a slice is shown, by the axis across it: rows and columns as radiologists look at them.
_SHOWN: Final = {"S": "PLS", "A": "ILA", "R": "IPR"}
_TO_AXIS: Final = str.maketrans("LPI", "RAS")


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What is kept of one scan.

    Attributes:
        quantiles: (257,) float64 of the intensities as read, all channels together.
        landmarks: (11,) Nyúl landmarks of the foreground (``intensity.NYUL_PERCENTILES``).
        tissue: The 0.5th and 99.5th percentile of what is above -900, () where nothing is.
        is_colour: Three channels that differ from each other.
        reach_mm: Edge, along each axis as stored, of the box around the scan's centre that holds
            its foreground: what a central crop must keep.
        thumbnail: (rows, columns) or (rows, columns, 3) uint8 of the central slice, each scan on
            its own grey scale.
    """

    quantiles: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    tissue: tuple[float, ...]
    is_colour: bool
    reach_mm: tuple[float, ...]
    thumbnail: NDArray[np.uint8]

    def at(self, levels: ArrayLike) -> NDArray[np.float64]:
        """Quantiles at levels from 0 to 1, linear between those that were kept."""
        kept = np.linspace(0, 1, len(self.quantiles))
        return np.asarray(np.interp(np.asarray(levels, dtype=np.float64), kept, self.quantiles))


def glimpse(volume: Volume) -> Glimpse:
    """Look at one scan; deterministic."""
    voxels = _some_voxels(volume.array)
    tissue = voxels[voxels > AIR_HU]
    return Glimpse(
        quantiles=np.quantile(voxels, np.linspace(0, 1, N_QUANTILES)),
        landmarks=intensity.nyul_landmarks(voxels),
        tissue=tuple(float(v) for v in np.percentile(tissue, TISSUE_PERCENTILES))
        if len(tissue)
        else (),
        is_colour=_is_colour(volume.array),
        reach_mm=_reach_mm(volume),
        thumbnail=thumbnail(volume),
    )


def thumbnail(volume: Volume) -> NDArray[np.uint8]:
    """The central slice with square pixels, at most ``THUMBNAIL_PX`` along its longer edge.

    The slice lies across the axis with the coarsest voxels, as the scan was taken; where no axis
    is coarse it is axial. A volume without geometry is cut across its first axis.

    Returns:
        (rows, columns) or, for colour, (rows, columns, 3) uint8: the slice's 1st and 99th
        percentile are black and white.
    """
    image = _central_slice(volume)
    spacing = image.spacing_mm
    extent = [n * mm for n, mm in zip(image.array.shape[1:], spacing, strict=True)]
    edge = min(THUMBNAIL_PX, max(extent) / min(spacing))
    shape = [max(1, round(mm * edge / max(extent))) for mm in extent]
    small = resize(image, shape).array
    if len(small) == 3 and image.array.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(np.rint(small).astype(np.uint8), 0, -1))
    grey = small[0]
    low, high = np.percentile(grey, (1, 99))
    scaled = intensity.min_max(grey, *((float(low), float(high)) if high > low else ()))
    return np.rint(255 * scaled).astype(np.uint8)


def png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG file of (rows, columns) greys or (rows, columns, 3) colours."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def plane_code(orientation: str) -> str:
    """How an image is shown upright: "PL" (axial), "IL" (coronal) or "IP" (sagittal).

    Args:
        orientation: Two letters, of a scan that states its geometry.
    """
    plane = set(orientation.translate(_TO_AXIS))
    return next(code[:2] for code in _SHOWN.values() if set(code[:2].translate(_TO_AXIS)) == plane)


def _central_slice(volume: Volume) -> Volume:
    """(C, rows, columns) with its pixel spacing, upright where the scan states how it lies."""
    if volume.spatial_ndim == 2:
        return reorient(volume, plane_code(volume.orientation)) if volume.has_geometry else volume
    if volume.has_geometry:
        volume = reorient(volume, _SHOWN[_across(volume)])
        array, spacing = volume.array[..., volume.array.shape[-1] // 2], volume.spacing_mm[:2]
    else:
        array, spacing = volume.array[:, volume.array.shape[1] // 2], volume.spacing_mm[1:]
    return Volume(array, np.diag([*spacing, 1.0, 1.0]), has_geometry=False)


def _across(volume: Volume) -> str:
    """R, A or S: the axis that the slices are stacked along."""
    codes = volume.orientation.translate(_TO_AXIS)
    coarse = int(np.argmax(volume.spacing_mm))
    others = [mm for axis, mm in enumerate(volume.spacing_mm) if axis != coarse]
    return codes[coarse] if volume.spacing_mm[coarse] > _SLICED * max(others) else "S"


def _some_voxels(array: Array) -> NDArray[np.float64]:
    flat = np.ascontiguousarray(array).reshape(-1)
    if len(flat) > MAX_VOXELS:
        flat = flat[np.random.default_rng(_SEED).integers(len(flat), size=MAX_VOXELS)]
    return flat.astype(np.float64)


def _reach_mm(volume: Volume) -> tuple[float, ...]:
    """Twice the distance from the centre to the far side of the last plane that holds body."""
    inside = intensity.foreground(volume.array).any(axis=0)
    reach = []
    for axis, mm in enumerate(volume.spacing_mm):
        filled = np.count_nonzero(inside, axis=tuple(n for n in range(inside.ndim) if n != axis))
        planes = np.flatnonzero(filled >= _BODY_PLANE * filled.max())
        middle = len(filled) / 2
        reach.append(float(2 * mm * max(middle - planes[0], planes[-1] + 1 - middle)))
    return tuple(reach)


def _is_colour(array: Array) -> bool:
    if len(array) != 3:
        return False
    apart = array.max(axis=0).astype(np.float64) - array.min(axis=0)
    whole = float(array.max()) - float(array.min())
    return bool(np.percentile(apart, 99) > _GREY_TOLERANCE * whole)
