"""AUC with DeLong's variance: what each patient adds to it, and so intervals and paired tests.

For M positive and N negative scans with scores X and Y, the AUC is the mean of the placements

    V10_i = share of negatives below X_i,   V01_j = share of positives above Y_j

(ties count one half), and its variance is var(V10)/M + var(V01)/N (DeLong, DeLong and
Clarke-Pearson 1988), with placements from mid-ranks in O(n log n) (Sun and Xu 2014). Scans of one
patient are not independent, so deviations of placements are summed by patient first (Obuchowski
1997), each side scaled by I/(I - 1) for its number I of patients. With one scan a patient that is
DeLong's variance exactly. For patients with scans of both kinds Obuchowski scales the mixed term by
all patients in place of sqrt of the two factors: a difference of order 1/I.

Everything is linear in placements: for a mean over classes (one against the rest), labels or cells,
the deviations are averaged alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from data_prep.task import Task
from pipeline.weighted_metrics import Floats, Labels, questions


@dataclass(frozen=True, eq=False)
class AucParts:
    """An AUC and what each patient adds to its deviation.

    Attributes:
        value: The AUC; NaN where a class does not occur, or is the only one.
        patients: (P,) deviations, in the order of ``np.unique`` of the patients' ids; the sum of
            their squares is the variance, the sum of products of two AUCs' the covariance.
        rarest: Patients on the side, of any question, that has the fewest: what the variance mostly
            rests on. None where that is not known, or they are many.
    """

    value: float
    patients: Floats
    rarest: int | None = None

    @property
    def variance(self) -> float:
        """Variance of the AUC over test patients."""
        return float(self.patients @ self.patients)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Interval on the scale of the log odds, so that it stays within 0 and 1.

        The variance of few patients is itself uncertain, and the normal quantile then too small:
        it is Student's, with a degree of freedom less than there are patients of the rarest side
        (coverage in docs/evaluation.md). Where the AUC is 0 or 1 there is no variance to see, and
        the ends are the AUC itself (Pepe 2003, section 5.2.5).
        """
        if not 0 < self.value < 1:
            return self.value, self.value
        odds = math.log(self.value / (1 - self.value))
        law = norm if self.rarest is None else student(max(self.rarest - 1, 1))
        half = float(law.ppf((1 + level) / 2)) * math.sqrt(self.variance)
        half /= self.value * (1 - self.value)
        return 1 / (1 + math.exp(half - odds)), 1 / (1 + math.exp(-half - odds))


def placements(truth: NDArray[np.bool_], scores: Floats) -> Floats:
    """Each scan's placement among the scans of the other kind.

    Args:
        truth: (N,) which are positive; both kinds occur.
        scores: (..., N).

    Returns:
        (..., N): of a positive the share of negatives below it, of a negative the share of
        positives above it, ties one half.
    """
    overall = rankdata(scores, axis=-1)
    found = np.empty(scores.shape)
    for kind in (True, False):
        mine, others = truth == kind, int((truth != kind).sum())
        below = (overall[..., mine] - rankdata(scores[..., mine], axis=-1)) / others
        found[..., mine] = below if kind else 1 - below
    return found


def auc_parts(
    task: Task, target: Labels, probability: Floats, patient_ids: NDArray[np.str_]
) -> AucParts:
    """The AUC of ``pipeline.metrics``, or its mean over several classifiers of the same scans.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (..., N, n_classes); leading axes are averaged over; of no classifier the
            AUC is NaN.
        patient_ids: (N,) patient of each scan.
    """
    names, patient = np.unique(patient_ids, return_inverse=True)
    values, total, rarest = [], np.zeros(len(names)), len(names)
    rows = probability.reshape(-1, *probability.shape[-2:])
    for truth, scores in questions(task, target, rows):
        if not len(rows) or truth.all() or not truth.any():
            return AucParts(math.nan, np.full(len(names), math.nan))
        of_scan = placements(truth, scores).mean(axis=0)
        value = float(of_scan[truth].mean())
        values.append(value)
        for side in (truth, ~truth):
            deviation = np.where(side, of_scan - value, 0) / side.sum()
            n_patients = len(np.unique(patient[side]))
            rarest = min(rarest, n_patients)
            scale = math.sqrt(n_patients / (n_patients - 1)) if n_patients > 1 else math.nan
            total += scale * np.bincount(patient, weights=deviation, minlength=len(names))
    return AucParts(float(np.mean(values)), total / len(values), rarest)
