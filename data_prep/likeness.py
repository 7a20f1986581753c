"""How alike two miniatures are, and how alike they must be to be the same image.

Planes are band-passed before they are correlated: finer structures are noise, and coarser ones
every scan of the same body part shares.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.miniature import EDGE, Planes

# Found by benchmarks/near_duplicates.py: copies of real scans reach it in spite of noise, JPEG
# and shifts, other patients' scans do so once in a million pairs.
MIN_CORRELATION: Final = 0.96
# However alike a cohort's scans are: copies that differ in gain and offset only reach this.
MAX_MIN_CORRELATION: Final = 0.999
# How far from the cohort's ordinary pairs a pair must lie, in standard deviations of Fisher's z:
# one in three million where z is normal (Fisher 1915).
STAND_OUT: Final = 5.0

_SIGMA_FINE: Final = 1.0  # pixels of the miniature
_SIGMA_COARSE: Final = 3.0
_MARGIN: Final = 2  # pixels at the border that take no part: a shift brings new ones in
SHIFTS: Final = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))
_TINY: Final = 1e-6  # in grey levels of 0 to 255
_SAMPLE: Final = 4000  # pairs that show how alike the scans of a cohort are
_SEED: Final = 0xD0B1
_NORMAL_90: Final = 1.2816  # 90th percentile of the standard normal distribution
_BATCH: Final = 256

Floats = NDArray[np.float64]


def least_correlation(planes: Planes, groups: NDArray[np.int64]) -> float:
    """The correlation that two scans need, so that they stand out from scans that are just alike.

    Of random pairs of different groups, the median of Fisher's z plus five standard deviations;
    these are read off the 90th percentile, so that copies among the pairs do not count. Never
    below 0.96 or above 0.999.

    Args:
        planes: (N, P, 32, 32).
        groups: (N,), at least two different ones.
    """
    if len(planes) ** 2 <= _SAMPLE:
        a, b = np.triu_indices(len(planes), 1)
    else:
        a, b = np.random.default_rng(_SEED).integers(0, len(planes), (2, 4 * _SAMPLE))
    other = np.flatnonzero(groups[a] != groups[b])[:_SAMPLE]
    parts = [other[start : start + _BATCH] for start in range(0, len(other), _BATCH)]
    if not parts:
        return MIN_CORRELATION
    found = np.concatenate([correlation(planes[a[at]], planes[b[at]]).min(axis=1) for at in parts])
    z = np.arctanh(np.clip(found, -MAX_MIN_CORRELATION, MAX_MIN_CORRELATION))
    median, high = np.percentile(z, (50, 90))
    wanted = float(np.tanh(median + STAND_OUT * (high - median) / _NORMAL_90))
    return min(max(wanted, MIN_CORRELATION), MAX_MIN_CORRELATION)


def correlation(a: Planes, b: Planes) -> Floats:
    """Correlation of each pair of band-passed planes, after the best shift of ``b``.

    The best of the nine shifts by whole pixels is refined to a part of one.

    Args:
        a, b: (N, P, 32, 32).

    Returns:
        (N, P) of -1 to 1. Two flat planes correlate at 1, a flat one and another at 0.
    """
    passed = _band_pass(b.reshape(-1, EDGE, EDGE))
    slopes = [np.gradient(passed, axis=axis) for axis in (1, 2)]
    still = _unit(_window(_band_pass(a.reshape(-1, EDGE, EDGE)), (0, 0)))
    whole = np.stack([_dot(still, _unit(_window(passed, shift))) for shift in SHIFTS])
    chosen, best = whole.argmax(axis=0), whole.max(axis=0)
    for number, shift in enumerate(SHIFTS):
        at = np.flatnonzero(chosen == number)
        moved = [_window(planes[at], shift) for planes in (passed, *slopes)]
        best[at] = np.maximum(best[at], _refined(still[at], *moved))
    both_flat = ~still.any(axis=1) & ~_unit(_window(passed, (0, 0))).any(axis=1)
    return np.where(both_flat, 1.0, best).reshape(a.shape[:2])


def _refined(still: Floats, plane: Floats, down: Floats, across: Floats) -> Floats:
    """Correlation with ``plane`` shifted by at most half a pixel, given its slopes; (M, 784) each.

    To first order a shift by a part of a pixel adds a part of the slope, so that the best one
    solves two linear equations (Lucas and Kanade 1981).
    """
    plane, down, across = _centred(plane), _centred(down), _centred(across)
    # What the plane lacks to be the still one, at the plane's own contrast.
    contrast = _dot(plane, plane) / np.maximum(_dot(still, plane), _TINY)
    lacking = still * contrast[:, None] - plane
    dd, aa, da = _dot(down, down), _dot(across, across), _dot(down, across)
    ld, la = _dot(lacking, down), _dot(lacking, across)
    determinant = np.maximum(dd * aa - da * da, _TINY)
    step_down = np.clip((aa * ld - da * la) / determinant, -0.5, 0.5)[:, None]
    step_across = np.clip((dd * la - da * ld) / determinant, -0.5, 0.5)[:, None]
    return _dot(still, _unit(plane + step_down * down + step_across * across))


def _band_pass(planes: Planes) -> Floats:
    """(M, 32, 32): what lies between two Gaussians."""
    grey = planes.astype(np.float64)
    fine, coarse = _gaussian(_SIGMA_FINE), _gaussian(_SIGMA_COARSE)
    return np.asarray(fine @ grey @ fine.T - coarse @ grey @ coarse.T)


@lru_cache(maxsize=2)
def _gaussian(sigma: float) -> Floats:
    """(32, 32): convolves with a Gaussian cut at 4 sigma, the edge pixel repeated outwards."""
    reach = round(4 * sigma)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix = np.zeros((EDGE, EDGE))
    for row in range(EDGE):
        np.add.at(matrix[row], np.clip(row + offsets, 0, EDGE - 1), weights / weights.sum())
    return matrix


def _window(passed: Floats, shift: tuple[int, int]) -> Floats:
    """The middle of the planes, shifted: (M, 32, 32) -> (M, 28 x 28)."""
    rows, columns = (slice(_MARGIN + step, EDGE - _MARGIN + step) for step in shift)
    return passed[:, rows, columns].reshape(len(passed), (EDGE - 2 * _MARGIN) ** 2)


def _unit(vectors: Floats) -> Floats:
    """Vectors less their mean, of length 1; zero where nothing but rounding is left."""
    centred = _centred(vectors)
    length = np.sqrt(_dot(centred, centred))[:, None]
    return np.where(length > _TINY, centred / np.maximum(length, _TINY), 0.0)


def _centred(vectors: Floats) -> Floats:
    return np.asarray(vectors - vectors.mean(axis=1, keepdims=True))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("mx,mx->m", a, b))
