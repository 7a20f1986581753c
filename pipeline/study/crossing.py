"""Where the law of one family overtakes that of another.

A crossing is told where the fitted laws cross once from the smallest size to twice the largest, and
both ends of its interval lie there; a resample whose laws do not cross counts as 0 or infinitely
many patients, and one that crosses the other way round as both. Very few test patients settle none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.study.fitted_curve import Fitted, ordered_interval

AHEAD: Final = 2  # crossings and scores are foretold up to this many times the largest size
_GRID: Final = 400


@dataclass(frozen=True)
class Crossing:
    """Where one family's law overtakes another's.

    Attributes:
        leader: Better with few patients.
        follower: Better with many.
        metric: By which score.
        patients, low, high: Where; 0 and infinity are "before" and "after" all sizes looked at.
        settled: Whether the interval lies within the sizes looked at, and can be trusted.
    """

    leader: str
    follower: str
    metric: str
    patients: float
    low: float
    high: float
    settled: bool


def crossing(
    first: Fitted, second: Fitted, level: float, few_patients: bool = False
) -> Crossing | None:
    """Where the laws of two families cross; None where those of the means do not, or twice.

    Args:
        first, second: The families' laws, resample by resample the same draws.
        level: Of the interval.
        few_patients: Whether the test patients are too few for a verdict.
    """
    smallest = max(first.sizes[0], second.sizes[0])
    largest = AHEAD * min(first.sizes[-1], second.sizes[-1])
    grid = np.geomspace(smallest, largest, _GRID)
    apart = first.laws.error(grid) - second.laws.error(grid)
    if apart[0, 0] > 0:
        first, second, apart = second, first, -apart
    turns = np.flatnonzero(np.diff(apart[0] > 0))
    if len(turns) != 1 or np.isnan(apart[0]).any():
        return None
    behind = apart[~np.isnan(apart).any(axis=1)] > 0  # (R + 1, G): where the first is behind
    at = np.where(behind[:, -1], grid[np.argmax(behind, axis=1)], np.inf)
    at = np.where(behind[:, 0], 0.0, at)
    reversed_ = behind[1:, 0] & ~behind[1:, -1]
    # Crossing the other way round speaks against both ends: it counts as before and as after.
    drawn = np.concatenate([at[1:], np.full(int(reversed_.sum()), np.inf)])
    low, high = ordered_interval(drawn, level)
    settled = smallest < low and high < largest and not few_patients
    return Crossing(first.family, second.family, first.metric, float(at[0]), low, high, settled)
