"""Calibrated probabilities: a map with its numbers, checked, and applied to any scans.

Labels of a multi-label task are calibrated one by one, all by the same method. The order of the
scans by one probability, and so the AUC, stays as it is with ``temperature``, ``platt`` and
``beta``; ``isotonic`` makes ties. Which class of a scan is the most probable can change with all
but ``temperature``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from pydantic import Field, model_validator

from data_prep.config import Config
from data_prep.task import Task
from pipeline.metrics import check_probability
from pipeline.trust.calibration_maps import (
    SLOPES,
    Method,
    Numbers,
    apply_map,
    identity,
    parameters,
    slopes,
)
from pipeline.trust.errors import TrustError
from pipeline.weighted_metrics import Floats, no_and_yes

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
            apply_map(
                self.method, self.numbers[each * at : each * (at + 1)], no_and_yes(rows[:, at])
            )
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
        suited = self.method in methods_for(task)
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


def check_method(method: Method, task: Task) -> None:
    """Refuse a method that does not calibrate such a task.

    Raises:
        TrustError: ``trust.calibration_method``.
    """
    if method not in methods_for(task):
        raise TrustError(
            "trust.calibration_method",
            f"trust.calibration '{method}' does not calibrate a {task.kind} task of "
            f"{task.n_classes} classes",
            fix=f"use one of: auto, {', '.join(methods_for(task))}",
        )


def methods_for(task: Task) -> tuple[Method, ...]:
    """The methods that calibrate such a task, by rising number of parameters."""
    return _TWO_CLASSES if _classes(task) == 2 else _MORE_CLASSES


def _classes(task: Task) -> int:
    """Classes that exclude each other: no and yes, for a label."""
    return 2 if task.is_multi_label else task.n_classes


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
