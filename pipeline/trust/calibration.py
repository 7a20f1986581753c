"""Calibration: probabilities that mean what they say, learnt from the validation scans.

The method is chosen by log loss, cross-validated over patients: five folds, no patient in two of
them, each class dealt out evenly. To leave the probabilities as they are is a candidate as well.
The lowest loss is taken, of equal ones the simplest method's. That is safe with few patients
because maps are drawn towards changing nothing (``calibration_maps``): what few patients say by
chance then does little harm, while a rule that keeps to the simplest method near the best leaves
errors that are there (docs/calibration.md has the figures). Isotonic regression is not drawn, and
makes ties: it is taken only where it is better than the best other by more than one standard error
of the difference between patients, whose losses rise and fall together.

Labels of a multi-label task are calibrated one by one, all by the same method. The order of the
scans by one probability, and so the AUC, stays as it is with ``temperature``, ``platt`` and
``beta``; ``isotonic`` makes ties. Which class of a scan is the most probable can change with all
but ``temperature``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_prep.config import Config
from data_prep.task import Task
from pipeline.metrics import check, check_probability
from pipeline.trust.calibration_maps import (
    SLOPES,
    Method,
    Numbers,
    apply_map,
    fit_map,
    identity,
    logs,
    parameters,
    patients_of_each_class,
    slopes,
)
from pipeline.trust.errors import TrustError
from pipeline.trust.patient_folds import patient_folds
from pipeline.weighted_metrics import Floats, Labels

FOLDS: Final = 5
# Fewer points and isotonic regression overfits (Niculescu-Mizil and Caruana 2005, figure 9).
ISOTONIC_PATIENTS: Final = 1000
# By rising number of parameters.
_TWO_CLASSES: Final[tuple[Method, ...]] = ("none", "temperature", "platt", "beta", "isotonic")
_MORE_CLASSES: Final[tuple[Method, ...]] = ("none", "temperature", "vector", "isotonic")


class Calibration(Config):
    """What turns a family's probabilities into calibrated ones.

    Attributes:
        method: Which map, as ``pipeline.trust.calibration_maps`` defines it.
        numbers: Its parameters: one row, or one for each label of a multi-label task. For
            ``isotonic`` each of them is two rows for each class (for the second only, of two):
            probabilities, rising, and what becomes of them. None for ``none``.
        candidates: Cross-validated log loss of each method that was compared; empty where the
            method was given, or validation has too few patients to compare.
    """

    method: Method
    numbers: Numbers = ()
    candidates: dict[Method, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Calibration:
        if self.method == "none":
            if self.numbers:
                raise ValueError("the method 'none' has no numbers")
        elif not self.numbers:
            raise ValueError(f"the method '{self.method}' has no numbers")
        elif self.method == "isotonic":
            _check_steps(self.numbers)
        else:
            for row in self.numbers:
                _check_row(self.method, row)
        return self

    def apply(self, task: Task, probability: Floats) -> Floats:
        """Calibrated probabilities.

        Args:
            task: What is predicted.
            probability: (N, n_classes) as a family gives them.

        Returns:
            (N, n_classes) float64; rows sum to 1, but for multi-label.

        Raises:
            TrustError: ``trust.calibration_of_another_task``.
            ValueError: If the shape does not fit, or a probability is NaN or infinite.
        """
        check_probability(task, probability)
        rows = np.asarray(probability, dtype=np.float64)
        if self.method == "none":
            return rows
        self.check_task(task)
        if not task.is_multi_label:
            return apply_map(self.method, self.numbers, rows)
        each = len(self.numbers) // task.n_classes
        columns = [
            apply_map(self.method, self.numbers[each * at : each * (at + 1)], _two(rows[:, at]))
            for at in range(task.n_classes)
        ]
        return np.stack([column[:, 1] for column in columns], axis=1)

    def check_task(self, task: Task) -> None:
        """Refuse a task that these numbers are not for.

        Raises:
            TrustError: ``trust.calibration_of_another_task``.
        """
        if self.method == "none":
            return
        suited = self.method in _methods(task)
        one = identity(self.method, _classes(task)) if suited else ()
        labels = task.n_classes if task.is_multi_label else 1
        lengths = {len(row) for row in one} if self.method != "isotonic" else set()
        if (
            not suited
            or len(self.numbers) != labels * len(one)
            or (lengths and {len(row) for row in self.numbers} != lengths)
        ):
            raise TrustError(
                "trust.calibration_of_another_task",
                f"a calibration by '{self.method}' with rows of "
                f"{', '.join(str(len(row)) for row in self.numbers)} numbers does not fit a "
                f"{task.kind} task of {task.n_classes} classes",
                fix="fit the calibration again, on this task's validation scans",
            )


def fit_calibration(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    *,
    method: Method | Literal["auto"] = "auto",
    seed: int = 0,
) -> Calibration:
    """Learn what to do to probabilities from validation scans.

    A class without a validation scan has nothing to be calibrated by: probabilities then stay as
    they are (of a multi-label task, those of the labels that are always or never true).

    Args:
        task: What is predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (N, n_classes) of the validation scans.
        patient_ids: (N,) patient of each scan.
        method: Which, or ``auto`` to choose.
        seed: Decides the folds.

    Raises:
        TrustError: ``trust.calibration_method`` where the method is not one for the task.
        ValueError: If the shapes do not fit, or a probability is NaN or infinite.
    """
    check(task, target, probability)
    rows = np.asarray(probability, dtype=np.float64)
    candidates: dict[Method, float] = {}
    if method == "auto":
        method, candidates = _chosen(task, target, rows, patient_ids, seed)
    else:
        check_method(method, task)
    numbers = _fit(task, method, target, rows, patient_ids)
    return Calibration(method=method if numbers else "none", numbers=numbers, candidates=candidates)


def check_method(method: Method, task: Task) -> None:
    """Refuse a method that does not calibrate such a task.

    Raises:
        TrustError: ``trust.calibration_method``.
    """
    if method not in _methods(task):
        raise TrustError(
            "trust.calibration_method",
            f"trust.calibration '{method}' does not calibrate a {task.kind} task of "
            f"{task.n_classes} classes",
            fix=f"use one of: auto, {', '.join(_methods(task))}",
        )


def cross_fitted(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    *,
    method: Method | Literal["auto"] = "auto",
    seed: int = 0,
) -> Floats:
    """Validation probabilities, each calibrated by what was learnt from other patients.

    A calibration looks better on the scans that it was fitted on than it is; these probabilities
    look as those of new patients do, for a diagram or an error of the validation scans.

    Args:
        task, target, probability, patient_ids, method, seed: As in ``fit_calibration``; with
            ``auto`` the method is the one that it chooses.

    Returns:
        (N, n_classes) float64.

    Raises:
        TrustError, ValueError: As ``fit_calibration``.
    """
    chosen = fit_calibration(task, target, probability, patient_ids, method=method, seed=seed)
    rows = np.asarray(probability, dtype=np.float64)
    return _out_of_fold(task, chosen.method, target, rows, patient_ids, seed)


def _chosen(
    task: Task, target: Labels, probability: Floats, patient_ids: NDArray[np.str_], seed: int
) -> tuple[Method, dict[Method, float]]:
    """The method with the lowest loss, and the loss of each."""
    patients, patient = np.unique(patient_ids, return_inverse=True)
    if len(patients) < 2 * FOLDS:
        return "none", {}
    known = [
        method
        for method in _methods(task)
        if method != "isotonic" or len(patients) >= ISOTONIC_PATIENTS
    ]
    losses = {}
    for method in known:
        left_out = _out_of_fold(task, method, target, probability, patient_ids, seed)
        losses[method] = np.bincount(patient, _losses(task, target, left_out)) / len(target)
    candidates = {method: float(loss.sum()) for method, loss in losses.items()}
    others = [method for method in known if method != "isotonic"]
    best: Method = min(others, key=lambda method: candidates[method])
    if "isotonic" in known:
        gain = losses[best] - losses["isotonic"]
        if gain.sum() > np.sqrt(len(patients)) * gain.std(ddof=1):
            best = "isotonic"
    return best, candidates


def _out_of_fold(
    task: Task,
    method: Method,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    seed: int,
) -> Floats:
    if task.is_multi_label:
        binary = Task(kind="binary", class_names=("no", "yes"))
        columns = [
            _out_of_fold(binary, method, truth, _two(p), patient_ids, seed)[:, 1]
            for truth, p in zip(target.T, probability.T, strict=True)
        ]
        return np.stack(columns, axis=1)
    calibrated = probability.copy()
    fold = patient_folds(target, patient_ids, FOLDS, seed)
    for number in range(FOLDS):
        rest, here = fold != number, fold == number
        numbers = _fit(task, method, target[rest], probability[rest], patient_ids[rest])
        if numbers:
            calibrated[here] = apply_map(method, numbers, probability[here])
    return calibrated


def _fit(
    task: Task,
    method: Method,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
) -> Numbers:
    """The numbers of a method; none where there is nothing to learn from."""
    if method == "none":
        return ()
    if not task.is_multi_label:
        if not patients_of_each_class(target, patient_ids, task.n_classes).all():
            return ()
        return fit_map(method, target, probability, patient_ids)
    numbers: list[tuple[float, ...]] = []
    for truth, p in zip(target.T, probability.T, strict=True):
        if patients_of_each_class(truth, patient_ids, 2).all():
            numbers += fit_map(method, truth, _two(p), patient_ids)
        else:
            numbers += identity(method, 2)
    return tuple(numbers)


def _losses(task: Task, target: Labels, probability: Floats) -> Floats:
    """(N,) log loss of each scan; mean over labels for multi-label."""
    if task.is_multi_label:
        right = np.where(target == 1, logs(probability), logs(1 - probability))
        loss: Floats = -right.mean(axis=1)
        return loss
    return -logs(probability)[np.arange(len(target)), target]


def _methods(task: Task) -> tuple[Method, ...]:
    return _TWO_CLASSES if _classes(task) == 2 else _MORE_CLASSES


def _classes(task: Task) -> int:
    """Classes that exclude each other: no and yes, for a label."""
    return 2 if task.is_multi_label else task.n_classes


def _two(p: Floats) -> Floats:
    """(N, 2) probabilities of no and yes."""
    return np.stack([1 - p, p], axis=1)


def _check_row(method: Method, row: tuple[float, ...]) -> None:
    classes = len(row) // 2 if method == "vector" else 2
    allowed = parameters(method, classes)
    if len(row) != allowed or classes < 2:
        raise ValueError(
            f"a row of {len(row)} numbers; the method '{method}' has "
            + ("two for each class" if method == "vector" else str(allowed))
        )
    low, high = SLOPES
    outside = [slope for slope in row[: slopes(method, classes)] if not low <= slope <= high]
    if outside:
        raise ValueError(f"a slope of {outside[0]}; allowed are {low} to {high:g}")


def _check_steps(numbers: Numbers) -> None:
    if len(numbers) % 2:
        raise ValueError(f"{len(numbers)} rows of steps; their number is even")
    for at, heights in zip(numbers[::2], numbers[1::2], strict=True):
        if len(at) != len(heights) or not at:
            raise ValueError(f"{len(at)} steps with {len(heights)} heights")
        if not all(0 <= value <= 1 for value in (*at, *heights)):
            raise ValueError("steps and heights are probabilities, 0 to 1")
        if any(b <= a for a, b in pairwise(at)) or any(b < a for a, b in pairwise(heights)):
            raise ValueError("steps and heights must rise")
