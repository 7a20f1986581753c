"""Balanced weights make classes count the same; the shift takes their logits back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from pipeline.balance import balanced_weights, prior_shift, shares


def columns_of(counts: list[int]) -> np.ndarray:
    """``counts[k]`` scans of class k."""
    return np.repeat(np.eye(len(counts)), counts, axis=0)


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 60), min_size=2, max_size=5).filter(lambda c: sum(map(bool, c)))
)
def test_weights_have_mean_one_and_each_class_the_same_sum(counts: list[int]) -> None:
    columns = columns_of(counts)
    weights = balanced_weights(columns, by_label=False)
    assert weights.shape == (len(columns), 1)
    assert weights.mean() == pytest.approx(1)
    present = np.array(counts) > 0
    expected = np.where(present, len(columns) / present.sum(), 0)
    assert np.allclose((columns * weights).sum(axis=0), expected)


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 39), min_size=1, max_size=4))
def test_both_answers_of_a_label_weigh_the_same(counts: list[int]) -> None:
    columns = np.array([[float(n < count) for count in counts] for n in range(40)])
    weights = balanced_weights(columns, by_label=True)
    assert np.allclose((columns * weights).mean(axis=0), 0.5)
    assert np.allclose(((1 - columns) * weights).mean(axis=0), 0.5)


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
)
def test_bayes_rule_with_and_without_balance_differs_by_the_shift(
    counts: list[int], seed: int
) -> None:
    density = np.random.default_rng(seed).gamma(2, size=len(counts))  # p(x | class) of one scan
    share = np.array(counts) / sum(counts)
    shift = prior_shift(columns_of(counts), by_label=False)
    assert np.allclose(softmax(np.log(density) + shift), density * share / (density * share).sum())
    one = columns_of(counts)[:, :1]
    other = 1 - share[0]
    expected = density[0] * share[0] / (density[0] * share[0] + density[1] * other)
    odds = np.log(density[0] / density[1])
    assert expit(odds + prior_shift(one, by_label=True)[0]) == pytest.approx(expected)


def test_a_label_that_all_or_no_scans_have_weighs_nothing_out() -> None:
    columns = np.array([[0.0, 1.0, n < 3] for n in range(8)])
    weights = balanced_weights(columns, by_label=True)
    assert np.allclose(weights.mean(axis=0), 1)
    assert np.allclose(weights[:, :2], 1)


def test_equal_classes_are_left_alone() -> None:
    columns = columns_of([7, 7, 7])
    assert np.allclose(balanced_weights(columns, by_label=False), 1)
    assert np.allclose(prior_shift(columns, by_label=False), 0)


def test_a_class_without_scans_has_half_a_scan() -> None:
    columns = columns_of([5, 5, 0])
    assert shares(columns).tolist() == [0.5, 0.5, 0.05]
    assert np.isfinite(prior_shift(columns, by_label=False)).all()
    assert np.isfinite(prior_shift(columns, by_label=True)).all()
    assert shares(np.ones((10, 1))).tolist() == [0.95]
