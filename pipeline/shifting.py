"""Doing to a scan what a ``Shift`` states, as pure functions of arrays.

Intensities are taken as they stand in the array, on whatever scale: gain and field multiply them
about 0. What is stated as a share of the scan's range is a share of its 1st to 99th percentile
(all channels together); no intensity is clipped, as a saturating detector would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_prep.sampling import Sampling, apply_along_axes, weights
from data_prep.volume import Array
from pipeline.shifts import Kind, Shift

Floats = NDArray[np.float32]
_MODES: Final = {"edge": "nearest", "wrap": "grid-wrap"}
_ROBUST_PERCENT: Final = (1.0, 99.0)


def shift_scan(array: Floats, shift: Shift, seed: int | Sequence[int] = 0) -> Floats:
    """One scan, shifted.

    Args:
        array: (C, I, J[, K]) float32; left as it is, and returned itself where the shift is
            neutral.
        shift: What is to be done.
        seed: Decides the noise; the same for all amounts, so that more noise is more of the same.

    Returns:
        The same shape, float32. Where ``orientation`` exchanges axes of different length, the
        scan is stretched to its shape again.

    Raises:
        ConfigError: ``shift.no_axis``.
    """
    if shift.is_neutral:
        return array
    ndim = array.ndim - 1
    shift.axes_of(ndim)
    match shift.kind:
        case "noise":
            normal = np.random.default_rng(seed).standard_normal(array.shape, dtype=np.float32)
            return array + np.float32(shift.amount * _range(array)[1]) * normal
        case "blur":
            return _blurred(array, shift.amount)
        case "flip":
            return np.ascontiguousarray(np.flip(array, tuple(a + 1 for a in shift.axes_of(ndim))))
        case "orientation":
            return _stretched(misread(array, int(shift.amount)), array.shape[1:])
        case "rotation" | "shift" | "scale":
            return _moved(array, shift)
        case _:
            return _INTENSITY[shift.kind](array, shift.amount).astype(np.float32)


def shift_batch(x: Floats, shift: Shift, seed: int = 0) -> Floats:
    """Scans (N, C, I, J[, K]) float32, each shifted; scan n has the noise of seed (``seed``, n).

    Raises:
        ConfigError: ``shift.no_axis``.
    """
    if shift.is_neutral:
        return x
    out = np.empty(x.shape, dtype=np.float32)
    for number, array in enumerate(x):
        out[number] = shift_scan(array, shift, (seed, number))
    return out


def misread(array: Array, mistake: int) -> Array:
    """A view of (C, I, J[, K]) with its axes as a mistake of ``ORIENTATION_MISTAKES`` has them.

    Where the first two axes are exchanged or turned, so are their lengths. 0 is no mistake.
    """
    match mistake:
        case 1:
            return array.swapaxes(1, 2)
        case 2:
            return np.flip(array, (1, 2))
        case 3:
            return np.flip(array, -1)
        case 4:
            return np.rot90(array, axes=(1, 2))
        case _:
            return array


def _range(array: Floats) -> tuple[float, float]:
    """Lower end and width of the robust range; where it is empty, of the whole range."""
    low, high = np.percentile(array, _ROBUST_PERCENT)
    if high <= low:  # a small pattern before a background of one value
        low, high = array.min(), array.max()
    return float(low), float(high - low)


def _gain(array: Floats, factor: float) -> Array:
    return array * np.float32(factor)


def _bias(array: Floats, share: float) -> Array:
    return array + np.float32(share * _range(array)[1])


def _field(array: Floats, factor: float) -> Array:
    """The logarithm of the factor is linear along the scan's diagonal, 0 in the centre."""
    edges = array.shape[1:]
    ndim = len(edges)
    position = np.zeros(edges)
    for axis, length in enumerate(edges):
        along = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
        position += along.reshape([-1 if a == axis else 1 for a in range(ndim)]) / ndim
    return array * np.exp(math.log(factor) * position)


def _gamma(array: Floats, exponent: float) -> Array:
    low, width = _range(array)
    if not width:
        return array
    share = (array - low) / width
    # Below the range there is no power of a negative number: the curve goes on straight.
    return low + width * np.where(share > 0, np.maximum(share, 0) ** exponent, share)


_INTENSITY: Final[dict[Kind, Callable[[Floats, float], Array]]] = {
    "gain": _gain,
    "bias": _bias,
    "field": _field,
    "gamma": _gamma,
}


def _blurred(array: Floats, sigma_px: float) -> Floats:
    sigmas = (0.0, *(sigma_px,) * (array.ndim - 1))
    blurred: Floats = ndimage.gaussian_filter(array, sigmas, mode="nearest")
    return blurred


def _moved(array: Floats, shift: Shift) -> Floats:
    """Linear interpolation at input voxel ``matrix @ (o - centre) + centre - offset``."""
    ndim = array.ndim - 1
    matrix, offset = np.eye(ndim), np.zeros(ndim)
    if shift.kind == "rotation":
        a, b = shift.axes_of(ndim)
        # Rounded, so that a quarter turn meets voxel centres exactly.
        angle = math.radians(shift.amount)
        cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
        matrix[a, a] = matrix[b, b] = cosine
        matrix[a, b], matrix[b, a] = sine, -sine
    elif shift.kind == "scale":
        matrix /= shift.amount
        if shift.amount < 1:  # as data_prep.geometry.to_grid, where voxels grow
            array = _blurred(array, (1 / shift.amount - 1) / 2)
    else:
        offset[list(shift.axes_of(ndim))] = shift.amount
    centre = (np.array(array.shape[1:]) - 1) / 2
    start = centre - matrix @ centre - offset
    out = np.empty(array.shape, dtype=np.float32)
    for channel, moved in zip(array, out, strict=True):
        ndimage.affine_transform(
            channel, matrix, start, output=moved, order=1, mode=_MODES[shift.beyond]
        )
    return out


def _stretched(array: Array, shape: tuple[int, ...]) -> Floats:
    samplings = [Sampling.centred(n, m, n / m) for n, m in zip(array.shape[1:], shape, strict=True)]
    return apply_along_axes(array, [weights(sampling) for sampling in samplings])
