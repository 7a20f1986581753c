"""The rule that says what limits a family at a size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from data_prep.task import Task
from pipeline.study.components import Decomposed, Measured, Truth, decomposed, scan_weights
from pipeline.study.learning_curve import Draws
from pipeline.study.verdict import verdicts


def place(
    size: int,
    noise: float = 0.0,
    width: float = 0.002,
    family: str = "toy",
    overlap: float = 0.0,
    **terms: float,
) -> Decomposed:
    """Terms with these values, each with noise of its own in the resamples."""
    rng = np.random.default_rng([size, len(family)])
    known = [value for value in terms.values() if not math.isnan(value)]
    values = terms | {"total": sum(known) + noise} | ({"noise": noise} if noise else {})
    squared = {
        name: Measured(value, value + (width if name != "noise" else 0) * rng.normal(size=500))
        for name, value in values.items()
    }
    return Decomposed(family, size, overlap, (), squared, *[np.zeros(1)] * 2, np.zeros((1, 2)))


def limit(*places: Decomposed) -> str:
    return verdicts(places, 0.95)[-1].limit


@pytest.mark.parametrize(
    ("bias2", "data", "seed", "expected"),
    [
        (0.2, 0.05, 0.05, "bias-limited"),
        (0.05, 0.2, 0.05, "variance-limited (patients)"),
        (0.05, 0.05, 0.2, "variance-limited (seed)"),
        (0.05, 0.1, 0.1, "variance-limited"),
        (0.2, 0.1, 0.1, "undecided"),
        (0.05, 0.2, math.nan, "variance-limited (patients)"),
    ],
)
def test_the_larger_part_beyond_its_interval_limits(
    bias2: float, data: float, seed: float, expected: str
) -> None:
    assert limit(place(20, bias2=bias2, variance_data=data, variance_seed=seed)) == expected


@pytest.mark.parametrize(
    ("bias2", "data", "seed", "corrected", "uncorrected", "expected"),
    [
        # At overlap 0.8 the uncorrected variance is a fifth, and bias^2 holds the rest.
        (0.05, 0.2, 0.01, "variance-limited (patients)", "bias-limited", "not settled"),
        (0.05, 0.2, math.nan, "variance-limited (patients)", "bias-limited", "not settled"),
        (0.21, 0.2, 0.01, "undecided", "bias-limited", "not settled"),
        (0.3, 0.2, 0.01, "bias-limited", "bias-limited", "bias-limited"),
        (-0.1, 0.3, 0.2, "variance-limited (patients)", "variance-limited (seed)", None),
    ],
)
def test_a_verdict_that_the_correction_for_overlap_turns_is_not_settled(
    bias2: float, data: float, seed: float, corrected: str, uncorrected: str, expected: str | None
) -> None:
    one = place(32, overlap=0.8, bias2=bias2, variance_data=data, variance_seed=seed)
    (found,) = verdicts([one], 0.95)
    assert (found.corrected, found.uncorrected) == (corrected, uncorrected)
    assert found.limit == (expected or "variance-limited")


def test_chance_of_each_fit_is_not_made_a_limit_by_the_correction() -> None:
    """One seed; fits differ by chance alone, by less than the bias: no verdict by variance.

    The truth is bias-limited: bias^2 is 0.08 and variance 0.02. Divided by 1 - 0.9, chance comes
    out ten times as large.
    """
    rng = np.random.default_rng(0)
    scans, subsets = 200, 10
    task = Task(kind="binary", class_names=("no", "yes"))
    target = np.arange(scans) % 2
    ill = np.where(target, 0.8, 0.2) + 0.1 * rng.normal(size=(subsets, 1, scans))
    p = np.stack([1 - ill, ill], axis=-1)
    patients = np.array([f"P{n}" for n in range(scans)])
    draws = Draws.of(subsets, 1, 300, 0)
    weights = scan_weights(patients, 300, 0)
    truth = Truth(task, target, None, np.arange(scans), weights, draws, 0.95)
    (found,) = verdicts([decomposed("toy", 90, p, truth, overlap=0.9)], 0.95)
    assert found.corrected.startswith("variance-limited")
    assert (found.uncorrected, found.limit) == ("bias-limited", "not settled")


def test_noise_is_at_most_the_best_familys_uncorrected_bias() -> None:
    """Of the best family, variance that the correction may have overdone could be bias."""
    terms = {"variance_data": 0.1, "variance_seed": 0.01}
    for overlap, beyond in ((0.0, True), (0.9, False)):
        mine = place(20, family="prior", overlap=overlap, bias2=0.25, **terms)
        best = place(20, family="linear", overlap=overlap, bias2=0.2, **terms)
        assert [one.beyond_noise for one in verdicts([mine, best], 0.95)] == [beyond, False]


def test_wide_intervals_leave_it_undecided() -> None:
    terms = {"bias2": 0.2, "variance_data": 0.05, "variance_seed": 0.05}
    assert limit(place(20, width=0.2, **terms)) == "undecided"


@pytest.mark.parametrize(
    ("noise", "expected"), [(0.3, "bias-limited"), (3.0, "at the noise floor")]
)
def test_little_left_above_known_noise_is_the_floor(noise: float, expected: str) -> None:
    terms = {"bias2": 0.11, "variance_data": 0.02, "variance_seed": 0.02}
    found = verdicts([place(20, noise=noise, **terms)], 0.95)[0]
    assert (found.limit, found.noise_known) == (expected, True)


FULL = {"variance_data": math.nan}


@pytest.mark.parametrize(
    ("bias2", "seed", "expected"),
    [
        (0.20, 0.02, "bias-limited"),  # 0.20 - 0.05 is more than 0.05 + 0.02
        (0.10, 0.02, "undecided"),  # it may be 0.05 of each
        (0.02, 0.10, "variance-limited (seed)"),
    ],
)
def test_at_the_full_size_the_variance_of_the_size_below_is_the_most_there_can_be(
    bias2: float, seed: float, expected: str
) -> None:
    below = place(20, bias2=0.2, variance_data=0.05, variance_seed=seed)
    full = place(40, bias2=bias2, variance_seed=seed, **FULL)
    found = verdicts([below, full], 0.95)[1]
    assert (found.limit, found.borrowed_from) == (expected, 20)


def test_without_a_size_below_the_full_size_cannot_be_bias_limited() -> None:
    found = verdicts([place(40, bias2=0.3, variance_seed=math.nan, **FULL)], 0.95)[0]
    assert (found.limit, found.borrowed_from) == ("undecided", 0)
    other = place(20, bias2=0.3, variance_seed=math.nan, **FULL)
    assert limit(other, place(40, bias2=0.3, variance_seed=0.0, **FULL)) == "undecided"


def test_bias_beyond_the_best_familys_is_not_noise() -> None:
    """On real data; the family of least bias may owe all of it to noise."""
    terms = {"variance_data": 0.01, "variance_seed": 0.01}
    worst = place(20, family="prior", bias2=0.3, **terms)
    best = place(20, family="linear", bias2=0.2, **terms)
    near = place(20, family="knn", bias2=0.2005, **terms)
    found = verdicts([worst, best, near], 0.95)
    assert [one.beyond_noise for one in found] == [True, False, False]
    assert verdicts([place(20, noise=0.3, bias2=0.2, **terms)], 0.95)[0].beyond_noise


def test_bias_beyond_noise_is_one_of_many_looks() -> None:
    """Families that owe all bias to noise: one or more is called beyond it in few studies."""
    told = 0
    for study in range(100):
        rng = np.random.default_rng(study)
        found = []
        for number in range(12):
            off = rng.normal()  # of the estimate, by as much as its resamples spread
            terms = {"bias2": 0.2, "variance_data": 0.01, "total": 0.21}
            squared = {
                name: Measured(value, value + 0.01 * (off + rng.normal(size=200)))
                for name, value in (terms | {"variance_seed": math.nan}).items()
            }
            best = number == 0  # known well: what is tested is the others' estimate
            squared["bias2"] = squared["bias2"] if not best else Measured(0.2, np.full(200, 0.2))
            found.append(
                Decomposed(f"f{number}", 20, 0.0, (), squared, *[np.zeros(1)] * 2, np.zeros((1, 2)))
            )
        told += any(one.beyond_noise for one in verdicts(found, 0.95))
    assert told <= 8  # 2.5 % expected; without Holm's rule 24 %


def test_without_a_size_below_bias_of_the_full_size_is_not_beyond_noise() -> None:
    """It holds variance by patients, and nothing says how much."""
    full = place(40, bias2=0.3, variance_seed=0.01, **FULL)
    best = place(40, family="best", bias2=0.1, variance_seed=0.01, **FULL)
    assert not any(one.beyond_noise for one in verdicts([full, best], 0.95))


def test_variance_in_the_bias_of_the_full_size_is_not_taken_for_bias_beyond_noise() -> None:
    below = place(20, bias2=0.2, variance_data=0.1, variance_seed=0.01)
    full = place(40, bias2=0.25, variance_seed=0.01, **FULL)
    other = place(40, family="best", bias2=0.2, variance_seed=0.01, **FULL)
    assert not verdicts([below, full, other], 0.95)[1].beyond_noise
