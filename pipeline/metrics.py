"""Scores of probabilities against targets, each with a patient-clustered bootstrap interval.

Definitions, equal to scikit-learn's where it has the metric, and for ``auc`` and ``accuracy``
equal to the MedMNIST evaluator's for every kind of task (Yang et al. 2023, ``getAUC``, ``getACC``):

* ``auc``: area under the ROC curve of class 1 (binary); mean over classes of one against the rest
  (multi-class, ordinal); mean over labels (multi-label). Always of probabilities, never of
  decisions.
* ``accuracy``: share of scans whose most probable class is right; for multi-label the mean over
  labels of the share that is right at a threshold of 0.5.
* ``balanced_accuracy``: mean recall of the classes that occur; mean over labels for multi-label.
* ``brier``: mean over scans of the squared distance between probability row and one-hot target,
  summed over classes (Brier 1950), so 0 to 2 for a binary task.
* ``log_loss``: mean negative natural logarithm of the true class's probability, clipped to the
  machine epsilon as scikit-learn does; for multi-label the mean over labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import ConfigError, nearest
from data_prep.task import Task
from pipeline.weighted_metrics import Floats, Labels, weighted

METRICS: Final = ("auc", "accuracy", "balanced_accuracy", "brier", "log_loss")

_LOWER_IS_BETTER: Final = frozenset({"brier", "log_loss"})
_LARGEST: Final = {"brier": 2.0, "log_loss": math.inf}
_BLOCK = 256  # resamples at a time: 2,000 patients take 4 MB, which stays in the cache


@dataclass(frozen=True)
class Interval:
    """A metric with its bootstrap interval.

    Attributes:
        value: The metric on all scans; NaN where it is undefined.
        low: Lower end of the interval.
        high: Upper end of the interval.
        resamples: Resamples in which the metric was defined, which is what the ends rest on.
    """

    value: float
    low: float
    high: float
    resamples: int


def higher_is_better(name: str) -> bool:
    """True for a score, False for a loss.

    Raises:
        ConfigError: ``config.unknown_metric``.
    """
    if name not in METRICS:
        raise ConfigError(
            "config.unknown_metric",
            f"no metric '{name}'{nearest(name, list(METRICS))}",
            fix=f"use one of: {', '.join(METRICS)}",
        )
    return name not in _LOWER_IS_BETTER


def within_range(name: str, value: float) -> float:
    """The nearest value that the metric can take: the end of an interval may lie beyond."""
    return min(max(value, 0.0), _LARGEST.get(name, 1.0))


def score(task: Task, target: Labels, probability: Floats) -> dict[str, float]:
    """Every metric of ``METRICS``.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (N, n_classes).

    Returns:
        Name -> value; NaN where undefined (``auc`` where a class does not occur, or is the only
        one; ``balanced_accuracy`` where one class only occurs; everything where N is 0).

    Raises:
        ValueError: If the shapes do not fit, or a probability is NaN or infinite.
    """
    check(task, target, probability)
    weights = np.ones((len(target), 1))
    groups = np.arange(len(target))
    metrics = (weighted(name, task, target, probability, groups) for name in METRICS)
    return {name: float(of(weights)[0]) for name, of in zip(METRICS, metrics, strict=True)}


def bootstrap(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    *,
    names: Sequence[str] = METRICS,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Percentile bootstrap that draws whole patients with replacement.

    Scans of one patient resemble each other, so drawing scans would give intervals that are too
    narrow (Field and Welsh 2007, "Bootstrapping clustered data"). A resample in which a metric is
    undefined (a class was not drawn) is left out of that metric's interval, and
    ``Interval.resamples`` says how many were left in; with none, the ends are NaN.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (N, n_classes).
        patient_ids: (N,) patient of each scan.
        names: Which metrics.
        resamples: How many times the patients are drawn.
        seed: Decides the draws; the same for every metric, so that intervals are paired.
        level: Coverage that is aimed at.

    Raises:
        ConfigError: ``config.unknown_metric``.
        ValueError: As ``score``.
    """
    values = score(task, target, probability)
    drawn = resample(
        task, target, probability, patient_ids, names=names, resamples=resamples, seed=seed
    )
    return {name: _interval(values[name], drawn[name], level) for name in names}


def resample(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    *,
    names: Sequence[str] = METRICS,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """Each metric in each bootstrap resample of the patients: what ``bootstrap`` rests on.

    The draws depend on ``seed`` and the number of patients only, so that two classifiers on the
    same scans are compared draw by draw.

    Returns:
        Name -> (resamples,); NaN where undefined.

    Raises:
        ConfigError: ``config.unknown_metric``.
        ValueError: As ``score``.
    """
    check(task, target, probability)
    for name in names:
        higher_is_better(name)
    patients, patient = np.unique(patient_ids, return_inverse=True)
    metrics = {name: weighted(name, task, target, probability, patient) for name in names}
    drawn: dict[str, list[Floats]] = {name: [] for name in names}
    for weights in patient_draws(len(patients), resamples, seed):
        for name, of in metrics.items():
            drawn[name].append(of(weights))
    return {name: np.concatenate(blocks) for name, blocks in drawn.items()}


def check(task: Task, target: Labels, probability: Floats) -> None:
    """Refuse arrays that are not targets, (N,) or (N, L), and probabilities (N, n_classes).

    Raises:
        ValueError: If the shapes do not fit, or a probability is NaN or infinite.
    """
    rows = (len(target), task.n_classes)
    if probability.shape != rows or target.shape != (rows if task.is_multi_label else rows[:1]):
        raise ValueError(
            f"target {target.shape} and probability {probability.shape} do not fit a "
            f"{task.kind} task of {task.n_classes} classes"
        )
    check_probability(task, probability)


def check_probability(task: Task, probability: Floats) -> None:
    """Refuse an array that is not probabilities of scans.

    Raises:
        ValueError: If the shape is not (N, n_classes), or a probability is NaN or infinite.
    """
    if probability.ndim != 2 or probability.shape[1] != task.n_classes:
        raise ValueError(f"probability {probability.shape} is not of {task.n_classes} classes")
    if not np.isfinite(probability).all():
        raise ValueError("a probability is NaN or infinite")


def patient_draws(n_patients: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each patient is drawn in each resample: (n_patients, block), block after block.

    Patients are counted in the order of ``np.unique`` of their ids; everything that is resampled
    with one seed is resampled with the same draws.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        block = min(_BLOCK, resamples - start)
        chosen = generator.integers(n_patients, size=(block, n_patients))
        cell = chosen * block + np.arange(block)[:, None]
        counts = np.bincount(cell.ravel(), minlength=n_patients * block)
        yield counts.reshape(n_patients, block).astype(np.float64)


def _interval(value: float, drawn: Floats, level: float) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    if not defined.size:
        return Interval(value, float("nan"), float("nan"), 0)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), int(defined.size))
