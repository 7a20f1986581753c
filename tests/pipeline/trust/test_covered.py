"""Sets against the truth, reliability, and what is drawn of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from simulated import BINARY, FINDINGS, TASKS, TISSUES, simulate

from data_prep.task import Task
from pipeline.trust.conformal import Conformal, fit_conformal
from pipeline.trust.covered import measure_sets
from pipeline.trust.figures import reliability_figure, risk_coverage_figure
from pipeline.trust.promised import Law, law_of_all, law_of_class
from pipeline.trust.reliability import reliability
from pipeline.trust.selective import risk_coverage


def rule(classes: int = 2, patients: int = 50, **changes: object) -> Conformal:
    """Sets that end where 50 validation patients of each class have them end."""
    each = {"quantiles": (0.5,), "patients": (patients,), "pooled": (False,)}
    rows = {name: value * classes for name, value in each.items()}
    return Conformal.model_validate({"coverage": 0.9, "by_class": True, **rows, **changes})


def test_sets_are_counted() -> None:
    target = np.array([0, 0, 1, 1, 1])
    sets = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [0, 1]], dtype=bool)
    found = measure_sets(BINARY, target, sets, np.array(["a", "b", "c", "d", "e"]), rule())
    assert (found.coverage.value, found.coverage.scans) == (0.6, 5)
    assert [one.value for one in found.classes] == [0.5, pytest.approx(2 / 3)]
    assert found.mean_size == 1.0
    assert (found.answered.value, found.right.value, found.right.scans) == (0.6, 2 / 3, 3)
    assert found.empty.value == 0.2
    assert found.coverage.low < 0.6 < found.coverage.high


def test_sets_of_labels_are_counted_label_by_label() -> None:
    target = np.array([[0, 1], [1, 1]])
    sets = np.array([[[1, 0], [0, 1]], [[1, 1], [1, 0]]], dtype=bool)
    found = measure_sets(FINDINGS, target, sets, np.array(["a", "b"]), rule(4))
    assert [one.value for one in found.classes] == [1, 1, None, 0.5]
    assert [one.scans for one in found.classes] == [1, 1, 0, 2]
    assert found.coverage.value == 0.75
    assert found.answered.value == 0.75


def test_nothing_answered_has_no_share_of_right_answers() -> None:
    found = measure_sets(
        BINARY, np.array([0, 1]), np.ones((2, 2), dtype=bool), np.array(["a", "b"]), rule()
    )
    assert (found.right.value, found.right.low, found.right.scans) == (None, None, 0)
    with pytest.raises(ValueError, match="do not fit"):
        wrong = np.ones((2, 2), dtype=bool)
        measure_sets(TISSUES, np.array([0, 1]), wrong, np.array(["a", "b"]), rule(3))


def test_coverage_is_of_a_random_scan_of_each_patient() -> None:
    """Ten covered scans of one patient and a missed one of another are half, not ten elevenths."""
    target, ids = np.zeros(11, dtype=np.int64), np.array(["a"] * 10 + ["b"])
    sets = np.stack([ids == "a", np.zeros(11, dtype=bool)], axis=1)
    found = measure_sets(BINARY, target, sets, ids, rule())
    assert found.coverage.value == found.classes[0].value == pytest.approx(0.5)
    assert found.answered.value == pytest.approx(10 / 11)
    assert found.classes[1].least is None


@pytest.mark.parametrize(
    ("task", "scans", "patients", "by_class"),
    [(BINARY, 1, 60, True), (BINARY, 1, 15, False), (TISSUES, 1, 90, True), (BINARY, 3, 60, True)],
)
def test_simulated_coverage_falls_where_the_promise_says(
    task: Task, scans: int, patients: int, by_class: bool
) -> None:
    """The interval of the test patients alone misses 90 % more often than it says."""
    inside = {"interval": 0, "promise": 0}
    for seed in range(80):
        world = simulate(task, patients + 150, scans=scans, seed=seed)
        parts = [world.target, world.said, world.patient_ids]
        known, (target, said, ids) = (
            [part[chosen] for part in parts]
            for chosen in (slice(0, patients * scans), slice(patients * scans, None))
        )
        found = fit_conformal(task, *known, by_class=by_class)
        share = measure_sets(task, target, found.sets(task, said), ids, found).coverage
        inside["interval"] += share.low <= 0.9 <= share.high
        if share.least is None:  # a class had too few patients this time
            inside["promise"] += 1
        else:
            inside["promise"] += share.least <= share.value <= share.most
    assert inside["promise"] >= 70  # 76 less three deviations
    assert scans > 1 or inside["interval"] < inside["promise"]


def test_one_class_of_one_scan_each_is_beta_binomial() -> None:
    """Against shares drawn as the promise says: uniform scores, their quantile, new ones."""
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((20_000, 21)), axis=1)
    shares = (rng.random((20_000, 40)) <= scores[:, [19]]).mean(axis=1)  # ceil(22 x 0.9) = 20th
    law = law_of_class(rule(patients=21), 0)
    assert law.mean == pytest.approx(shares.mean(), abs=0.003)
    least, most = law.range(40, 0.9)
    assert np.mean((shares >= least) & (shares <= most)) >= 0.9
    assert np.mean(shares < least) <= 0.055
    assert np.mean(shares > most) <= 0.055


def test_nothing_is_promised_of_a_class_without_a_quantile_of_its_own() -> None:
    mixed = rule(patients=8, pooled=(True, False))
    assert law_of_class(mixed, 0) is None
    assert law_of_all(mixed, np.array([1.0, 3.0]), 1) is None
    assert law_of_all(mixed, np.array([0.0, 3.0]), 1) == law_of_class(mixed, 1)
    together = rule(patients=25, pooled=(True, True), by_class=False)
    assert law_of_all(together, np.array([1.0, 3.0]), 1) == Law.of(50, 0.9)
    every = rule(patients=3, pooled=(True, True), quantiles=(1.0, 1.0))
    assert law_of_all(every, np.array([1.0, 1.0]), 1).range(30, 0.95) == (1, 1)
    assert law_of_class(every, 0) == law_of_all(every, np.array([1.0, 1.0]), 1)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_bins_of_true_probabilities_lie_on_the_diagonal(task: Task) -> None:
    seen = simulate(task, 3000, temperature=1)
    bins = reliability(task, seen.target, seen.true, seen.patient_ids)
    off = sum(not one.low <= one.predicted <= one.high for one in bins)
    assert off <= 3
    assert [one.predicted for one in bins] == sorted(one.predicted for one in bins)
    answers = task.n_classes if task.is_multi_label else 1
    assert sum(one.predictions for one in bins) == answers * len(seen.target)
    sharp = reliability(task, seen.target, simulate(task, 3000).said, seen.patient_ids)
    assert sum(not one.low <= one.predicted <= one.high for one in sharp) > len(sharp) / 3


def test_figures_are_the_same_bytes_each_time_and_name_what_they_show() -> None:
    seen = simulate(BINARY, 200)
    bins = reliability(BINARY, seen.target, seen.said, seen.patient_ids)
    true = reliability(BINARY, seen.target, seen.true, seen.patient_ids)
    curve = risk_coverage(BINARY, seen.target, seen.said, seen.patient_ids, resamples=50)

    def drawn() -> list[str]:
        return [
            reliability_figure([("Before", bins), ("After", true)]),
            reliability_figure([("Uncalibrated", bins)], name="single"),
            risk_coverage_figure([("", curve)]),
            risk_coverage_figure([("before", curve), ("after", curve)]),
        ]

    first = drawn()
    assert first == drawn()
    for text, words in zip(
        first,
        (("Before", "After"), ("Uncalibrated",), ("Of these wrong",), ("after",)),
        strict=True,
    ):
        assert ET.fromstring(text).tag.endswith("svg")
        assert all(f">{word}<" in text for word in words)
