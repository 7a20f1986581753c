"""Risk against answers, counted by hand where that is possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import BINARY, TASKS, simulate

from data_prep.task import Task
from pipeline.metrics import score
from pipeline.trust.selective import RiskCoverage, risk_coverage


def curve_of(task: Task, target: np.ndarray, p: np.ndarray, ids: np.ndarray | None = None):
    who = np.arange(len(target)).astype(str) if ids is None else ids
    return risk_coverage(task, target, p, who, resamples=50)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_the_area_is_the_mean_risk_over_all_numbers_of_answers(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    target = rng.integers(2, size=n)
    rows = np.stack([1 - p, p], axis=1)
    order = np.argsort(-rows.max(axis=1))
    wrong = (rows.argmax(axis=1) != target)[order]
    expected = np.mean(np.cumsum(wrong) / np.arange(1, n + 1))
    curve = curve_of(BINARY, target, rows)
    np.testing.assert_allclose(curve.aurc, expected)
    np.testing.assert_allclose(curve.risk[-1], wrong.mean())


def test_answers_of_one_confidence_come_in_random_order() -> None:
    p = np.full((6, 2), [0.2, 0.8])
    curve = curve_of(BINARY, np.array([1, 1, 1, 1, 0, 0]), p)
    np.testing.assert_allclose(curve.risk, 1 / 3)
    np.testing.assert_allclose(curve.aurc, 1 / 3)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_sure_answers_are_wrong_less_often(task: Task) -> None:
    seen = simulate(task, 400, scans=2)
    curve = curve_of(task, seen.target, seen.said, seen.patient_ids)
    accuracy = score(task, seen.target, seen.said)["accuracy"]
    np.testing.assert_allclose(curve.risk[-1], 1 - accuracy)
    assert curve.risk[19] < 0.5 * curve.risk[-1]
    assert curve.aurc < curve.risk[-1]
    assert all(a <= b <= c for a, b, c in zip(curve.low, curve.risk, curve.high, strict=True))
    assert curve.aurc_low < curve.aurc < curve.aurc_high
    assert RiskCoverage.model_validate(curve.model_dump(mode="json")) == curve


def test_scans_of_a_patient_are_drawn_together() -> None:
    seen = simulate(BINARY, 60)
    repeated = [np.repeat(rows, 6, axis=0) for rows in (seen.target, seen.said, seen.patient_ids)]
    once = curve_of(BINARY, seen.target, seen.said, seen.patient_ids)
    together = curve_of(BINARY, *repeated)
    apart = curve_of(BINARY, *repeated[:2], np.arange(360).astype(str))
    np.testing.assert_allclose(together.low, once.low, atol=0.02)
    assert apart.high[-1] - apart.low[-1] < 0.6 * (once.high[-1] - once.low[-1])
