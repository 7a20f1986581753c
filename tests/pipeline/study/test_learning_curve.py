from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.study.learning_curve import (
    Curves,
    Draws,
    Replicates,
    Where,
    curves,
    distribution,
    interval,
    point,
)

HERE = Where("toy", 20, "test", "auc")
Floats = NDArray[np.float64]


def noisy_cells(
    rng: np.random.Generator,
    *,
    subsets: int,
    seeds: int,
    patients: int = 60,
    resamples: int = 400,
    sd: tuple[float, float, float] = (0.5, 0.5, 1.0),
) -> Replicates:
    """Cells whose score is a mean over patients of subset + seed + patient effects around 0."""
    sd_subset, sd_seed, sd_patient = sd
    loss = (
        sd_subset * rng.normal(size=(subsets, 1, 1))
        + sd_seed * rng.normal(size=(1, seeds, 1))
        + sd_patient * rng.normal(size=(1, 1, patients))
        + 0.3 * rng.normal(size=(subsets, seeds, patients))
    )
    weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples)
    return Replicates(values=loss.mean(axis=2), resampled=loss @ weights.T / patients)


@pytest.mark.parametrize(("subsets", "seeds"), [(3, 1), (5, 3), (10, 2)])
def test_intervals_cover_the_truth_over_patients_subsets_and_seeds(
    subsets: int, seeds: int
) -> None:
    rng = np.random.default_rng(subsets)
    covered = 0
    for repetition in range(300):
        cells = noisy_cells(
            rng, subsets=subsets, seeds=seeds, sd=(0.2, 0.1 if seeds > 1 else 0.0, 1.0)
        )
        draws = Draws.of(subsets, seeds, 400, repetition)
        low, high = interval(distribution(cells, draws), 0.95)
        covered += low <= 0 <= high

    assert 0.88 <= covered / 300 <= 0.99


@pytest.mark.parametrize(("subsets", "patients"), [(1, 0.0), (1, 0.5), (2, 1.0)])
def test_intervals_cover_the_truth_where_three_seeds_decide(subsets: int, patients: float) -> None:
    rng = np.random.default_rng(3)
    covered, covered_if_many = 0, 0
    for repetition in range(300):
        scores = rng.normal(size=(subsets, 1)) * (subsets > 1) + rng.normal(size=(1, 3))
        resampled = scores[..., None] + patients * rng.normal(size=400)
        cells = Replicates(scores + patients * rng.normal(), resampled)
        drawn = distribution(cells, Draws.of(subsets, 3, 400, repetition))
        low, high = interval(drawn, 0.95, cells.freedom)
        covered += low <= 0 <= high
        low, high = interval(drawn, 0.95)
        covered_if_many += low <= 0 <= high

    assert 0.9 <= covered / 300 <= 0.99
    assert covered_if_many <= covered


def test_an_interval_moves_out_as_students_t_from_the_normal() -> None:
    values = np.array([[-1.0, 0.0, 1.0]])
    drawn = np.random.default_rng(0).normal(0, 1 / math.sqrt(3), 100_000)
    cells = Replicates(values, np.broadcast_to(values[..., None], (1, 3, 10)))
    ends = interval(drawn, 0.95, cells.freedom)

    assert cells.freedom == 2
    assert ends == pytest.approx((-4.303 / math.sqrt(3), 4.303 / math.sqrt(3)), rel=0.02)


def test_many_test_patients_alone_have_the_normals_interval() -> None:
    cells = noisy_cells(np.random.default_rng(1), subsets=1, seeds=1, sd=(0, 0, 1))

    assert cells.freedom == math.inf


def test_without_subset_and_seed_spread_only_test_patients_count() -> None:
    rng = np.random.default_rng(1)
    cells = noisy_cells(rng, subsets=4, seeds=1, sd=(0, 0, 1))
    one = Replicates(cells.values[:1], cells.resampled[:1])

    assert (distribution(one, Draws.of(4, 1, 400, 0)) == one.resampled[0, 0]).all()


