"""The map in torch operations is the map in arrays, for every method and kind of task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from data_prep.task import Task
from pipeline.trust.calibration import Calibration
from pipeline.trust.calibration_fit import fit_calibration
from pipeline.trust.calibration_maps import Method
from pipeline.trust.calibration_traced import traced_calibration
from pipeline.trust.errors import TrustError

TASKS = {
    "binary": Task(kind="binary", class_names=("no", "yes")),
    "multi-class": Task(kind="multi-class", class_names=("a", "b", "c")),
    "multi-label": Task(kind="multi-label", class_names=("a", "b", "c")),
}
TWO: tuple[Method, ...] = ("none", "temperature", "platt", "beta", "isotonic")
METHODS = (
    [("binary", method) for method in TWO]
    + [("multi-label", method) for method in TWO]
    + [("multi-class", method) for method in ("none", "temperature", "vector", "isotonic")]
)


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_it_is_what_the_arrays_say(kind: str, method: Method) -> None:
    task, rng = TASKS[kind], np.random.default_rng(0)
    scores = rng.normal(0, 2, (80, task.n_classes))
    if task.is_multi_label:
        probability, target = 1 / (1 + np.exp(-scores)), rng.integers(0, 2, scores.shape)
    else:
        probability, target = softmax(scores, axis=1), rng.integers(0, task.n_classes, 80)
    patients = np.arange(80).astype(np.str_)
    fitted = fit_calibration(task, target, probability, patients, method=method)
    # What no validation scan had: the ends, and far beyond the outermost step.
    sure = np.full((1, task.n_classes), 0.0)
    sure[0, 0] = 1.0
    rows = np.concatenate([probability, sure, sure[:, ::-1]])
    found = traced_calibration(fitted, task, torch.from_numpy(rows.copy())).numpy()
    assert fitted.method == method
    assert np.allclose(found, fitted.apply(task, rows), rtol=0, atol=1e-12)


def test_numbers_of_another_task_are_refused() -> None:
    wrong = Calibration(method="vector", numbers=((1.0, 1.0, 0.0, 0.0),))
    with pytest.raises(TrustError, match="does not fit"):
        traced_calibration(wrong, TASKS["multi-class"], torch.full((2, 3), 1 / 3))
