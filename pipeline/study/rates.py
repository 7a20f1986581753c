"""A share of what fitted classifiers do on the test scans, with its interval.

A share is a ratio of two means over cells and scans: of the predictions of 0.8 or so, how many are
right; of the scans of a class, how many are called another.

Its interval is Wilson's, of as many patients as would give the share the variance that it has
(``pipeline.shares``). That variance has three parts:

* between test patients, whose scans stand or fall together;
* between subsets of the training patients, and
* between seeds: each less what fits differ by from patient to patient, for that is in the first.

How often the interval holds the truth is measured by
``benchmarks/calibration_coverage.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.shares import effective_patients, share_interval
from pipeline.study.terms import Floats, Term


@dataclass(frozen=True)
class Rate:
    """A share, 0 to 1, with its interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float


def rate(part: Term, whole: Term, patients: NDArray[np.int64], level: float) -> Rate:
    """``part`` over ``whole``, both summed over scans.

    Args:
        part: What is counted, of N scans, over the cells.
        whole: What it is a share of, at least as much for each scan.
        patients: (N,) number of each scan's patient.
        level: Coverage of the interval.
    """
    total = whole.value.sum()
    if not total > 0:
        return Rate(math.nan, math.nan, math.nan)
    value = float(part.value.sum() / total)
    among = np.bincount(patients, part.value - value * whole.value)
    variance = float(among @ among)
    for mine, all_ in ((part.subsets, whole.subsets), (part.seeds, whole.seeds)):
        variance += _beyond_patients(mine - value * all_, patients)
    n_patients = effective_patients(np.bincount(patients, whole.value).astype(np.float64))
    return Rate(value, *share_interval(value, variance / total**2, n_patients, level))


def _beyond_patients(influence: Floats, patients: NDArray[np.int64]) -> float:
    """Variance of a mean by what n replicates do to all patients alike; (n, N) their influences.

    What replicates do to single patients adds to the variance between replicates as well, and is
    taken off; what is left can be none.
    """
    n = len(influence)
    if n < 2:
        return 0.0
    by_patient = np.array([np.bincount(patients, row) for row in influence])
    together = (by_patient.sum(axis=1) ** 2).sum() - (by_patient**2).sum()
    return max(float(together), 0.0) / (n * (n - 1))
