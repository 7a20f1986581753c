"""Reliability, confusion and agreement of a family's fits, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from data_prep.task import Task
from pipeline.metrics import patient_draws
from pipeline.study.components import Truth
from pipeline.study.confusion import missed_by_all
from pipeline.study.learning_curve import Draws
from pipeline.study.outcomes import Outcomes, outcomes
from pipeline.study.rates import rate
from pipeline.study.terms import Cells, Floats

BINARY = Task(kind="binary", class_names=("healthy", "ill"))
THREE = Task(kind="multi-class", class_names=("a", "b", "c"))
LABELS = Task(kind="multi-label", class_names=("mass", "fluid"))
RESAMPLES = 200


def truth(task: Task, target: np.ndarray, subsets: int = 1, seeds: int = 1) -> Truth:
    """Every scan is of a patient of its own."""
    weights = np.concatenate(list(patient_draws(len(target), RESAMPLES, 0)), axis=1)
    draws = Draws.of(subsets, seeds, RESAMPLES, 0)
    return Truth(task, target, None, np.arange(len(target)), weights, draws, 0.95)


def drawn(task: Task, n: int, subsets: int, seeds: int, seed: int) -> tuple[np.ndarray, Floats]:
    rng = np.random.default_rng(seed)
    k = task.n_classes
    if task.is_multi_label:
        return rng.integers(0, 2, (n, k)), rng.random((subsets, seeds, n, k))
    return rng.integers(0, k, n), rng.dirichlet(np.ones(k), (subsets, seeds, n))


@settings(max_examples=12, deadline=None)
@given(
    task=st.sampled_from([BINARY, THREE, LABELS]),
    n=st.integers(1, 60),
    subsets=st.integers(1, 3),
    seeds=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_counts_add_up(task: Task, n: int, subsets: int, seeds: int, seed: int) -> None:
    target, p = drawn(task, n, subsets, seeds, seed)
    found = outcomes("f", 9, p, truth(task, target, subsets, seeds))
    decisions = target.size

    assert sum(one.predictions for one in found.bins) == pytest.approx(decisions)
    assert [one.bin for one in found.bins] == list(range(1, len(found.bins) + 1))
    predicted = [one.predicted for one in found.bins]
    assert predicted == sorted(predicted)
    for one in found.bins:
        assert 0 <= one.low <= one.high <= 1 and 0 <= one.observed <= 1
    assert sum(one.scans for one in found.confusion) == pytest.approx(decisions)
    everything, *parts = found.difficulty
    assert everything.right + everything.contested + everything.wrong == decisions
    assert sum(one.wrong for one in parts) == everything.wrong
    assert 0 <= everything.right_low <= everything.right <= everything.right_high <= decisions
    assert 0 <= everything.wrong_low <= everything.wrong <= everything.wrong_high <= decisions
    assert sum(one.contested for one in parts) == everything.contested
    assert everything.wrong <= found.missed.sum() <= everything.wrong + everything.contested
    assert 0 <= found.calibration.error <= 1
    assert found.calibration.off <= found.calibration.bins == len(found.bins)


@pytest.mark.parametrize("task", [BINARY, THREE])
def test_confusion_is_scikit_learns_mean_over_the_fits(task: Task) -> None:
    target, p = drawn(task, 40, 2, 2, 1)
    found = outcomes("f", 9, p, truth(task, target, 2, 2)).confusion
    said = p.argmax(axis=3).reshape(4, -1)
    wanted = np.mean([confusion_matrix(target, row) for row in said], axis=0)
    k = task.n_classes
    np.testing.assert_allclose(np.reshape([one.scans for one in found], (k, k)), wanted)
    shares = np.reshape([one.share for one in found], (k, k))
    np.testing.assert_allclose(shares, wanted / wanted.sum(axis=1, keepdims=True))
    assert all(one.low <= one.share <= one.high for one in found)


def test_each_label_has_a_matrix_of_its_own() -> None:
    target = np.array([[0, 1], [1, 1], [0, 1]])
    p = np.array([[0.1, 0.9], [0.4, 0.9], [0.8, 0.2]])[None, None]
    found = outcomes("f", 9, p, truth(LABELS, target)).confusion
    at = {(one.label, one.true, one.predicted): one for one in found}
    assert at["mass", "no", "yes"].scans == 1
    assert at["mass", "yes", "no"].share == 1
    assert at["fluid", "yes", "yes"].share == pytest.approx(2 / 3)
    assert math.isnan(at["fluid", "no", "no"].share)  # every scan has it


def test_bins_of_a_binary_task_are_of_the_second_class() -> None:
    p1 = np.repeat([0.1, 0.5, 0.9], 20)
    target = np.concatenate([np.arange(20) < share for share in (2, 10, 12)]).astype(int)
    found = outcomes("f", 9, np.stack([1 - p1, p1], 1)[None, None], truth(BINARY, target))
    told = [(round(one.predicted, 6), round(one.observed, 6)) for one in found.bins]
    assert told == [(0.1, 0.1), (0.5, 0.5), (0.9, 0.6)]
    assert [one.predictions for one in found.bins] == [20, 20, 20]
    assert found.calibration.error == pytest.approx(0.1)
    assert found.calibration.off == 1


def test_equal_predictions_stand_in_one_bin() -> None:
    target = np.array([0, 1] * 20)
    p = np.full((1, 2, 40, 2), 0.5)
    found = outcomes("prior", 9, p, truth(BINARY, target, 1, 2))
    assert [(one.predicted, one.observed) for one in found.bins] == [(0.5, 0.5)]


def test_of_several_classes_the_most_probable_is_judged() -> None:
    p = np.tile([0.1, 0.7, 0.2], (30, 1))[None, None]
    target = np.array([1] * 21 + [0] * 9)
    (only,) = outcomes("f", 9, p, truth(THREE, target)).bins
    assert (only.predicted, only.observed) == pytest.approx((0.7, 0.7))


def test_fits_that_disagree_make_a_scan_contested() -> None:
    sure = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    p = np.stack([sure, sure, sure])[:, None]
    p[2, 0, 1] = [0.8, 0.2]
    found = outcomes("f", 9, p, truth(BINARY, np.array([0, 1, 1]), 3))
    told = [(d.class_name, d.right, d.contested, d.wrong) for d in found.difficulty]
    assert told == [("", 1, 1, 1), ("healthy", 1, 0, 0), ("ill", 0, 1, 1)]
    assert found.missed[:, 0].tolist() == [False, False, True]


def test_a_failed_cell_counts_nowhere() -> None:
    target, p = drawn(THREE, 30, 3, 2, 5)
    p[1] = np.nan
    with_hole = outcomes("f", 9, p, truth(THREE, target, 3, 2))
    without = outcomes("f", 9, p[[0, 2]], truth(THREE, target, 2, 2))

    def counts(one: Outcomes) -> list[float]:
        return [b.predictions for b in one.bins] + [c.scans for c in one.confusion]

    assert counts(with_hole) == pytest.approx(counts(without))
    assert with_hole.difficulty == without.difficulty


def test_what_every_family_misses() -> None:
    first, second = np.array([[True], [True], [False]]), np.array([[False], [True], [False]])
    assert missed_by_all([first, second]) == 1
    assert missed_by_all([first]) == 2
    assert missed_by_all([]) == 0


def test_the_interval_of_a_share_covers_patients_and_subsets() -> None:
    """Coverage of the true share, over studies of 4 subsets whose own shares differ."""
    rng, hits, level, n = np.random.default_rng(3), 0, 0.9, 60
    for _ in range(120):
        own = np.clip(rng.normal(0.6, 0.06, 4), 0, 1)
        right = rng.random((4, 1, n)) < own[:, None, None]
        cells = Cells(np.zeros((4, 1, n, 1)), np.ones((4, 1), dtype=bool))
        part, whole = cells.term(right.astype(float)), cells.constant(np.ones(n))
        found = rate(part, whole, np.arange(n), level)
        hits += found.low <= 0.6 <= found.high
    assert 0.8 <= hits / 120 <= 1.0


def test_a_share_of_nothing_is_not_known() -> None:
    cells = Cells(np.zeros((1, 1, 2, 1)), np.ones((1, 1), dtype=bool))
    nothing = cells.constant(np.zeros(2))
    found = rate(nothing, nothing, np.arange(2), 0.95)
    assert math.isnan(found.value) and math.isnan(found.low)


@pytest.mark.parametrize("all_true", [False, True])
def test_what_is_never_or_always_seen_has_an_interval_of_the_patients_there_are(
    all_true: bool,
) -> None:
    """Wilson's: 0 of 20 goes up to 0.161, and of ten patients with two scans each to 0.278."""
    cells = Cells(np.zeros((2, 1, 20, 1)), np.ones((2, 1), dtype=bool))
    whole = cells.constant(np.ones(20))
    part = cells.constant(np.full(20, float(all_true)))
    for patients, wide in ((np.arange(20), 0.161), (np.arange(20) // 2, 0.278)):
        found = rate(part, whole, patients, 0.95)
        assert found.value == all_true
        ends = (1 - wide, 1.0) if all_true else (0.0, wide)
        assert (found.low, found.high) == pytest.approx(ends, abs=0.001)


def test_a_share_of_single_scans_has_wilsons_interval() -> None:
    """7 of 20, against the interval of statsmodels' proportion_confint(7, 20, method="wilson")."""
    cells = Cells(np.zeros((1, 1, 20, 1)), np.ones((1, 1), dtype=bool))
    part = cells.constant((np.arange(20) < 7).astype(float))
    found = rate(part, cells.constant(np.ones(20)), np.arange(20), 0.95)
    assert (found.low, found.high) == pytest.approx((0.1812, 0.5671), abs=1e-4)


def test_fits_that_disagree_scan_by_scan_are_not_counted_twice() -> None:
    """Their noise on single scans is in the variance between patients already."""
    rng, widths = np.random.default_rng(0), []
    cells = Cells(np.zeros((5, 1, 200, 1)), np.ones((5, 1), dtype=bool))
    for _ in range(60):
        part = cells.term((rng.random((5, 1, 200)) < 0.5).astype(float))
        found = rate(part, cells.constant(np.ones(200)), np.arange(200), 0.95)
        widths.append(found.high - found.low)
    expected = 2 * 1.96 * np.sqrt(0.25 / (5 * 200))
    assert expected * 0.9 < np.median(widths) < expected * 1.1  # counted twice: 1.4 times


def test_counts_of_nothing_have_an_interval() -> None:
    p = np.tile([0.1, 0.9], (20, 1))[None, None]
    everything, *_ = outcomes("f", 9, p, truth(BINARY, np.ones(20, dtype=int))).difficulty
    assert (everything.wrong, everything.wrong_low) == (0, 0)
    assert everything.wrong_high == pytest.approx(3.2, abs=0.1)
    assert everything.right_low == pytest.approx(16.8, abs=0.1)
