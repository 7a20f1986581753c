"""A share of what fitted classifiers do on the test scans, with its interval.

A share is a ratio of two means over cells and scans: of the predictions of 0.8 or so, how many are
right; of the scans of a class, how many are called another. Its interval resamples test patients,
subsets and seeds with the draws of the learning curves, as ``pipeline.study.components`` does for
single means; a resample of subsets or seeds moves the ratio by its first-order influence (the delta
method: Davison and Hinkley 1997, section 2.7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.study.learning_curve import Draws, deviation, interval
from pipeline.study.terms import Floats, Term


@dataclass(frozen=True)
class Rate:
    """A share, 0 to 1, with its interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float


def rate(part: Term, whole: Term, weights: Floats, draws: Draws, level: float) -> Rate:
    """``part`` over ``whole``, both summed over scans.

    Args:
        part: What is counted, of N scans, over the cells.
        whole: What it is a share of, at least as much for each scan.
        weights: (N, R) how often each scan's patient is drawn in each resample.
        draws: Which subsets and seeds each resample takes.
        level: Coverage of the interval.
    """
    if not whole.value.sum() > 0:
        return Rate(math.nan, math.nan, math.nan)
    count, total = part.value @ weights, whole.value @ weights
    total = np.where(total > 0, total, np.nan)  # resamples without any are left out
    drawn: Floats = count / total
    for mine, all_, uniform in (
        (part.subsets, whole.subsets, draws.subsets),
        (part.seeds, whole.seeds, draws.seeds),
    ):
        influence = (mine @ weights - count / total * (all_ @ weights)) / total
        drawn = drawn + deviation(influence, uniform)
    low, high = interval(np.clip(drawn, 0, 1), level)
    return Rate(float(part.value.sum() / whole.value.sum()), low, high)
