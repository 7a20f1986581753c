"""Metrics that count decisions, as functions of how often each patient counts.

All follow from the confusion matrix C (truth i, decision j), of each resample its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.weighted_metrics import Floats, Labels, sums

Scores = dict[str, Floats]
Shares = dict[str, tuple[Floats, Floats]]  # (P,) what is counted, and of what, by patient


@dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion matrices of patients.

    Attributes:
        counts: (K, K, P) scans of each truth and decision, by patient.
        ordered: True where classes have an order, so that there is a kappa.
    """

    counts: Floats
    ordered: bool = False

    @classmethod
    def of(
        cls,
        truth: Labels,
        decided: Labels,
        n_classes: int,
        patient: Labels,
        *,
        ordered: bool = False,
    ) -> Confusion:
        """Count (N,) decisions by patient, each numbered from 0."""
        n_patients = int(patient.max()) + 1 if len(patient) else 0
        cell = (truth * n_classes + decided) * n_patients + patient
        counts = sums(cell, np.ones(len(cell)), n_classes**2 * n_patients)
        return cls(counts.reshape(n_classes, n_classes, n_patients), ordered)

    def __call__(self, weights: Floats) -> Scores:
        """Weights (P, R) -> each metric (R,); NaN where it is undefined.

        * ``accuracy``;
        * ``balanced_accuracy``: mean recall of the classes that occur;
        * ``f1``: mean over the classes that occur or are decided for ("macro");
        * ``mcc``: Matthews' correlation, of more than two classes as Gorodkin (2004) has it; 0
          where every decision is the same;
        * ``kappa``: Cohen's, weighted by the squared distance of classes (1968), if ordered.

        The last four are undefined where only one class occurs.
        """
        c = (self.counts.reshape(-1, len(weights)) @ weights).reshape(*self.counts.shape[:2], -1)
        true, said, right = c.sum(axis=1), c.sum(axis=0), np.einsum("iir->ir", c)
        total, hits = true.sum(axis=0), right.sum(axis=0)
        varied = (true > 0).sum(axis=0) > 1
        found = {
            "accuracy": _over(hits, total),
            "balanced_accuracy": mean_of_known(_over(right, true)),
            "f1": mean_of_known(_over(2 * right, true + said)),
            "mcc": _correlation(hits, total, true, said),
        }
        if self.ordered:
            place = np.arange(len(c))
            apart = (place[:, None] - place) ** 2
            by_chance = np.einsum("ij,ir,jr->r", apart, true, said)
            found["kappa"] = 1 - _over(np.einsum("ij,ijr->r", apart, c) * total, by_chance)
        return {
            name: value if name == "accuracy" else np.where(varied, value, np.nan)
            for name, value in found.items()
        }

    @property
    def right(self) -> tuple[Floats, Floats]:
        """(P,) right decisions, and all."""
        return np.einsum("iip->p", self.counts), self.counts.sum(axis=(0, 1))


@dataclass(frozen=True, eq=False)
class Detection:
    """What decisions for one class, against the rest, get right.

    Attributes:
        counts: (4, P) true positives, false negatives, true negatives, false positives by patient.
    """

    counts: Floats

    @classmethod
    def of(cls, truth: NDArray[np.bool_], decided: NDArray[np.bool_], patient: Labels) -> Detection:
        """Count (N,) decisions by patient, numbered from 0."""
        n_patients = int(patient.max()) + 1 if len(patient) else 0
        kinds = (truth & decided, truth & ~decided, ~truth & ~decided, ~truth & decided)
        return cls(np.stack([sums(patient, kind.astype(float), n_patients) for kind in kinds]))

    def __call__(self, weights: Floats) -> Scores:
        """Weights (P, R) -> each metric (R,); NaN where it would be 0 / 0."""
        hits, misses, rejections, alarms = self.counts @ weights
        parts = _rates(hits, misses, rejections, alarms)
        found = {name: _over(part, whole) for name, (part, whole) in parts.items()}
        return found | {"f1": _over(2 * hits, 2 * hits + misses + alarms)}

    @property
    def shares(self) -> Shares:
        """The metrics that are shares of scans."""
        return _rates(*self.counts)


def _rates(hits: Floats, misses: Floats, rejections: Floats, alarms: Floats) -> Shares:
    ill, healthy = hits + misses, rejections + alarms
    return {
        "sensitivity": (hits, ill),
        "specificity": (rejections, healthy),
        "ppv": (hits, hits + alarms),
        "npv": (rejections, rejections + misses),
        "prevalence": (ill, ill + healthy),
    }


def _over(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = np.where(whole > 0, part / whole, np.nan)
    return ratio


def mean_of_known(values: Floats) -> Floats:
    """Mean over the first axis of (n, ...), NaN left out."""
    known = ~np.isnan(values)
    return _over(np.where(known, values, 0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _correlation(hits: Floats, total: Floats, true: Floats, said: Floats) -> Floats:
    spread = (total**2 - (true**2).sum(axis=0)) * (total**2 - (said**2).sum(axis=0))
    covariance = hits * total - (true * said).sum(axis=0)
    return np.where(spread > 0, _over(covariance, np.sqrt(np.maximum(spread, 0))), 0.0)
