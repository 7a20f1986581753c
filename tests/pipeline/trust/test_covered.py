"""Sets against the truth, reliability, and what is drawn of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from simulated import BINARY, FINDINGS, TASKS, TISSUES, simulate

from data_prep.task import Task
from pipeline.trust.conformal import fit_conformal
from pipeline.trust.covered import measure_sets
from pipeline.trust.figures import reliability_figure, risk_coverage_figure
from pipeline.trust.reliability import reliability
from pipeline.trust.selective import risk_coverage


def test_sets_are_counted() -> None:
    target = np.array([0, 0, 1, 1, 1])
    sets = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [0, 1]], dtype=bool)
    found = measure_sets(BINARY, target, sets, np.array(["a", "b", "c", "d", "e"]))
    assert (found.coverage.value, found.coverage.scans) == (0.6, 5)
    assert [one.value for one in found.classes] == [0.5, pytest.approx(2 / 3)]
    assert found.mean_size == 1.0
    assert (found.answered.value, found.right.value, found.right.scans) == (0.6, 2 / 3, 3)
    assert found.empty.value == 0.2
    assert found.coverage.low < 0.6 < found.coverage.high


def test_sets_of_labels_are_counted_label_by_label() -> None:
    target = np.array([[0, 1], [1, 1]])
    sets = np.array([[[1, 0], [0, 1]], [[1, 1], [1, 0]]], dtype=bool)
    found = measure_sets(FINDINGS, target, sets, np.array(["a", "b"]))
    assert [one.value for one in found.classes] == [1, 1, None, 0.5]
    assert [one.scans for one in found.classes] == [1, 1, 0, 2]
    assert found.coverage.value == 0.75
    assert found.answered.value == 0.75


def test_nothing_answered_has_no_share_of_right_answers() -> None:
    found = measure_sets(
        BINARY, np.array([0, 1]), np.ones((2, 2), dtype=bool), np.array(["a", "b"])
    )
    assert (found.right.value, found.right.low, found.right.scans) == (None, None, 0)
    with pytest.raises(ValueError, match="do not fit"):
        measure_sets(TISSUES, np.array([0, 1]), np.ones((2, 2), dtype=bool), np.array(["a", "b"]))


def test_sets_of_simulated_patients_cover_within_the_interval() -> None:
    kept = 0
    for seed in range(40):
        world = simulate(BINARY, 700, scans=3, seed=seed)
        known, new = slice(0, 1500), slice(1500, None)
        found = fit_conformal(
            BINARY, world.target[known], world.said[known], world.patient_ids[known]
        )
        sets = found.sets(BINARY, world.said[new])
        share = measure_sets(BINARY, world.target[new], sets, world.patient_ids[new]).coverage
        kept += share.low <= 0.9 <= share.high
    assert kept >= 30  # of the 95 %, calibration's own chance takes some


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
