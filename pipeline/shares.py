"""The interval of a share, 0 to 1, of scans that come in patients.

A percentile interval of resamples has no width where nothing, or everything, is counted, for no
resample of none is ever some; and from few scans it is too narrow. Wilson's (1927) has a width
there. It is taken of as many patients as would give the share the variance that it has (the
effective sample size of Korn and Graubard 1998), and that variance is linearised over patients,
whose scans stand or fall together (Woodruff 1971).

A share of 0 or 1, or less than a patient away from there, shows no variance to go by. It is of no
more patients than have what it is a share of, by Kish's effective number (1965, section 11.7).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def wilson(share: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's interval of a share of n that are independent; n need not be whole."""
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)


def effective_patients(whole: NDArray[np.float64]) -> float:
    """Kish's effective number of patients, of whom (P,) ``whole`` are counted; not all 0."""
    return float(whole.sum() ** 2 / (whole**2).sum())


def share_interval(
    share: float, variance: float, n_patients: float, level: float
) -> tuple[float, float]:
    """Wilson's interval of a share with a known variance.

    Args:
        share: The share.
        variance: Of the share, over patients and whatever else varies.
        n_patients: Effective number of the patients that it is a share of.
        level: Coverage of the interval.
    """
    n = share * (1 - share) / variance if variance > 0 else math.inf
    if min(share, 1 - share) * n_patients < 1:
        n = min(n, n_patients) if 0 < share < 1 else n_patients
    return wilson(share, n, level)


def clustered_share(
    part: NDArray[np.float64], whole: NDArray[np.float64], level: float
) -> tuple[float, float]:
    """The interval of ``part`` over ``whole``, both summed over patients.

    Args:
        part: (P,) what is counted of each patient's scans.
        whole: (P,) what it is a share of, at least as much; not all 0.
        level: Coverage of the interval.
    """
    share = float(part.sum() / whole.sum())
    among = (part - share * whole) / whole.sum()
    return share_interval(share, float(among @ among), effective_patients(whole), level)
