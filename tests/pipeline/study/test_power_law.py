"""Fits of error(n) = a + b n^-c."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from pipeline.study.power_law import EXPONENTS, Laws, fit

SIZES = (16, 32, 64, 128, 256)
EQUAL = np.ones(5)


def law(asymptote: float, scale: float, exponent: float) -> Laws:
    return Laws(*(np.array([value]) for value in (asymptote, scale, exponent)))


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0, 0.5),
    st.floats(0.1, 5),
    st.sampled_from(list(EXPONENTS[::10])),
    st.lists(st.floats(0.1, 10), min_size=5, max_size=5),
)
def test_a_law_without_noise_is_found(a: float, b: float, c: float, variances: list[float]) -> None:
    errors = law(a, b, c).error(SIZES)
    found = fit(SIZES, errors, np.array(variances))
    assert found.error(SIZES) == pytest.approx(errors, abs=1e-6)
    assert found.error([1000]) == pytest.approx(law(a, b, c).error([1000]), abs=1e-3)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000))
def test_no_local_search_does_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors = law(0.1, 1.0, 0.7).error(SIZES)[0] + 0.02 * rng.normal(size=5)
    weights = rng.uniform(0.5, 2, 5)
    found = fit(SIZES, errors[None], 1 / weights)

    def residuals(parameters: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.sqrt(weights) * (law(*parameters).error(SIZES)[0] - errors)

    here = [float(found.asymptote[0]), float(found.scale[0]), float(found.exponent[0])]
    other = least_squares(
        residuals, [0.1, 1.0, 0.7], bounds=([0, 0, EXPONENTS[0]], [np.inf, np.inf, EXPONENTS[-1]])
    )
    # Half a step of the grid of exponents may cost some 1e-6, a five-hundredth of the noise.
    assert (residuals(np.array(here)) ** 2).sum() <= 2 * other.cost * 1.01 + 1e-6


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_constraints_hold_whatever_the_errors(errors: list[float]) -> None:
    found = fit(SIZES, np.array([errors]), EQUAL)
    assert found.asymptote[0] >= 0 and found.scale[0] >= 0
    assert EXPONENTS[0] <= found.exponent[0] <= EXPONENTS[-1]


def test_rising_errors_have_a_constant_law_at_their_weighted_mean() -> None:
    found = fit(SIZES, np.array([[0.1, 0.1, 0.2, 0.2, 0.3]]), np.array([1, 1, 1, 1, 0.25]))
    assert found.scale[0] == 0
    assert found.asymptote[0] == pytest.approx((0.6 + 4 * 0.3) / 8)


def test_rows_are_fitted_each_by_itself_and_a_nan_is_not() -> None:
    rng = np.random.default_rng(0)
    errors = 0.2 + rng.random((4, 5))
    errors[2, 1] = np.nan
    together = fit(SIZES, errors, EQUAL)
    for row in (0, 1, 3):
        alone = fit(SIZES, errors[row : row + 1], EQUAL)
        assert together.error(SIZES)[row] == pytest.approx(alone.error(SIZES)[0])
    assert np.isnan(together.asymptote[2]) and np.isnan(together.patients(0.1)[2])


def test_an_error_without_variance_is_met() -> None:
    errors = np.array([[0.5, 0.4, 0.35, 0.33, 0.1]])
    assert fit(SIZES, errors, np.array([1, 1, 1, 1, 0.0])).error([256]) == pytest.approx(
        0.1, abs=1e-3
    )
    assert fit(SIZES, errors, np.zeros(5)).asymptote[0] >= 0


@given(st.floats(0.01, 0.4), st.floats(0.1, 5), st.floats(0.1, 2), st.floats(5, 5000))
def test_patients_is_the_inverse_of_error(a: float, b: float, c: float, n: float) -> None:
    one = law(a, b, c)
    assert one.patients(float(one.error([n])[0, 0])) == pytest.approx(n, rel=1e-4)
    assert one.patients(a) == np.inf
    assert one.patients(a / 2) == np.inf


def test_a_constant_law_is_always_there_or_never() -> None:
    assert law(0.2, 0.0, 1.0).patients(0.2) == 0
    assert law(0.2, 0.0, 1.0).patients(0.3) == 0
    assert law(0.2, 0.0, 1.0).patients(0.1) == np.inf


def test_two_sizes_are_too_few() -> None:
    with pytest.raises(ValueError, match="not 2"):
        fit((16, 32), np.ones((1, 2)), np.ones(2))
