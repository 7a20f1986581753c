"""Logistic regression on principal axes equals scikit-learn's on the inputs themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from data_prep.task import Task, TaskKind
from pipeline.families import logistic
from pipeline.families.axes import Axes
from pipeline.families.logistic import Weights

N_CLASSES: dict[TaskKind, int] = {"binary": 2, "multi-class": 4, "multi-label": 3}


def task_of(kind: TaskKind) -> Task:
    return Task(kind=kind, class_names=tuple("abcd"[: N_CLASSES[kind]]))


def centred(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).normal(size=(n, d)) * np.geomspace(3, 0.1, d)
    return (x - x.mean(axis=0)).astype(np.float32)


def targets_of(task: Task, x: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    logits = x[:, : task.n_classes] + rng.gumbel(size=(len(x), task.n_classes))
    if task.is_multi_label:
        return (logits > 0.5).astype(np.int64)
    return logits.argmax(axis=1)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 40), d=st.integers(1, 60), seed=st.integers(0, 999))
def test_axes_are_a_turn_of_the_inputs(n: int, d: int, seed: int) -> None:
    x, other = centred(n, d, seed), centred(5, d, seed + 1)
    axes = Axes.of(x)
    assert np.allclose(axes.projected @ axes.projected.T, x.astype(float) @ x.T, atol=1e-5)
    assert np.allclose((axes.projected**2).sum(axis=0), axes.squares, rtol=1e-6)
    assert np.allclose(axes.project(x), axes.projected, atol=1e-5)
    weight = np.random.default_rng(seed).normal(size=(len(axes.squares), 2))
    assert np.allclose(other @ axes.unproject(weight), axes.project(other) @ weight, atol=1e-4)


def test_inputs_that_do_not_vary_have_no_axis() -> None:
    axes = Axes.of(np.zeros((4, 3), dtype=np.float32))
    assert axes.squares.size == 0
    assert axes.unproject(np.zeros((0, 1))).shape == (3, 1)


@pytest.mark.parametrize("shape", [(80, 12), (30, 100)], ids=["tall", "wide"])
@pytest.mark.parametrize("penalty", [0.3, 0.003])
@pytest.mark.parametrize("kind", N_CLASSES)
def test_the_solution_is_scikit_learns(
    kind: TaskKind, penalty: float, shape: tuple[int, int]
) -> None:
    task, x = task_of(kind), centred(*shape)
    target = targets_of(task, x)
    axes = Axes.of(x)
    warm = logistic.solve(task, axes, logistic.columns(task, target), 3 * penalty, None)
    found = logistic.solve(task, axes, logistic.columns(task, target), penalty, warm)
    weights = Weights(axes.unproject(found.weight), found.bias)
    # scikit-learn minimises C * sum of losses + ||w||^2 / 2.
    wide = x.astype(np.float64)
    reference = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-9, max_iter=10_000)
    if task.is_multi_label:
        expected = np.stack(
            [reference.fit(wide, column).predict_proba(wide)[:, 1] for column in target.T], axis=1
        )
    else:
        expected = reference.fit(wide, target).predict_proba(wide)
    assert np.allclose(logistic.probability(task, weights.logits(x)), expected, atol=1e-5)


@pytest.mark.parametrize("kind", N_CLASSES)
def test_the_slope_of_the_loss_is_its_derivative(kind: TaskKind) -> None:
    task, x = task_of(kind), centred(6, 4)
    wanted = logistic.columns(task, targets_of(task, x)) * 0.9 + 0.1 / logistic.n_columns(task)
    if task.kind == "multi-class":
        wanted /= wanted.sum(axis=1, keepdims=True)
    logits = x[:, : logistic.n_columns(task)].astype(np.float64)

    def flat_loss(flat: NDArray[np.float64]) -> float:
        return logistic.loss(task, flat.reshape(logits.shape), wanted)

    expected = approx_fprime(logits.ravel(), flat_loss, 1e-7).reshape(logits.shape)
    assert np.allclose(logistic.loss_slope(task, logits, wanted), expected, atol=1e-6)


def test_weights_on_raw_inputs_see_the_standardised_ones() -> None:
    x = centred(10, 3)
    mean, scale = np.float32([1, -2, 3]), np.float32([0.5, 2, 4])
    weights = Weights(np.arange(6.0).reshape(3, 2), np.array([0.5, -1.0]))
    raw = weights.on_raw(mean, scale)
    assert np.allclose(raw.logits(x), weights.logits((x - mean) / scale), atol=1e-5)


@pytest.mark.parametrize("kind", N_CLASSES)
def test_extreme_logits_stay_probabilities(kind: TaskKind) -> None:
    task = task_of(kind)
    logits = np.full((2, logistic.n_columns(task)), 1e4) * np.array([[1], [-1]])
    rows = logistic.probability(task, logits)
    assert np.isfinite(rows).all()
    assert ((rows >= 0) & (rows <= 1)).all()
