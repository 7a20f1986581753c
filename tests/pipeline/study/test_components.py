"""Intervals of bias and variance, and the ranking of scans."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.metrics import resample
from pipeline.study.components import (
    Truth,
    decomposed,
    measure,
    patient_numbers,
    ranked_scans,
    scan_weights,
)
from pipeline.study.learning_curve import Draws, Replicates, distribution, interval
from pipeline.study.terms import Cells

Floats = NDArray[np.float64]
BINARY = Task(kind="binary", class_names=("healthy", "ill"))


def softmax(z: Floats) -> Floats:
    odds = np.exp(z)
    found: Floats = odds / odds.sum(axis=-1, keepdims=True)
    return found


def truth_of(
    target: NDArray[np.int64], shape: tuple[int, int], bayes: Floats | None = None, seed: int = 0
) -> Truth:
    """Two scans a patient."""
    patients = np.array([f"P{scan // 2:03d}" for scan in range(len(target))])
    return Truth(
        task=BINARY,
        target=target,
        bayes=bayes,
        patients=patient_numbers(patients),
        weights=scan_weights(patients, 300, seed),
        draws=Draws.of(*shape, 300, seed),
        level=0.95,
    )


def test_the_total_is_the_brier_score_of_the_learning_curve_draw_by_draw() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 30)
    p = softmax(rng.normal(size=(5, 2, 30, 2)))
    p[1, 1] = np.nan
    truth = truth_of(target, (5, 2))
    patients = np.array([f"P{scan // 2:03d}" for scan in range(30)])
    resampled = np.full((5, 2, 300), np.nan)
    for d, s in np.argwhere(~np.isnan(p[..., 0, 0])):
        again = resample(BINARY, target, p[d, s], patients, names=("brier",), resamples=300)
        resampled[d, s] = again["brier"]
    curve = distribution(Replicates(np.zeros((5, 2)), resampled), truth.draws)

    found = decomposed("linear", 20, p, truth, overlap=0.0)
    assert found.squared["total"].drawn == pytest.approx(curve)
    whole = found.squared["bias2"].drawn + found.squared["variance"].drawn
    assert whole == pytest.approx(curve)


@pytest.mark.parametrize(("subsets", "told"), [(1, True), (2, False), (4, False), (5, True)])
def test_few_subsets_cannot_say_how_much_they_differ(subsets: int, told: bool) -> None:
    rng = np.random.default_rng(subsets)
    p = softmax(rng.normal(size=(5, 2, 20, 2)))
    p[subsets:] = np.nan  # cells that failed
    truth = truth_of(rng.integers(0, 2, 20), (5, 2))
    found = decomposed("linear", 20, p, truth, overlap=0.0)
    bias = next(c for c in found.components if (c.loss, c.term) == ("squared", "bias2"))
    assert np.isfinite(bias.value)
    assert np.isfinite([bias.low, bias.high]).all() == told
    assert np.isfinite(found.squared["bias2"].drawn).all() == told
    for name in ("total", "variance_seed"):
        assert np.isfinite(found.squared[name].drawn).all()


def test_intervals_cover_bias_and_variance() -> None:
    """Gaussian probabilities around a centre: 95 % intervals hold the known terms."""
    rng = np.random.default_rng(7)
    covered = {"noise": 0, "bias2": 0, "variance_data": 0, "total": 0}
    repetitions = 80
    loadings = rng.normal(size=(3, 2000))  # what subsets change, they change together
    signal = rng.normal(size=2000)
    for repetition in range(repetitions):
        scans = rng.permutation(2000)[:80]
        one = 0.5 + 0.1 * signal
        q = 0.5 + 0.2 * np.tanh(signal + 0.5)
        z = rng.normal(size=(10, 3))
        cells = one[scans] + 0.08 * (z @ loadings[:, scans] / np.sqrt(3))[:, None]
        cells = cells + 0.02 * rng.normal(size=(10, 2, 80))
        p = np.stack([1 - cells, cells], axis=-1)
        bayes = np.stack([1 - q[scans], q[scans]], axis=-1)
        truth = truth_of(np.zeros(80, dtype=np.int64), (10, 2), bayes, seed=repetition)
        found = decomposed("linear", 20, p, truth, overlap=0.0)
        expected = {
            "noise": (2 * q * (1 - q)).mean(),
            "bias2": (2 * (q - one) ** 2).mean(),
            "variance_data": 2 * 0.08**2 * (loadings**2).sum(axis=0).mean() / 3,
        }
        expected["total"] = sum(expected.values()) + 2 * 0.02**2
        for name in covered:
            low, high = interval(found.squared[name].drawn, 0.95)
            covered[name] += low <= expected[name] <= high
    for name, count in covered.items():
        assert count / repetitions >= 0.84, name


def test_an_overlap_widens_bias_and_leaves_the_total_where_it_is() -> None:
    rng = np.random.default_rng(3)
    p = softmax(rng.normal(size=(5, 2, 40, 2)))
    truth = truth_of(rng.integers(0, 2, 40), (5, 2))
    apart, near = (decomposed("linear", 20, p, truth, overlap=o) for o in (0.0, 0.6))

    assert near.squared["total"].value == pytest.approx(apart.squared["total"].value)
    assert near.squared["total"].drawn.std() > 1.2 * apart.squared["total"].drawn.std()
    ratio = near.squared["variance_data"].value / apart.squared["variance_data"].value
    assert ratio == pytest.approx(1 / 0.4)


def test_components_are_told_for_all_scans_and_each_class() -> None:
    rng = np.random.default_rng(3)
    target = rng.integers(0, 2, 40)
    p = softmax(rng.normal(size=(3, 1, 40, 2)))
    found = decomposed("linear", 20, p, truth_of(target, (3, 1)), overlap=0.1)
    at = {(c.loss, c.class_name, c.term): c for c in found.components}

    assert {loss for loss, *_ in at} == {"squared", "log", "zero_one"}
    ill = at["squared", "ill", "bias2"].value
    healthy = at["squared", "healthy", "bias2"].value
    mixed = target.mean() * ill + (1 - target.mean()) * healthy
    assert at["squared", "", "bias2"].value == pytest.approx(mixed)
    assert np.isnan(at["squared", "", "variance_seed"].value)  # one seed
    assert np.isnan(at["squared", "", "variance_seed"].low)
    assert ("log", "ill", "bias") not in at


def test_a_class_without_scans_has_no_numbers() -> None:
    p = softmax(np.random.default_rng(3).normal(size=(3, 2, 10, 2)))
    found = decomposed("linear", 20, p, truth_of(np.zeros(10, dtype=np.int64), (3, 2)), 0.0)
    ill = [c for c in found.components if c.class_name == "ill"]
    assert ill
    assert all(np.isnan(c.value) and np.isnan(c.low) for c in ill)


def test_scans_are_ranked_by_loss_and_by_spread() -> None:
    """Scan 3 is always wrong; scan 5 is called either way."""
    p = np.full((4, 1, 8, 2), [0.9, 0.1])
    p[:, :, 3] = [0.05, 0.95]
    p[::2, :, 5] = [0.2, 0.8]
    found = decomposed("linear", 20, p, truth_of(np.zeros(8, dtype=np.int64), (4, 1)), 0.0)
    ranks = ranked_scans([found], 2)

    assert [(r.ranked_by, r.rank) for r in ranks] == [
        ("loss", 1),
        ("loss", 2),
        ("spread", 1),
        ("spread", 2),
    ]
    assert [r.scan for r in ranks[:3]] == [3, 5, 5]
    assert ranks[0].spread == pytest.approx(0, abs=1e-12)
    one = decomposed("linear", 20, p[:1], truth_of(np.zeros(8, dtype=np.int64), (4, 1)), 0.0)
    assert {r.ranked_by for r in ranked_scans([one], 2)} == {"loss"}  # one cell has no spread


def test_a_constant_term_varies_with_the_scans_only() -> None:
    cells = Cells.of(np.full((3, 2, 6, 2), 0.5))
    truth = truth_of(np.zeros(6, dtype=np.int64), (3, 2))
    found = measure(cells.constant(np.arange(6.0)), truth.weights, truth.draws)
    assert found.value == 2.5
    assert found.drawn == pytest.approx(np.arange(6.0) @ truth.weights / truth.weights.sum(axis=0))
