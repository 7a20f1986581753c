"""Rank correlation is Spearman's, and its p-value that of all orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from pipeline.study.rank_correlation import permutation_p, rank_correlation


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=6))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=np.float64).T
    found = rank_correlation(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert math.isnan(found)
        assert math.isnan(permutation_p(first, second))
        return
    assert found == pytest.approx(float(spearmanr(first, second).statistic), abs=1e-12)
    orders = itertools.permutations(second)
    at_least = [rank_correlation(first, np.array(order)) >= found - 1e-12 for order in orders]
    assert permutation_p(first, second) == pytest.approx(np.mean(at_least))


def test_many_architectures_are_permuted_by_a_seeded_draw() -> None:
    scores = np.arange(9.0)
    assert permutation_p(scores, scores) == pytest.approx(1 / 10_001)
    assert permutation_p(scores, -scores) == 1.0
