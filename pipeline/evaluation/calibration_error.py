"""Expected calibration error, as a function of how often each patient counts.

What is asked is how often class 1 is true where p was said (binary), how often a label is (all
labels together), or how often the most probable class is right (more classes: Guo et al. 2017).
Bins hold equal numbers of predictions, at most 15: bins of equal width are mostly empty where a
classifier is sure (Nixon et al. 2019, "Measuring calibration in deep learning"), and a bin that
holds one scan cannot be corrected for chance. They are laid once, on all scans.

With d_b the mean of truth less probability in bin b, and w_b its share of the predictions,

    ece = sum of w_b |d_b|                                    (Naeini et al. 2015)

is above 0 by chance alone (Brocker 2012; Kumar, Liang and Ma 2019, "Verified uncertainty
calibration", who take the chance of fixed bins off). What Kumar et al. take off is worked out at
the d_b found, which are themselves off by chance: of probabilities that are true it leaves 0.59 of
the error. So ``ece_debiased`` is the error whose resamples have the one found as their median.
Where a model is off and patients are few it is still a little too small (docs/evaluation.md has how
far).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from data_prep.task import Task
from pipeline.weighted_metrics import Floats, Labels, sums

MOST_BINS: Final = 15
_LARGEST: Final = 64.0
_HALVINGS: Final = 20
_NO_SCATTER: Final = 1e-12  # variance of a gap that no resample moves
_SCANS_PER_BIN: Final = 10  # fewer say nothing, and their variance cannot be told


@dataclass(frozen=True, eq=False)
class CalibrationError:
    """Sums over patients and bins.

    Attributes:
        rows: (2 * B, P): predictions, and their residuals (truth less probability), by bin and
            patient.
    """

    rows: Floats

    @classmethod
    def of(
        cls, task: Task, target: Labels, probability: Floats, patient: Labels
    ) -> CalibrationError:
        """Sort predictions (N, n_classes) into bins; patients (N,) are numbered from 0."""
        said, true = predictions(task, target, probability)
        whose = np.repeat(patient, said.shape[1])
        place = bins_of(said.ravel())
        n_bins, n_patients = int(place.max()) + 1, int(patient.max()) + 1
        cell = place * n_patients + whose
        shape = (n_bins, n_patients)
        n = sums(cell, np.ones(len(cell)), n_bins * n_patients).reshape(shape)
        r = sums(cell, (true - said).ravel(), n_bins * n_patients).reshape(shape)
        return cls(np.concatenate([n, r]))

    def __call__(self, weights: Floats) -> Bins:
        """Weights (P, R) -> the bins of each resample."""
        n, r = (self.rows @ weights).reshape(2, -1, weights.shape[1])
        with np.errstate(invalid="ignore"):
            return Bins(n / n.sum(axis=0), np.where(n > 0, r / n, 0))


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins of R resamples, each of (B, R).

    Attributes:
        share: Of the predictions.
        gap: Mean of truth less probability.
    """

    share: Floats
    gap: Floats

    @property
    def ece(self) -> Floats:
        """(R,) mean distance of truth from probability."""
        total: Floats = (self.share * np.abs(self.gap)).sum(axis=0)
        return total


def estimate(found: Bins, drawn: Bins, n_patients: int, level: float) -> tuple[float, float, float]:
    """The debiased error and its interval, by inverting a test of each error that there may be.

    Resamples scatter about what was found, which is itself off by chance: their percentiles leave
    0 out of every interval. So a pattern of gaps is shrunk, or stretched, by one factor; resamples
    say how gaps scatter, and a factor is kept unless the error found is among the least, or the
    largest, of those that scatter about it (Carpenter 1999, "Test inversion bootstrap confidence
    intervals"). The tails are Student's, by the patients in a bin, whose scatter is as uncertain
    as they are few.

    Args:
        found: Bins on all scans, (B, 1).
        drawn: Bins of resamples, (B, R).
        n_patients: How many were resampled.
        level: Coverage that is aimed at.

    Returns:
        Value, low and high.
    """
    error, n = float(found.ece[0]), max(n_patients / len(found.gap), 2.0)
    scatter = (drawn.gap - found.gap) * math.sqrt(n / (n - 1))  # resamples of n vary less by that
    pattern = steadied(found.gap, scatter)
    size = float((found.share * np.abs(pattern)).sum())

    def above(factor: float) -> float:
        """Share of resamples whose error, were gaps so many times as large, is the larger."""
        ece = (drawn.share * np.abs(factor * pattern + scatter)).sum(axis=0)
        return float((ece > error).mean() + (ece == error).mean() / 2)

    tail = float(norm.cdf(-student.ppf((1 + level) / 2, n - 1)))
    value, low, high = (size * _crossing(above, share) for share in (0.5, tail, 1 - tail))
    return value, low, high


def steadied(gap: Floats, scatter: Floats) -> Floats:
    """(B, 1) gaps with less of what is chance in them.

    Gaps found differ more from bin to bin than true ones do, and errors of so uneven a pattern
    grow faster with its size: the interval ends too low. So they are drawn towards a straight line
    over the bins, as far as chance explains their distance from it (the positive-part estimator of
    James and Stein, towards a line as in Efron and Morris 1975, "Data analysis using Stein's
    estimator").
    """
    found, deviation = gap[:, 0], np.sqrt(scatter.var(axis=1) + _NO_SCATTER)
    line = np.stack([np.ones(len(found)), np.linspace(-1, 1, len(found))], axis=1)
    slopes = np.linalg.lstsq(line / deviation[:, None], found / deviation, rcond=None)[0]
    rest = found - line @ slopes
    apart, by_chance = float(((rest / deviation) ** 2).sum()), max(len(found) - 4, 0)
    kept = max(0.0, 1 - by_chance / apart) if apart > 0 else 1.0
    pattern: Floats = (found - (1 - kept) * rest)[:, None]
    return pattern


def _crossing(above: Callable[[float], float], share: float) -> float:
    """Where a share that rises with the factor reaches ``share``; 0 if it does from the start."""
    if above(0.0) >= share:
        return 0.0
    low, high = 0.0, 1.0
    while above(high) < share and high < _LARGEST:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) < share else (low, middle)
    return high


def predictions(task: Task, target: Labels, probability: Floats) -> tuple[Floats, Floats]:
    """(N, Q) probability of each of Q answers to a scan, and 1 where it is true, else 0."""
    if task.is_multi_label:
        return probability, target.astype(np.float64)
    if task.kind == "binary":
        return probability[:, 1:], (target == 1)[:, None].astype(np.float64)
    right = probability.argmax(axis=1) == target
    return probability.max(axis=1, keepdims=True), right[:, None].astype(np.float64)


def bins_of(said: Floats) -> Labels:
    """(N,) bin of each prediction, from 0 by rising probability; equal ones stay together."""
    n_bins = min(MOST_BINS, max(1, len(said) // _SCANS_PER_BIN))
    edges = np.unique(np.quantile(said, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, said, side="right"), return_inverse=True)[1]
