"""A cloud is finite whatever it is fitted on, and folding keeps distances."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.trust.shift_cloud import MAX_WIDTH, Cloud, fold


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 2**31))
def test_a_cloud_of_any_shape_is_finite_and_centred(n: int, width: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, width))
    rows[:, 0] = 5  # a number that never differs
    cloud = Cloud.fit(rows)
    found = cloud.coordinates(rows)
    assert np.isfinite(found).all()
    assert np.allclose(found[:, :-1].mean(axis=0), 0, atol=1e-3)
    far = cloud.coordinates(rows + 100)
    assert (far**2).sum() > (found**2).sum()


def test_folding_keeps_distances_and_short_rows() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 2000))
    folded = fold(rows)
    assert folded.shape == (40, MAX_WIDTH)
    before = np.linalg.norm(rows[:20] - rows[20:], axis=1)
    after = np.linalg.norm(folded[:20] - folded[20:], axis=1)
    assert np.allclose(after / before, 1, atol=0.25)
    assert fold(rows[:, :MAX_WIDTH]) is not None
    assert np.array_equal(fold(rows[:, :9]), rows[:, :9])
