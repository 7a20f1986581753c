"""A scan in miniature: planes of 32 x 32 pixels, and the perceptual hash that is read off them.

Taken in the decode child, from the scan as it was read, so that scans can be compared without
being read again. Gain, offset, file format and the order of a volume's axes do not change it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.geometry import reorient
from data_prep.memory_order import c_contiguous
from data_prep.volume import Volume

EDGE: Final = 32
HASH_BITS: Final = 256  # of each plane
# In a miniature of whole grey levels a coefficient below this is rounding, not content.
_NO_CONTENT: Final = 1e-3
# A plane whose range is this small a part of its values is flat but for rounding.
_FLAT: Final = 1e-9

Planes = NDArray[np.uint8]


def miniature(volume: Volume) -> Planes:
    """An image, or a volume's three mean projections, at 32 x 32 pixels.

    Colours are averaged. A volume that states its geometry is brought to RAS+ first. Pixels are
    means over the area that they cover, each plane on a grey scale of its own.

    Returns:
        (1, 32, 32) or (3, 32, 32) uint8, the projections along i, j and k; (0, 32, 32) for a
        constant scan, of which nothing can be said.
    """
    array = volume.array
    if array.min() == array.max():
        return np.zeros((0, EDGE, EDGE), dtype=np.uint8)
    if volume.spatial_ndim == 3:
        array = reorient(volume, "RAS").array
        planes = [array.mean(axis=(0, axis), dtype=np.float64) for axis in (1, 2, 3)]
    else:
        planes = [array.mean(axis=0, dtype=np.float64)]
    return np.stack([_grey_levels(_shrink(plane)) for plane in planes])


def perceptual_hash(planes: Planes) -> str:
    """256 bits a plane as hexadecimal digits; "" for a constant scan.

    Each bit is the sign of a coefficient of the discrete cosine transform, lowest frequencies
    first, without the mean (Zauner 2010, "Implementation and benchmarking of perceptual image
    hash functions", there with 64 bits).
    """
    return hash_bits(planes).tobytes().hex()


def hash_bits(planes: Planes) -> NDArray[np.uint8]:
    """(..., 32, 32) planes -> (..., 32) uint8, the 256 bits of each."""
    cosines, lowest = _cosines(), _lowest_frequencies()
    transformed = cosines @ planes.astype(np.float64) @ cosines.T
    chosen = transformed.reshape(*planes.shape[:-2], EDGE**2)[..., lowest]
    return np.packbits(chosen > _NO_CONTENT, axis=-1)


def pixel_digest(volume: Volume) -> str:
    """SHA-256 of shape, type and voxels: equal for identical images, whatever their files."""
    array = c_contiguous(volume.array)
    found = hashlib.sha256(f"{array.shape}{array.dtype.str}".encode())
    found.update(array.data)
    return found.hexdigest()


def _shrink(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = plane.shape
    return np.asarray(_area_means(rows) @ plane @ _area_means(columns).T)


def _grey_levels(plane: NDArray[np.float64]) -> Planes:
    low, high = float(plane.min()), float(plane.max())
    if high - low <= _FLAT * max(abs(low), abs(high)):
        return np.zeros(plane.shape, dtype=np.uint8)
    return np.rint((plane - low) * (255 / (high - low))).astype(np.uint8)


@lru_cache(maxsize=64)
def _area_means(n: int) -> NDArray[np.float64]:
    """(32, n): each row averages the n / 32 voxels (and parts of voxels) that an output covers."""
    edges = np.linspace(0, n, EDGE + 1)
    voxels = np.arange(n)
    low = np.maximum(edges[:-1, None], voxels)
    high = np.minimum(edges[1:, None], voxels + 1)
    covered = np.maximum(high - low, 0)
    return np.asarray(covered / covered.sum(axis=1, keepdims=True))


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """(32, 32) orthonormal DCT-II."""
    frequency, position = np.indices((EDGE, EDGE))
    matrix = np.cos(np.pi * frequency * (2 * position + 1) / (2 * EDGE)) * np.sqrt(2 / EDGE)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


@lru_cache(maxsize=1)
def _lowest_frequencies() -> NDArray[np.intp]:
    """Positions of the 256 coefficients nearest to the mean, which is left out, in order."""
    rows, columns = np.indices((EDGE, EDGE))
    order = np.argsort((rows**2 + columns**2).ravel(), kind="stable")
    return order[1 : HASH_BITS + 1]
