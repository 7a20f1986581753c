"""Metrics as functions of weights, which is what makes thousands of resamples cheap.

A bootstrap that draws patients with replacement changes only how often each patient counts. So each
metric is written for weights, for many resamples at once; ``pipeline.metrics`` defines them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.task import Task

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
WeightedMetric = Callable[[Floats], Floats]


def no_and_yes(probability: Floats) -> Floats:
    """(...) probabilities of a label -> (..., 2) of two classes that exclude each other."""
    return np.stack([1 - probability, probability], axis=-1)


@dataclass(frozen=True)
class Ratios:
    """Mean over terms of (weighted sum of ``part`` / weighted sum of ``whole``).

    Attributes:
        part: (terms, groups) numerator's sum over each group's scans.
        whole: (terms, groups) denominator's.
        needed: Terms whose denominator may not be zero; of the others, those are left out.
    """

    part: Floats
    whole: Floats
    needed: int

    def __call__(self, weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = (self.part @ weights) / (self.whole @ weights)
            present = ~np.isnan(ratios)
            mean = np.where(present, ratios, 0).sum(axis=0) / present.sum(axis=0)
        defined: Floats = np.where(present.sum(axis=0) < self.needed, np.nan, mean)
        return defined


@dataclass(frozen=True)
class Auc:
    """Weighted area under the ROC curve as the Mann-Whitney statistic, ties counted one half.

    Attributes:
        negative: Group of each negative scan, by rising score.
        positive: Group of each positive scan, by rising score.
        below: For each positive scan, the number of negative scans that score less.
        up_to: For each positive scan, the number of negative scans that score no more.
    """

    negative: Labels
    positive: Labels
    below: Labels
    up_to: Labels

    @classmethod
    def of(cls, truth: NDArray[np.bool_], scores: Floats, groups: Labels) -> Auc:
        """Of (N,) scores, with each scan's truth and group."""
        order = np.argsort(scores, kind="stable")
        truth, scores, groups = truth[order], scores[order], groups[order]
        negative, positive = scores[~truth], scores[truth]
        return cls(
            negative=groups[~truth],
            positive=groups[truth],
            below=np.searchsorted(negative, positive, side="left"),
            up_to=np.searchsorted(negative, positive, side="right"),
        )

    def __call__(self, weights: Floats) -> Floats:
        passed = np.zeros((len(self.negative) + 1, weights.shape[1]))
        np.cumsum(weights[self.negative], axis=0, out=passed[1:])
        positive = weights[self.positive]
        won = np.einsum("ir,ir->r", positive, passed[self.below])
        won_or_tied = np.einsum("ir,ir->r", positive, passed[self.up_to])
        pairs = passed[-1] * positive.sum(axis=0)
        with np.errstate(invalid="ignore"):
            area: Floats = (won + won_or_tied) / (2 * pairs)
        return area


@dataclass(frozen=True)
class _Mean:
    """Mean of metrics; NaN where one of them is."""

    parts: tuple[Auc | Ratios, ...]

    def __call__(self, weights: Floats) -> Floats:
        total: Floats = np.sum([part(weights) for part in self.parts], axis=0)
        return total / len(self.parts)


def weighted(
    name: str, task: Task, target: Labels, probability: Floats, groups: Labels
) -> WeightedMetric:
    """One metric of ``pipeline.metrics.METRICS`` as a function of how often each group counts.

    What does not depend on the weights is worked out here, once; what is left for each block of
    resamples is a few products and one cumulative sum.

    Args:
        name: Which metric.
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (N, n_classes).
        groups: (N,) group (scan, or patient) of each scan, counted from 0.

    Returns:
        Weights (groups, R) -> the metric (R,); NaN where it is undefined.
    """
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    if name == "auc":
        return _Mean(
            tuple(
                Auc.of(truth, scores, groups)
                for truth, scores in questions(task, target, probability)
            )
        )
    if name == "balanced_accuracy":
        return _Mean(
            tuple(
                _recalls(truth, decided, n_classes, groups, n_groups)
                for truth, decided, n_classes in _decisions(task, target, probability)
            )
        )
    per_scan = _PER_SCAN[name](task, target, probability)
    return Ratios(
        part=sums(groups, per_scan, n_groups)[None],
        whole=sums(groups, np.ones(len(groups)), n_groups)[None],
        needed=1,
    )


def questions(
    task: Task, target: Labels, probability: Floats
) -> Iterator[tuple[NDArray[np.bool_], Floats]]:
    """The yes-or-no questions that the AUC averages over: truth (N,) and scores (..., N) of each.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (..., N, n_classes).
    """
    if task.kind == "binary":
        yield target == 1, probability[..., 1]
    else:
        truth = task.one_hot(target).astype(bool)
        yield from zip(truth.T, np.moveaxis(probability, -1, 0), strict=True)


def _decisions(
    task: Task, target: Labels, probability: Floats
) -> Iterator[tuple[Labels, Labels, int]]:
    """(truth, decision, number of classes) of the task, or of each label."""
    if task.is_multi_label:
        decided = (probability > 0.5).astype(np.int64)
        yield from ((t, d, 2) for t, d in zip(target.T, decided.T, strict=True))
    elif task.kind == "binary":
        yield target, (probability[:, 1] > 0.5).astype(np.int64), 2
    else:
        yield target, np.argmax(probability, axis=1), task.n_classes


def _recalls(
    truth: Labels, decided: Labels, n_classes: int, groups: Labels, n_groups: int
) -> Ratios:
    cell = truth * n_groups + groups
    cells = n_classes * n_groups
    hits = sums(cell, (truth == decided).astype(np.float64), cells)
    counts = sums(cell, np.ones(len(cell)), cells)
    shape = (n_classes, n_groups)
    return Ratios(part=hits.reshape(shape), whole=counts.reshape(shape), needed=2)


def sums(groups: Labels, values: Floats, n_groups: int) -> Floats:
    """(n_groups,) sum of (N,) values over each group's scans."""
    return np.bincount(groups, weights=values, minlength=n_groups).astype(np.float64)


def _hits(task: Task, target: Labels, probability: Floats) -> Floats:
    right = [truth == decided for truth, decided, _ in _decisions(task, target, probability)]
    hits: Floats = np.mean(right, axis=0)
    return hits


def squared_distance(task: Task, target: Labels, probability: Floats) -> Floats:
    """(N,) Brier score of each scan; see ``pipeline.metrics``."""
    distance: Floats = ((task.one_hot(target) - probability) ** 2).sum(axis=1)
    return distance


def negative_log_likelihood(task: Task, target: Labels, probability: Floats) -> Floats:
    """(N,) log loss of each scan; see ``pipeline.metrics``."""
    epsilon = np.finfo(probability.dtype).eps
    clipped = np.clip(probability, epsilon, 1 - epsilon)
    truth = task.one_hot(target)
    if task.is_multi_label:
        loss: Floats = -np.log(np.where(truth == 1, clipped, 1 - clipped)).mean(axis=1)
        return loss
    return -np.log(clipped[np.arange(len(target)), target])


_PER_SCAN: Final = {
    "accuracy": _hits,
    "brier": squared_distance,
    "log_loss": negative_log_likelihood,
}
