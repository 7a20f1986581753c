"""A calibration applies its numbers, and refuses those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from simulated import BINARY, FINDINGS, TISSUES

from data_prep.task import Task
from pipeline.trust.calibration import Calibration
from pipeline.trust.calibration_maps import Method
from pipeline.trust.errors import TrustError


@pytest.mark.parametrize(
    ("method", "numbers", "told"),
    [
        ("none", [[1.0]], "has no numbers"),
        ("platt", [], "has no numbers"),
        ("temperature", [[1.0, 2.0]], "a row of 2 numbers; the method 'temperature' has 1"),
        ("platt", [[1.0]], "a row of 1 numbers"),
        ("beta", [[1.0, 1.0, 0.0], [1.0, 1.0]], "a row of 2 numbers"),
        ("vector", [[1.0, 1.0, 0.0]], "two for each class"),
        ("vector", [[1.0, 0.0]], "two for each class"),
        ("platt", [[-1.0, 0.0]], "a slope of -1.0"),
        ("temperature", [[float("nan")]], "finite"),
        ("isotonic", [[0.0, 1.0]], "1 rows of steps"),
        ("isotonic", [[0.0, 1.0], [0.5]], "2 steps with 1 heights"),
        ("isotonic", [[], []], "0 steps"),
        ("isotonic", [[0.0, 2.0], [0.0, 1.0]], "0 to 1"),
        ("isotonic", [[0.5, 0.5], [0.0, 1.0]], "must rise"),
        ("isotonic", [[0.0, 1.0], [1.0, 0.0]], "must rise"),
        ("histogram", [[1.0]], "temperature"),
    ],
)
def test_stored_numbers_of_a_wrong_length_or_kind_are_refused(
    method: str, numbers: list[list[float]], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        Calibration.model_validate({"method": method, "numbers": numbers})


@pytest.mark.parametrize(
    ("task", "method", "numbers"),
    [
        (TISSUES, "platt", ((1.0, 0.0),)),
        (TISSUES, "vector", ((1.0, 1.0, 0.0, 0.0),)),
        (BINARY, "platt", ((1.0, 0.0), (1.0, 0.0))),
        (FINDINGS, "platt", ((1.0, 0.0),)),
        (TISSUES, "isotonic", ((0.0, 1.0), (0.0, 1.0))),
    ],
)
def test_a_calibration_of_another_task_is_refused(
    task: Task, method: Method, numbers: tuple[tuple[float, ...], ...]
) -> None:
    foreign = Calibration(method=method, numbers=numbers)
    with pytest.raises(TrustError, match=f"{task.kind} task") as caught:
        foreign.apply(task, np.full((1, task.n_classes), 0.5))
    assert caught.value.code == "trust.calibration_of_another_task"


def test_arrays_that_are_no_probabilities_are_refused() -> None:
    found = Calibration(method="none")
    with pytest.raises(ValueError, match="not of 2 classes"):
        found.apply(BINARY, np.full((1, 3), 1 / 3))
    with pytest.raises(ValueError, match="NaN or infinite"):
        found.apply(BINARY, np.array([[np.nan, 0.5]]))
