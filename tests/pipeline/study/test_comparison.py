"""Paired differences between families: variance, Holm and the verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulated_cells import cells, made

from pipeline.study.comparison import Difference, differences, trends
from pipeline.study.learning_curve import Draws, Replicates, Where, curves


def only(found: list[Difference]) -> Difference:
    (one,) = found
    return one


@pytest.mark.parametrize("shape", [(3, 1), (10, 2), (1, 1)])
def test_equal_families_are_told_apart_as_often_as_the_level_says(shape: tuple[int, int]) -> None:
    """Also with three subsets: few degrees of freedom ask for Student's t."""
    rng = np.random.default_rng(5)
    told = 0
    for _ in range(300):
        both = {name: cells(rng, shape, sd=0.02 if shape[0] > 1 else 0) for name in "ab"}
        both = {  # the test patients are a draw too
            name: Replicates(one.values + 0.01 * rng.normal(), one.resampled)
            for name, one in both.items()
        }
        told += only(differences(made(both), "ab", [40], "auc", 0.95)).winner != ""
    assert 0.02 <= told / 300 <= 0.1


def test_interval_and_verdict_agree_for_one_pair() -> None:
    rng = np.random.default_rng(1)
    for gain in np.linspace(-0.1, 0.1, 21):
        both = {"a": cells(rng, (5, 2), 0.8 + gain), "b": cells(rng, (5, 2))}
        found = only(differences(made(both), "ab", [40], "auc", 0.95))
        assert (found.winner != "") == (not found.low <= 0 <= found.high)
        assert found.low < found.gain < found.high
        assert found.test == "bootstrap"


def test_a_loss_is_better_when_lower() -> None:
    rng = np.random.default_rng(1)
    both = {"a": cells(rng, (5, 2), 0.2), "b": cells(rng, (5, 2), 0.8)}
    found = only(differences(made(both, "brier"), "ab", [40], "brier", 0.95))
    assert found.winner == "a" and found.gain > 0


def test_delongs_variance_takes_the_place_of_the_bootstraps() -> None:
    rng = np.random.default_rng(2)
    flat = {name: cells(rng, (1, 1), mean, 0) for name, mean in (("a", 0.9), ("b", 0.8))}
    parts = {
        ("a", 40): np.array([[[0.03, -0.01]]]),
        ("b", 40): np.array([[[0.01, -0.02]]]),
    }
    found = only(differences(made(flat), "ab", [40], "auc", 0.95, parts))
    error = math.hypot(0.02, 0.01)
    assert found.test == "delong"
    assert found.high - found.gain == pytest.approx(1.959964 * error)
    assert found.p == pytest.approx(math.erfc(0.1 / error / math.sqrt(2)))
    brier = differences(made(flat, "brier"), "ab", [40], "brier", 0.95, parts)
    assert only(brier).test == "bootstrap"


def test_pairing_takes_out_what_families_share() -> None:
    """Subsets that are good for both families do not blur the difference."""
    rng = np.random.default_rng(3)
    first = cells(rng, (6, 1), sd=0.05)
    other = Replicates(first.values + 0.02, first.resampled + 0.02)
    found = only(differences(made({"a": first, "b": other}), "ab", [40], "auc", 0.95))
    assert found.winner == "b"
    assert found.high - found.low == pytest.approx(0, abs=1e-9)


def lost(whole: Replicates, *places: tuple[int, int]) -> Replicates:
    """The same cells, some of which failed."""
    values, resampled = whole.values.copy(), whole.resampled.copy()
    for place in places:
        values[place], resampled[place] = np.nan, np.nan
    return Replicates(values, resampled)


def test_cells_that_one_family_lost_count_for_neither() -> None:
    """What is left is compared as if the study had never had the others, by every method."""
    rng = np.random.default_rng(4)
    whole = {name: cells(rng, (6, 2), sd=0.1) for name in "ab"}
    parts = {(name, 40): 0.02 * rng.normal(size=(6, 2, 30)) for name in "ab"}
    failed = {"a": lost(whole["a"], (0, 0), (0, 1)), "b": lost(whole["b"], (5, 0), (5, 1))}
    gaps = {("a", 40): parts["a", 40].copy(), ("b", 40): parts["b", 40].copy()}
    gaps["a", 40][0], gaps["b", 40][5] = np.nan, np.nan
    kept = {name: Replicates(one.values[1:5], one.resampled[1:5]) for name, one in whole.items()}
    shared = {place: values[1:5] for place, values in parts.items()}

    for seen, left in ((gaps, shared), (None, None)):
        found = only(differences(made(failed), "ab", [40], "auc", 0.95, seen))
        expected = only(differences(made(kept), "ab", [40], "auc", 0.95, left))
        assert found.pairs == expected.pairs == 8
        for field in ("gain", "low", "high", "p"):
            assert getattr(found, field) == pytest.approx(getattr(expected, field))


def test_without_a_common_cell_nothing_is_said() -> None:
    rng = np.random.default_rng(4)
    both = {name: cells(rng, (2, 1)) for name in "ab"}
    apart = {"a": lost(both["a"], (0, 0)), "b": lost(both["b"], (1, 0))}
    parts = {(name, 40): np.zeros((2, 1, 3)) for name in "ab"}
    found = only(differences(made(apart), "ab", [40], "auc", 0.95, parts))
    assert (found.pairs, found.winner) == (0, "") and math.isnan(found.gain)


def step(then: Replicates, now: Replicates) -> tuple[float, float, float]:
    places = {Where("a", size, "test", "auc"): one for size, one in ((20, then), (40, now))}
    draws = Draws.of(*then.values.shape, 200, 0)
    (one,) = trends(curves(places, draws, 0.95), "a", (20, 40), "auc", 0.95, draws)
    return one.gain, one.low, one.high


def test_the_last_step_is_of_the_cells_that_both_sizes_have() -> None:
    """A good subset that failed at the smaller size is no gain of the larger."""
    then = cells(np.random.default_rng(6), (6, 1), sd=0.1)
    now = Replicates(then.values + 0.05, then.resampled + 0.05)
    best = int(then.values.argmax())
    assert step(lost(then, (best, 0)), now) == pytest.approx((0.05, 0.05, 0.05))
    # The size that takes every patient has one subset: nothing to pair with, all of them count.
    full = lost(now, *((row, 0) for row in range(1, 6)))
    gain, low, high = step(then, full)
    assert gain == pytest.approx(full.mean - then.mean)
    assert low < gain < high


def test_no_difference_at_all_is_noise() -> None:
    same = cells(np.random.default_rng(3), (3, 1))
    found = only(differences(made({"a": same, "b": same}), "ab", [40], "auc", 0.95))
    assert (found.p, found.winner) == (1.0, "")


def test_what_is_undefined_has_no_winner() -> None:
    nothing = Replicates(np.full((2, 1), np.nan), np.full((2, 1, 200), np.nan))
    both = {"a": nothing, "b": cells(np.random.default_rng(3), (2, 1))}
    found = only(differences(made(both), "ab", [40], "auc", 0.95))
    assert math.isnan(found.p) and math.isnan(found.p_holm) and found.winner == ""
