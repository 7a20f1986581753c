"""Intensity scales: pure functions on arrays (C, I, J[, K]) that return float32.

Sums run in float64 and never through BLAS, so that the bits do not depend on threads. A constant
array, which has no scale, becomes zeros wherever a scale would be divided by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.volume import Array

# Rounds of cutting and spreading in CLAHE: after 10, less than 1 % of the excess is left.
_CLIP_ROUNDS: Final = 10

Region = Literal["whole", "foreground"]
Floats = NDArray[np.float32]

# ITU-R BT.601-7, 2.5.1: luma of red, green and blue.
LUMA_BT601: Final = (0.299, 0.587, 0.114)
# Mean and standard deviation of ImageNet's training images scaled to 0..1, per colour, as
# published with torchvision's and EfficientNet's weights (docs.pytorch.org/vision, "models").
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
# Deciles between two robust ends: the landmarks "L4" of Nyúl, Udupa & Zhang, IEEE TMI 19:143
# (2000), table I, with the ends of Nyúl & Udupa, Magn Reson Med 42:1072 (1999).
NYUL_PERCENTILES: Final = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)


def foreground(array: Array) -> NDArray[np.bool_]:
    """Voxels above the scan's mean: the rule by which Nyúl et al. (2000) leave out background.

    All voxels of a constant scan count as foreground.
    """
    above = array > array.mean(dtype=np.float64)
    return above if above.any() else np.ones_like(above)


def window(array: Array, center_hu: float, width_hu: float) -> Floats:
    """A CT window as 0..1, clipped.

    DICOM PS3.3 C.11.2.1.3.2 (LINEAR_EXACT): ``(x - centre) / width + 0.5``. The older LINEAR
    function of C.11.2.1.2 is for whole numbers; resampled Hounsfield units are not.
    """
    return min_max(array, center_hu - width_hu / 2, center_hu + width_hu / 2)


def min_max(array: Array, low: float | None = None, high: float | None = None) -> Floats:
    """Linear from [low, high] to [0, 1], clipped; an end not given is the scan's own.

    As every function here: an array of any shape gives float32 of the same shape.
    """
    low = float(array.min()) if low is None else low
    high = float(array.max()) if high is None else high
    if high <= low:
        return np.zeros(array.shape, dtype=np.float32)
    scaled = _linear(array, low, 1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def percentile(array: Array, lower: float, upper: float, region: Region = "whole") -> Floats:
    """Linear from the scan's own percentiles (0..100) to [0, 1], clipped."""
    values = array if region == "whole" else array[foreground(array)]
    low, high = np.percentile(values, (lower, upper))
    return min_max(array, float(low), float(high))


def z_score(array: Array, region: Region = "whole") -> Floats:
    """Mean 0 and standard deviation 1 over the scan, or over its ``foreground``."""
    values = array if region == "whole" else array[foreground(array)]
    mean, std = mean_and_std(values)
    return _linear(array, mean, 1 / std if std else 1.0)


def standardise(array: Array, mean: Sequence[float], std: Sequence[float]) -> Floats:
    """Given mean and standard deviation per channel: ``(x - mean) / std``.

    Raises:
        ValueError: If there is not one mean and one standard deviation a channel.
    """
    channels = zip(array, mean, std, strict=True)
    return np.stack([_linear(values, m, 1 / s if s else 1.0) for values, m, s in channels])


def imagenet(array: Array) -> Floats:
    """What ImageNet weights expect, from (3, I, J[, K]) scaled to 0..1."""
    return standardise(array, IMAGENET_MEAN, IMAGENET_STD)


def mean_and_std(values: Array) -> tuple[float, float]:
    """Mean and population standard deviation, in float64."""
    mean = values.mean(dtype=np.float64, keepdims=True)
    return float(mean.item()), float(values.std(dtype=np.float64, mean=mean))


def nyul_landmarks(array: Array) -> NDArray[np.float64]:
    """(11,) percentiles ``NYUL_PERCENTILES`` of the scan's foreground."""
    return np.percentile(array[foreground(array)], NYUL_PERCENTILES)


def nyul_standard(landmarks: Array) -> NDArray[np.float64]:
    """One scan's landmarks on the standard scale: first to 0, last to 1, linear between.

    The mean of these over the training scans is the standard histogram (Nyúl & Udupa 1999, the
    training step). A constant scan gives evenly spaced landmarks.
    """
    low, high = landmarks[0], landmarks[-1]
    if high <= low:
        return np.linspace(0.0, 1.0, len(landmarks))
    return np.asarray((landmarks - low) / (high - low), dtype=np.float64)


def nyul(array: Array, standard: Sequence[float]) -> Floats:
    """Map the scan's landmarks to the standard ones, piecewise linearly.

    Beyond the outer landmarks the outer pieces go on (Nyúl & Udupa 1999, the transformation
    step); nothing is clipped.

    Args:
        array: Any scan.
        standard: (11,) mean of ``nyul_standard`` over the training scans.
    """
    target = np.asarray(standard, dtype=np.float64)
    found, first = np.unique(nyul_landmarks(array), return_index=True)
    if len(found) < 2:
        return np.zeros(array.shape, dtype=np.float32)
    target = target[first]
    slope_low = (target[1] - target[0]) / (found[1] - found[0])
    slope_high = (target[-1] - target[-2]) / (found[-1] - found[-2])
    mapped: NDArray[np.float64] = np.interp(array, found, target)
    mapped += np.minimum(array - found[0], 0) * slope_low
    mapped += np.maximum(array - found[-1], 0) * slope_high
    return mapped.astype(np.float32)