def test_the_spread_between_subsets_widens_the_interval() -> None:
    rng = np.random.default_rng(1)
    calm = noisy_cells(rng, subsets=4, seeds=2, sd=(0, 0, 1))
    wild = noisy_cells(rng, subsets=4, seeds=2, sd=(2, 0, 1))
    draws = Draws.of(4, 2, 400, 0)

    assert np.std(distribution(wild, draws)) > 2 * np.std(distribution(calm, draws))


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)))
def test_the_point_does_not_depend_on_the_order_of_subsets(order: list[int]) -> None:
    cells = noisy_cells(np.random.default_rng(2), subsets=4, seeds=2)
    other = Replicates(cells.values[order], cells.resampled[order])
    drawn = np.zeros(3)

    first, second = (point(HERE, cells_, drawn, 0.95) for cells_ in (cells, other))
    assert first.mean == pytest.approx(second.mean)
    assert first.sd_subsets == pytest.approx(second.sd_subsets)
    assert first.sd_seeds == pytest.approx(second.sd_seeds)


def test_a_point_names_its_spread() -> None:
    values = np.array([[0.6, 0.8], [0.8, 1.0]])
    found = point(HERE, Replicates(values, values[:, :, None]), np.array([0.7, 0.9]), 0.5)

    assert found.mean == pytest.approx(0.8)
    assert found.sd_subsets == pytest.approx(math.sqrt(0.02))  # of 0.7 and 0.9
    assert found.sd_seeds == pytest.approx(math.sqrt(0.02))
    half = 0.05 * 0.8165 / 0.6745  # quartiles of Student's t of 2 degrees, and of the normal
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half), rel=1e-4)
    assert (found.subsets, found.seeds, found.cells) == (2, 2, 4)


def test_cells_that_failed_are_left_out() -> None:
    cells = noisy_cells(np.random.default_rng(3), subsets=3, seeds=2)
    values, resampled = cells.values.copy(), cells.resampled.copy()
    values[1] = np.nan
    resampled[1] = np.nan
    values[0, 1] = np.nan
    resampled[0, 1] = np.nan
    drawn = distribution(Replicates(values, resampled), Draws.of(3, 2, 400, 0))
    found = point(HERE, Replicates(values, resampled), drawn, 0.95)

    assert not np.isnan(drawn).any()
    assert found.mean == pytest.approx(np.nanmean(values))
    assert (found.subsets, found.seeds, found.cells) == (2, 2, 3)


@pytest.mark.parametrize(("metric", "largest"), [("auc", 1.0), ("brier", 2.0)])
def test_an_interval_stays_within_what_the_metric_can_be(metric: str, largest: float) -> None:
    drawn = np.linspace(-1, 3, 101)
    cells = Replicates(np.ones((1, 1)), drawn[None, None])
    found = point(Where("linear", 20, "test", metric), cells, drawn, 0.95)
    assert (found.low, found.high) == (0.0, largest)
    loss = point(Where("linear", 20, "test", "log_loss"), cells, drawn, 0.95)
    assert (loss.low, loss.high) == (0.0, pytest.approx(2.9))


def test_nothing_defined_gives_nothing() -> None:
    nothing = Replicates(np.full((2, 2), np.nan), np.full((2, 2, 5), np.nan))
    drawn = distribution(nothing, Draws.of(2, 2, 5, 0))
    found = point(HERE, nothing, drawn, 0.95)

    assert all(map(math.isnan, (found.mean, found.low, found.high, found.sd_subsets)))
    assert found.cells == 0


def test_differences_of_equal_families_are_zero_draw_by_draw() -> None:
    cells = noisy_cells(np.random.default_rng(4), subsets=3, seeds=2)
    other = Replicates(cells.values + 0.25, cells.resampled + 0.25)
    places = {HERE: cells, Where("other", 20, "test", "auc"): other}
    found: Curves = curves(places, Draws.of(3, 2, 400, 0), 0.95)
    first, second = found.drawn.values()

    assert second - first == pytest.approx(0.25)


def test_a_curve_rises_by_size() -> None:
    cells = noisy_cells(np.random.default_rng(4), subsets=3, seeds=2)
    places = {Where("toy", size, "test", "auc"): cells for size in (40, 20)}
    found = curves(places, Draws.of(3, 2, 400, 0), 0.95)

    assert [p.size for p in found.curve("toy", "auc")] == [20, 40]
    assert found.curve("toy", "brier") == []
