"""A share of what fitted classifiers do on the test scans, with its interval.

A share is a ratio of two means over cells and scans: of the predictions of 0.8 or so, how many are
right; of the scans of a class, how many are called another.

A percentile interval of resamples has no width where nothing, or everything, is counted, for no
resample of none is ever some; and from few scans it is too narrow. So the interval is Wilson's
(1927), of as many patients as would give the share the variance that it has (the effective sample
size of Korn and Graubard 1998). That variance is linearised (Woodruff 1971) and has three parts:

* between test patients, whose scans stand or fall together;
* between subsets of the training patients, and
* between seeds: each less what fits differ by from patient to patient, for that is in the first.

A share of 0 or 1, or less than a patient away from there, shows no variance to go by. It is of no
more patients than have what it is a share of, by Kish's effective number (1965, section 11.7). How
often the interval holds the truth is measured by ``benchmarks/calibration_coverage.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

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
    by_patient = np.bincount(patients, whole.value)
    n_patients = float(total**2 / (by_patient**2).sum())
    among = np.bincount(patients, part.value - value * whole.value)
    variance = float(among @ among)
    for mine, all_ in ((part.subsets, whole.subsets), (part.seeds, whole.seeds)):
        variance += _beyond_patients(mine - value * all_, patients)
    n = value * (1 - value) * total**2 / variance if variance > 0 else math.inf
    if min(value, 1 - value) * n_patients < 1:
        n = min(n, n_patients) if 0 < value < 1 else n_patients
    return Rate(value, *wilson(value, n, level))


def wilson(share: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's interval of a share of n that are independent; n need not be whole."""
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)


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
