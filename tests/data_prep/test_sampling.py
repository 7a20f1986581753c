"""Matrices of a resampling: as one step after another, made once, none where nothing moves."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sampling import Sampling, apply_along_axes, weights

SAMPLINGS = st.tuples(st.integers(2, 12), st.integers(1, 12)).map(
    lambda n: Sampling.centred(n[0], n[1], n[0] / n[1])
)


@settings(max_examples=60, deadline=None)
@given(first=SAMPLINGS, n_out=st.integers(1, 12), seed=st.integers(0, 2**16))
def test_two_samplings_in_one_matrix(first: Sampling, n_out: int, seed: int) -> None:
    second = Sampling.centred(first.n_out, n_out, first.n_out / n_out)
    line = np.random.default_rng(seed).normal(size=(1, first.n_in)).astype(np.float32)
    one_pass = apply_along_axes(line, [weights(first, second)])
    steps = apply_along_axes(apply_along_axes(line, [weights(first)]), [weights(second)])
    np.testing.assert_allclose(one_pass, steps, atol=1e-5)
    assert one_pass.dtype == np.float32
    expected = second.matrix() @ first.matrix() @ line[0].astype(np.float64)
    np.testing.assert_allclose(one_pass[0], expected, atol=1e-5)
    assert weights(first, second) is weights(first, second)


def test_no_matrix_where_no_voxel_changes() -> None:
    same = Sampling(5, 5, 0.0, 1.0)
    assert weights(same) is None
    assert weights(same, same) is None
    assert weights(Sampling(5, 5, 1.0, 1.0)) is not None
    array = np.arange(20, dtype=np.int16).reshape(1, 4, 5)
    out = apply_along_axes(array, [weights(Sampling.centred(4, 2, 2.0)), weights(same)])
    assert out.shape == (1, 2, 5)
    assert out.dtype == np.float32
