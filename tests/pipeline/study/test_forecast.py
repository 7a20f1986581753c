"""Forecasts, their back-test and crossings, on curves whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.study.forecast import Outlook, outlook
from pipeline.study.learning_curve import Curves, Draws, Replicates, Where, curves

SIZES = (16, 32, 64, 128, 256)
Law = tuple[float, float, float]


def error(law: Law, n: float) -> float:
    return law[0] + law[1] * n ** -law[2]


def made(
    laws: dict[str, Law],
    *,
    noise: float = 0.003,
    rng: np.random.Generator | None = None,
    subsets: int = 6,
    pool: int = 10**6,
    sizes: tuple[int, ...] = SIZES,
    metric: str = "auc",
) -> Curves:
    """Curves of families with these laws.

    Test patients move all of a family's scores alike; each subset's scores vary by a mean over its
    patients, who are drawn from a pool; at the size of the pool there is one subset.
    """
    rng = rng or np.random.default_rng(0)
    places = {}
    for family, law in laws.items():
        patients = 8 * noise * rng.normal(size=min(pool, 4096))
        tested, drawn = 3 * noise * rng.normal(), 3 * noise * rng.normal(size=400)
        orders = [rng.permutation(len(patients)) for _ in range(subsets)]
        for size in sizes:
            effect = np.array([patients[order[:size]].mean() for order in orders])
            if size >= pool:
                effect[1:] = np.nan
            score = 1 - error(law, size) if metric == "auc" else error(law, size)
            values = (score + effect + tested)[:, None]
            resampled = values[..., None] + drawn
            places[Where(family, size, "test", metric)] = Replicates(values, resampled)
    return curves(places, Draws.of(subsets, 1, 400, 0), 0.95)


def told(found: Curves, families: str = "a", pool: int = 4096, **fields: object) -> Outlook:
    asked = {"metric": "auc", "targets": (), "level": 0.95, **fields}
    draws = Draws.of(6, 1, 400, 0)
    return outlook(found, list(families), train_patients=pool, draws=draws, **asked)  # type: ignore[arg-type]


def test_a_target_is_reached_missed_or_beyond_what_can_be_told() -> None:
    laws = {"a": (0.05, 2.0, 0.9)}
    found = told(made(laws, noise=0.0003), targets=(0.92, 0.97, 0.9495))
    reached, missed, beyond = found.forecasts

    assert reached.status == "reached"
    assert reached.low < (2.0 / 0.03) ** (1 / 0.9) < reached.high
    assert reached.low < reached.patients < reached.high
    assert missed.status == "not reachable"
    assert missed.asymptote_low < 0.95 < missed.asymptote_high < 0.97
    assert beyond.status == "not identifiable"  # 0.0005 above the asymptote
    assert math.isfinite(beyond.low) and math.isnan(beyond.patients) and math.isnan(beyond.high)
    assert missed.patients == missed.low == math.inf


def test_a_loss_is_forecast_as_it_is() -> None:
    found = told(made({"a": (0.2, 3.0, 0.8)}, metric="brier"), metric="brier", targets=(0.3,))
    (reached,) = found.forecasts
    assert reached.status == "reached"
    assert reached.low < (3.0 / 0.1) ** (1 / 0.8) < reached.high
    assert reached.asymptote == pytest.approx(0.2, abs=0.03)


def test_a_flat_noisy_curve_is_not_identifiable() -> None:
    found = told(made({"a": (0.1, 0.3, 0.3)}, noise=0.02), targets=(0.93,))
    assert found.forecasts[0].status == "not identifiable"
    easy, *_ = told(made({"a": (0.1, 0.3, 0.3)}, noise=0.05), targets=(0.77,)).forecasts
    assert easy.status == "not identifiable"
    assert math.isnan(easy.low)  # the fewest may be enough


def test_nothing_is_said_of_fewer_patients_than_were_studied() -> None:
    for law in ((0.1, 0.0, 1.0), (0.05, 0.4, 0.5)):
        (easy,) = told(made({"a": law}), targets=(0.6,)).forecasts
        assert easy.status == "reached below"
        assert easy.patients == easy.low == easy.high == 16


def test_a_curve_that_falls_has_no_law() -> None:
    found = told(made({"a": (0.3, -0.8, 0.5)}, noise=0.003), targets=(0.75,))
    assert found.forecasts[0].status == "not identifiable"
    assert found.fitted == {}


def test_few_sizes_have_no_law() -> None:
    found = told(made({"a": (0.05, 2.0, 0.9)}, sizes=(16, 32, 64)), targets=(0.9,))
    assert found.forecasts[0].status == "not identifiable"
    assert math.isnan(found.forecasts[0].low)
    assert (found.fitted, found.ahead, found.backtest) == ({}, (), ())


@pytest.mark.parametrize("pool", [4096, 256])
def test_scores_ahead_and_in_the_back_test_are_covered(pool: int) -> None:
    """Over cohorts of the same law: 95 % intervals at twice the largest size, and the back-test.

    Also where the largest size takes every training patient, so that no spread shows there.
    """
    rng = np.random.default_rng(11)
    law = (0.06, 1.2, 0.7)
    ahead = tested = sizes = 0
    for _ in range(60):
        found = told(made({"a": law}, rng=rng, pool=pool), pool=pool)
        (forecast,) = found.ahead
        ahead += forecast.low <= 1 - error(law, 512) <= forecast.high
        tested += sum(one.covered for one in found.backtest)
        sizes += len(found.backtest)
    assert sizes == 2 * 60  # fitted to three sizes, two to score
    assert ahead / 60 >= 0.85
    assert tested / sizes >= 0.85


def test_what_is_foretold_lies_on_the_scale_of_the_score() -> None:
    rng, tops = np.random.default_rng(0), []
    for _ in range(8):
        found = told(made({"a": (0.002, 0.3, 0.7)}, noise=0.01, rng=rng), targets=(0.9,))
        for one in (*found.backtest, *found.ahead, *found.band):
            assert 0 <= one.low <= one.high <= 1
        tops += [one.high for one in found.backtest]
        for target in found.forecasts:
            assert 0 <= target.asymptote_low <= target.asymptote_high <= 1
    assert max(tops) == 1


def test_a_law_that_breaks_is_found_out_by_the_back_test() -> None:
    """A curve that falls by a law up to 64 patients and stands still from there."""
    places = {}
    for size in (8, 16, 32, 64, 128, 256):
        score = 1 - error((0.0, 2.0, 0.7), min(size, 64))
        values = score + 0.002 * np.random.default_rng(size).normal(size=(6, 1))
        resampled = values[..., None] + 0.002 * np.random.default_rng(0).normal(size=400)
        places[Where("a", size, "test", "auc")] = Replicates(values, resampled)
    found = told(curves(places, Draws.of(6, 1, 400, 0), 0.95))
    assert [one.size for one in found.backtest] == [64, 128, 256]
    assert [one.covered for one in found.backtest] == [True, False, False]
    assert all(one.fitted_to == 32 for one in found.backtest)


CROSSING: dict[str, Law] = {"a": (0.15, 0.5, 0.9), "b": (0.05, 1.6, 0.7)}


def crossing_of(first: Law, second: Law) -> float:
    grid = np.geomspace(16, 512, 10_000)
    apart = [error(first, n) - error(second, n) for n in grid]
    return float(grid[np.flatnonzero(np.diff(np.sign(apart)))[0]])


@pytest.mark.parametrize("families", ["ab", "ba"])
def test_a_crossing_is_found_with_an_interval(families: str) -> None:
    found = told(made(CROSSING, noise=0.001), families)
    (one,) = found.crossings
    assert (one.leader, one.follower, one.settled) == ("a", "b", True)
    assert one.low < crossing_of(*CROSSING.values()) < one.high
    assert one.low < one.patients < one.high


def test_a_crossing_in_much_noise_is_not_settled() -> None:
    found = told(made(CROSSING, noise=0.02), "ab")
    assert not any(one.settled for one in found.crossings)


def test_few_test_patients_settle_no_crossing() -> None:
    (one,) = told(made(CROSSING, noise=0.001), "ab", few_patients=True).crossings
    assert not one.settled and one.low > 16 and one.high < 512


def test_laws_that_never_meet_have_no_crossing() -> None:
    apart = {"a": (0.05, 0.5, 0.9), "b": (0.15, 0.5, 0.9)}
    assert told(made(apart), "ab").crossings == ()


def test_an_undefined_score_leaves_its_size_out() -> None:
    found = made({"a": (0.05, 2.0, 0.9)})
    where = Where("a", 16, "test", "auc")
    places = dict(found.replicates)
    places[where] = Replicates(np.full((6, 1), np.nan), np.full((6, 1, 400), np.nan))
    law = told(curves(places, Draws.of(6, 1, 400, 0), 0.95)).fitted["a"]
    assert law.sizes == SIZES[1:]
