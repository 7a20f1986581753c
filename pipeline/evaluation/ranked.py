"""Metrics of how scans of a class rank, as functions of how often each patient counts.

A threshold falls from above the highest probability to below the lowest; scans of equal
probability are admitted together. What is admitted in each resample are two cumulative sums, of
positives and of negatives, taken once for all of these metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.counted import Scores
from pipeline.weighted_metrics import Auc, Floats, Labels

_WHOLE = 1e-9  # what rounding may take from a limit on a count of scans


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scans in the order of falling probability.

    Attributes:
        auc: Area under the ROC curve.
        positive, negative: Patient of each positive, and each negative, scan, in that order.
        hits, alarms: (G,) positives and negatives admitted at each distinct probability; the
            first admits none.
        at: Specificity that is held for ``sensitivity_at_specificity``, and the reverse.
    """

    auc: Auc
    positive: Labels
    negative: Labels
    hits: Labels
    alarms: Labels
    at: float

    @classmethod
    def of(cls, truth: NDArray[np.bool_], scores: Floats, patient: Labels, at: float) -> Ranking:
        """Rank (N,) scans by score; patients are numbered from 0."""
        order = np.argsort(-scores, kind="stable")
        true, fallen, whose = truth[order], scores[order], patient[order]
        last = np.append(np.flatnonzero(np.diff(fallen)), len(fallen) - 1)
        hits = np.cumsum(true)[last] if len(fallen) else last
        return cls(
            auc=Auc.of(truth, scores, patient),
            positive=whose[true],
            negative=whose[~true],
            hits=np.append(0, hits),
            alarms=np.append(0, last + 1 - hits),
            at=at,
        )

    def __call__(self, weights: Floats) -> Scores:
        """Weights (P, R) -> each metric (R,); NaN where there is no positive, or no negative.

        * ``auc``;
        * ``average_precision``: mean precision over positives, each at the threshold that admits
          it, without interpolation, as scikit-learn has it; needs no negative;
        * ``sensitivity_at_specificity``: the largest sensitivity of a threshold whose specificity
          is at least ``at``;
        * ``specificity_at_sensitivity``: the reverse.
        """
        hits, alarms = _admitted(self.positive, weights), _admitted(self.negative, weights)
        found = {
            "auc": self.auc(weights),
            "average_precision": self._average_precision(hits, alarms),
            "sensitivity_at_specificity": self._sensitivity(hits, alarms),
            "specificity_at_sensitivity": self._specificity(hits, alarms),
        }
        lacking = (hits[-1] == 0) | (alarms[-1] == 0)
        return {
            name: value if name == "average_precision" else np.where(lacking, np.nan, value)
            for name, value in found.items()
        }

    def _average_precision(self, hits: Floats, alarms: Floats) -> Floats:
        steps = np.append(0, np.flatnonzero(np.diff(self.hits)) + 1)  # those that admit a positive
        true, false = hits[self.hits[steps]], alarms[self.alarms[steps[1:]]]
        gained = np.diff(true, axis=0)
        false += true[1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.divide(true[1:], false, out=np.zeros_like(false), where=false > 0)
            mean: Floats = np.einsum("gr,gr->r", gained, precision) / hits[-1]
        return mean

    def _sensitivity(self, hits: Floats, alarms: Floats) -> Floats:
        # negatives that may be admitted, then the last threshold that admits no more than these
        allowed = (alarms[1:] <= (1 - self.at) * alarms[-1] + _WHOLE).sum(axis=0)
        places = np.arange(len(alarms))
        lowest = self.hits[np.searchsorted(self.alarms, places, side="right") - 1]
        return _share_at(hits, lowest[allowed])

    def _specificity(self, hits: Floats, alarms: Floats) -> Floats:
        # positives that must be admitted, then the first threshold that admits no fewer
        needed = (hits < self.at * hits[-1] - _WHOLE).sum(axis=0)
        places = np.arange(len(hits))
        highest = self.alarms[np.searchsorted(self.hits, places, side="left")]
        return 1 - _share_at(alarms, highest[np.minimum(needed, len(hits) - 1)])


def _admitted(patients: Labels, weights: Floats) -> Floats:
    """(n + 1, R) how many of the first 0 to n scans there are in each resample."""
    admitted = np.zeros((len(patients) + 1, weights.shape[1]))
    np.cumsum(weights[patients], axis=0, out=admitted[1:])
    return admitted


def _share_at(admitted: Floats, place: Labels) -> Floats:
    with np.errstate(invalid="ignore"):
        share: Floats = np.take_along_axis(admitted, place[None], axis=0)[0] / admitted[-1]
    return share
