"""The interval of a metric from patient-clustered resamples, and what stands in for it.

Percentiles of resamples are too narrow on few patients, and off to one side where a metric is near
its best. So they are corrected for bias and acceleration (BCa: Efron 1987, "Better bootstrap
confidence intervals"), the acceleration from leaving patients out, and their level is widened as
Student's t is wider than the normal (Hesterberg 2015, "What teachers should know about the
bootstrap", section 3.1.1), by the number of patients that the metric rests on.

A metric at a threshold that keeps a share fixed is a quantile of scores, a step function of the
patients: leaving one out moves it by a whole step or not at all, and says nothing of acceleration.
It has widened percentiles.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from pipeline.weighted_metrics import Floats

_NEARLY: Final = 1e-9


def bca(
    value: float, drawn: Floats, left_out: Floats, n_patients: int, level: float
) -> tuple[float, float]:
    """The bootstrap's interval.

    Args:
        value: The metric on all patients.
        drawn: (R,) of resamples, all defined.
        left_out: (G,) of all patients but a group, group after group.
        n_patients: How many the metric rests on: of the rarest class, or of a share those that it
            is a share of; at least 2.
        level: Coverage that is aimed at.
    """
    z = _widened(n_patients, level)
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    bias = float(norm.ppf(min(max(below, 1 / len(drawn)), 1 - 1 / len(drawn))))
    pull = np.nanmean(left_out) - left_out
    pull = pull[~np.isnan(pull)]
    spread = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    shares = []
    for end in (bias - z, bias + z):
        shrunk = 1 - acceleration * end
        # beyond its pole the correction says nothing more than "the end of what was drawn"
        shares.append(norm.cdf(bias + end / shrunk) if shrunk > 0 else float(end > 0))
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)


def percentiles(drawn: Floats, n_patients: int, level: float) -> tuple[float, float]:
    """The bootstrap's interval of a metric that is a step function of the patients.

    Args:
        drawn: (R,) of resamples, all defined.
        n_patients: How many there are of the rarest class; at least 2.
        level: Coverage that is aimed at.
    """
    z = _widened(n_patients, level)
    low, high = np.quantile(drawn, norm.cdf((-z, z)))
    return float(low), float(high)


def _widened(n_patients: int, level: float) -> float:
    """The normal deviate, as far out as so many patients ask for."""
    beyond = float(student.ppf((1 + level) / 2, n_patients - 1))
    return beyond * math.sqrt(n_patients / (n_patients - 1))


def newcombe(auc: float, positives: float, negatives: float, level: float) -> tuple[float, float]:
    """An interval of an AUC that is 0 or 1, or from so few scans that no resample differs.

    Every AUC is kept that is not too far from the one found, by the variance that it itself would
    have (Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2", method 5).

    Args:
        auc: As found.
        positives, negatives: How many patients there are of each.
        level: Coverage that is aimed at.
    """
    z = float(norm.ppf((1 + level) / 2))
    mean = (positives + negatives) / 2 - 1

    def excess(other: float) -> float:
        spread = 1 + mean * ((1 - other) / (2 - other) + other / (1 + other))
        return (auc - other) ** 2 - z**2 * other * (1 - other) * spread / (positives * negatives)

    def end(outermost: float) -> float:
        if abs(auc - outermost) < _NEARLY:
            return outermost
        inner = auc + (outermost - auc) * _NEARLY
        return float(brentq(excess, inner, outermost))

    return end(0.0), end(1.0)