def equalize(array: Array, bins: int = 256) -> Floats:
    """Histogram equalisation: each voxel's place in the scan's cumulative histogram, 0..1.

    Linear between bin centres, as MONAI's ``HistogramNormalize``.
    """
    counts, edges = np.histogram(array, bins)
    cumulative = np.cumsum(counts).astype(np.float64)
    if cumulative[0] == cumulative[-1] or array.min() == array.max():
        return np.zeros(array.shape, dtype=np.float32)
    scale = (cumulative - cumulative[0]) / (cumulative[-1] - cumulative[0])
    equalized: NDArray[np.float64] = np.interp(array, (edges[:-1] + edges[1:]) / 2, scale)
    return equalized.astype(np.float32)


def clahe(array: Array, tiles: int = 8, clip_limit: float = 0.01, bins: int = 256) -> Floats:
    """Contrast-limited adaptive histogram equalisation of each channel, 0..1, in 2D and 3D.

    Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV (1994): a
    histogram for each tile, cut at a limit with the excess spread over all bins, and each voxel
    mapped by the histograms of the nearest tiles, interpolated linearly between tile centres.

    Args:
        array: (C, I, J[, K]).
        tiles: About how many along each axis.
        clip_limit: Most that one bin may hold, as a fraction of a tile's voxels; 1 is no limit.
        bins: Grey levels.
    """
    return np.stack([_clahe(channel, tiles, clip_limit, bins) for channel in array])


def to_grey(array: Array) -> Floats:
    """(3, I, J[, K]) red, green, blue -> (1, I, J[, K]) luma of ITU-R BT.601."""
    red, green, blue = (channel.astype(np.float32) for channel in array)
    luma = LUMA_BT601[0] * red + LUMA_BT601[1] * green + LUMA_BT601[2] * blue
    return np.asarray(luma, dtype=np.float32)[np.newaxis]


def to_rgb(array: Array) -> Array:
    """(1, I, J[, K]) -> (3, I, J[, K]), the same grey in each colour."""
    return np.repeat(array, 3, axis=0)


def _linear(array: Array, offset: float, slope: float) -> Floats:
    """``(x - offset) * slope``; float64 within, so that large offsets cost no digits."""
    scaled = np.subtract(array, offset, dtype=np.float64)
    scaled *= slope
    return scaled.astype(np.float32)


def _clahe(image: Array, tiles: int, clip_limit: float, bins: int) -> Floats:
    level = np.minimum((min_max(image) * bins).astype(np.intp), bins - 1)
    edges = [max(1, size // tiles) for size in image.shape]
    counts = [-(-size // edge) for size, edge in zip(image.shape, edges, strict=True)]
    maps = _tile_maps(level, edges, counts, clip_limit, bins)
    # Where each voxel lies between tile centres, along each axis.
    position = [
        np.clip((np.arange(size) + 0.5) / edge - 0.5, 0, count - 1)
        for size, edge, count in zip(image.shape, edges, counts, strict=True)
    ]
    below = [np.floor(p).astype(np.intp) for p in position]
    result = np.zeros(image.shape)
    for corner in np.ndindex(*(2,) * image.ndim):
        tile = np.zeros(image.shape, dtype=np.intp)
        weight = np.ones(image.shape)
        for axis, (step, p, low, count) in enumerate(
            zip(corner, position, below, counts, strict=True)
        ):
            along = [1] * image.ndim
            along[axis] = -1
            tile = tile * count + np.minimum(low + step, count - 1).reshape(along)
            weight = weight * (p - low if step else 1 - (p - low)).reshape(along)
        result += weight * maps[tile, level]
    return min_max(result)


def _tile_maps(
    level: NDArray[np.intp],
    edges: Sequence[int],
    counts: Sequence[int],
    clip_limit: float,
    bins: int,
) -> NDArray[np.float64]:
    """(tiles, bins) cumulative clipped histogram of each tile; the last tiles are mirrored out."""
    sizes = zip(level.shape, edges, counts, strict=True)
    padded = np.pad(level, [(0, edge * n - size) for size, edge, n in sizes], mode="reflect")
    split = [length for pair in zip(counts, edges, strict=True) for length in pair]
    blocks = padded.reshape(split)
    order = [*range(0, blocks.ndim, 2), *range(1, blocks.ndim, 2)]
    blocks = blocks.transpose(order).reshape(int(np.prod(counts)), -1)
    n_tiles, n_voxels = blocks.shape
    index = blocks + bins * np.arange(n_tiles)[:, None]
    histogram = np.bincount(index.ravel(), minlength=n_tiles * bins).reshape(n_tiles, bins)
    limit = max(clip_limit * n_voxels, 1.0, n_voxels / bins)
    clipped = np.minimum(histogram.astype(np.float64), limit)
    for _ in range(_CLIP_ROUNDS):
        # What is cut off is spread over all bins; what that lifts above the limit is cut again.
        clipped += (n_voxels - clipped.sum(axis=1, keepdims=True)) / bins
        clipped = np.minimum(clipped, limit)
    cumulative: NDArray[np.float64] = np.cumsum(clipped, axis=1)
    return cumulative / cumulative[:, -1:]
