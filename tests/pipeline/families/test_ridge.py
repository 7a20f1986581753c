"""Ridge without refits equals ridge with refits, and its calibration is Platt's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge as Reference

from data_prep.task import Task
from pipeline.families import logistic, ridge
from pipeline.families.axes import Axes

BINARY = Task(kind="binary", class_names=("a", "b"))
THREE = Task(kind="multi-class", class_names=("a", "b", "c"))
LABELS = Task(kind="multi-label", class_names=("a", "b"))


def refitted(
    x: NDArray[np.float32], wanted: NDArray[np.float64], ids: NDArray[np.str_], penalty: float
) -> NDArray[np.float64]:
    """Scores of each patient's scans by a model that was fitted again without them."""
    out = np.empty_like(wanted)
    for patient in np.unique(ids):
        inside = ids != patient
        # The penalty is per training scan of the full set, so that leaving out changes only data.
        model = Reference(alpha=penalty * len(x), solver="cholesky")
        model.fit(x[inside].astype(np.float64), wanted[inside])
        out[~inside] = model.predict(x[~inside].astype(np.float64)).reshape(-1, wanted.shape[1])
    return out


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(6, 30),
    d=st.integers(1, 50),
    patients=st.integers(3, 12),
    columns=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_leaving_patients_out_equals_fitting_again_without_them(
    n: int, d: int, patients: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    x = (x - x.mean(axis=0)).astype(np.float32)
    wanted = rng.normal(size=(n, columns))
    ids = np.array([f"p{i % patients}" for i in range(n)])
    penalties = (1.0, 0.03)
    solved = ridge.solve(Axes.of(x), wanted, ids, penalties)
    left_out = {penalty: refitted(x, wanted, ids, penalty) for penalty in penalties}
    errors = {p: float(((wanted - out) ** 2).mean()) for p, out in left_out.items()}
    assert errors[solved.penalty] == pytest.approx(min(errors.values()), rel=1e-4)
    assert np.allclose(solved.left_out, left_out[solved.penalty], atol=1e-3)
    assert solved.left_out_error == pytest.approx(errors[solved.penalty], rel=1e-3)


@pytest.mark.parametrize("shape", [(40, 8), (15, 60)], ids=["tall", "wide"])
def test_the_weights_are_scikit_learns(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    x = (x - x.mean(axis=0)).astype(np.float32)
    wanted = rng.normal(size=(len(x), 2))
    axes = Axes.of(x)
    solved = ridge.solve(axes, wanted, np.arange(len(x)).astype(np.str_), [0.05])
    expected = Reference(alpha=0.05 * len(x)).fit(x.astype(np.float64), wanted)
    assert np.allclose(axes.unproject(solved.weights.weight).T, expected.coef_, atol=1e-5)
    assert np.allclose(solved.weights.bias, expected.intercept_, atol=1e-6)


def test_of_equal_penalties_the_stronger_is_kept() -> None:
    """Targets that do not depend on the inputs at all: every penalty predicts the mean."""
    x = np.zeros((6, 2), dtype=np.float32)
    solved = ridge.solve(Axes.of(x), np.eye(6)[:, :1], np.arange(6).astype(np.str_), [0.1, 10.0])
    assert solved.penalty == 10.0


@pytest.mark.parametrize("task", [BINARY, THREE, LABELS], ids=lambda task: task.kind)
def test_calibration_lowers_the_log_loss_and_keeps_the_order(task: Task) -> None:
    rng = np.random.default_rng(1)
    if task.is_multi_label:
        target = rng.integers(0, 2, (300, 2))
    else:
        target = rng.integers(0, task.n_classes, 300)
    wanted = logistic.columns(task, target)
    scores = 0.3 * wanted + rng.normal(0, 0.2, wanted.shape)
    to_logits = ridge.calibrate(task, scores, wanted)
    slopes = np.diag(to_logits.weight)
    assert (slopes > 0).all()
    assert np.array_equal(to_logits.weight, np.diag(slopes))
    if task.kind == "multi-class":
        assert np.ptp(slopes) == 0  # one temperature
    calibrated = logistic.probability(task, to_logits.logits(scores))
    assert np.allclose(calibrated.mean(axis=0), task.one_hot(target).mean(axis=0), atol=0.01)
    assert logistic.loss(task, to_logits.logits(scores), wanted) < logistic.loss(
        task, scores, wanted
    )


def test_perfectly_separated_scans_do_not_give_endless_confidence() -> None:
    wanted = np.array([[0.0]] * 5 + [[1.0]] * 5)
    to_logits = ridge.calibrate(BINARY, wanted * 2 - 1, wanted)
    sure = logistic.probability(BINARY, to_logits.logits(np.array([[1.0]])))[0, 1]
    assert sure == pytest.approx(6 / 7, abs=1e-4)  # Platt's target (N + 1) / (N + 2) for N = 5


def test_scores_that_are_wrong_way_round_are_not_turned_round() -> None:
    """Left-out scores of noise run against the truth; a flip would then invert real evidence."""
    wanted = np.array([[0.0], [1.0]] * 20)
    to_logits = ridge.calibrate(BINARY, -wanted, wanted)
    assert 0 < to_logits.weight[0, 0] < 0.01
