"""Distances in steps of what those of a pool of scans differ by. Pure functions of arrays.

W columns are distances of one scan from the training scans, two for each part.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# A part's distance counts in steps of what held-out scans differ by, but of this at least: where
# they are all alike (every spacing the same) rounding would be the greatest shift.
_LEAST_STEP: Final = 0.25
_UPPER: Final = 0.9  # the quantile that, less the median, gives the step
_UPPER_SDS: Final = 1.2816  # of a normal distribution
# Scans that are held against all of a pool at once: a few megabytes.
_TOGETHER: Final = 64


def scale(
    pool: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, W) distances -> the median and what they differ by, (W,) each."""
    wide = pool.astype(np.float64)
    middle = np.median(wide, axis=0)
    upper = np.quantile(wide, _UPPER, axis=0, method="lower")
    return middle, np.maximum((upper - middle) / _UPPER_SDS, _LEAST_STEP)


def joined_p_values(
    pool: NDArray[np.float32], distances: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(M, W), (N, W) -> (N,): which share of the pool and itself is as far outside as each row.

    A row is one of the pool from which steps are measured: only then is it, among scans of its own
    cohort, as likely to come first as any.
    """
    ordered = np.sort(pool.astype(np.float64), axis=0)
    found = np.empty(len(distances))
    for start in range(0, len(distances), _TOGETHER):
        rows = distances[start : start + _TOGETHER]
        middle, step = joined_scale(ordered, rows)
        own = in_steps(rows, middle, step).max(axis=1)
        others = in_steps(pool, middle[:, np.newaxis], step[:, np.newaxis]).max(axis=2)
        as_foreign = 1 + np.count_nonzero(others >= own[:, np.newaxis], axis=1)
        found[start : start + len(rows)] = as_foreign / (len(pool) + 1)
    return found


def joined_scale(
    ordered: NDArray[np.float64], distances: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``scale`` of a pool that each row joins, alone: the same bits, without sorting.

    Args:
        ordered: (M, W) the pool, each column sorted.
        distances: (N, W) what joins it.

    Returns:
        (N, W) each.
    """
    count = len(ordered) + 1
    edged = np.pad(ordered, ((1, 1), (0, 0)), constant_values=((-np.inf, np.inf), (0, 0)))
    joining = distances.astype(np.float64)

    def at(rank: int) -> NDArray[np.float64]:
        # from 0: it comes before, between or after its two neighbours in the pool
        return np.clip(joining, edged[rank], edged[rank + 1])

    middle = (at((count - 1) // 2) + at(count // 2)) / 2
    upper = at(int(np.floor((count - 1) * _UPPER)))
    return middle, np.maximum((upper - middle) / _UPPER_SDS, _LEAST_STEP)


def in_steps(
    distances: NDArray[np.float32], middle: NDArray[np.float64], step: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far outside a pool distances lie, in steps of what those of the pool differ by.

    (..., W) distances, and a middle and a step that go with them -> (..., W).
    """
    return np.asarray((distances.astype(np.float64) - middle) / step)


def by_part(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, parts x 2) -> (N, parts): the larger one of each part's two."""
    return np.asarray(steps.reshape(len(steps), -1, 2).max(axis=2))
