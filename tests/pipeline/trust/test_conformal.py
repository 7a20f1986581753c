"""What prediction sets cover, by simulation and by counting."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binom
from simulated import BINARY, FINDINGS, GRADES, TASKS, TISSUES, simulate

from data_prep.task import Task
from pipeline.trust.calibration_fit import fit_calibration
from pipeline.trust.calibration_maps import Method
from pipeline.trust.conformal import Conformal, answered, enough_patients, fit_conformal
from pipeline.trust.errors import TrustError


def within_binomial(hits: int, n: int, share: float, level: float = 0.999) -> bool:
    """Whether so many hits of n are to be expected; a wide level, for a test must not cry wolf."""
    low, high = binom.interval(level, n, share)
    return bool(low <= hits <= high)


@given(
    n=st.integers(1, 60),
    coverage=st.floats(0.5, 0.95),
    seed=st.integers(0, 999),
)
@settings(max_examples=50, deadline=None)
def test_with_one_scan_each_the_end_is_the_common_order_statistic(
    n: int, coverage: float, seed: int
) -> None:
    p = np.random.default_rng(seed).random(n)
    found = fit_conformal(
        BINARY,
        np.ones(n, dtype=np.int64),
        np.stack([1 - p, p], axis=1),
        np.arange(n).astype(str),
        coverage,
        by_class=False,
    )
    rank = math.ceil((n + 1) * coverage - 1e-7)
    expected = np.sort(1 - p)[rank - 1] if rank <= n else 1.0
    np.testing.assert_allclose(found.quantiles, expected)


@pytest.mark.parametrize("scans", [1, 4], ids=["one scan each", "four scans each"])
@pytest.mark.parametrize("by_class", [True, False], ids=["by class", "together"])
def test_a_scan_of_a_new_patient_is_covered_at_the_stated_rate(scans: int, by_class: bool) -> None:
    """Over splits, one scan of one new patient each time: the guarantee, and nothing else."""
    repetitions, patients, hits = 1500, 40, 0
    world = simulate(GRADES, repetitions * (patients + 1), scans=scans, seed=5)
    blocks = np.arange(len(world.target)).reshape(repetitions, -1)
    for rows in blocks:
        known, new = rows[: patients * scans], rows[-1]
        found = fit_conformal(
            *(GRADES, world.target[known], world.said[known], world.patient_ids[known], 0.8),
            by_class=by_class,
        )
        hits += bool(found.sets(GRADES, world.said[[new]])[0, world.target[new]])
    if by_class:  # each class has a larger finite-sample correction: at least, and not far above
        assert 0.8 - 3.3 * math.sqrt(0.16 / repetitions) < hits / repetitions < 0.87
    else:
        exact = math.ceil(41 * 0.8) / 41 if scans == 1 else 0.8
        assert hits / repetitions > exact - 3.3 * math.sqrt(0.16 / repetitions)
        assert hits / repetitions < exact + 0.035


def test_scans_of_a_patient_that_are_alike_count_as_one_patient() -> None:
    """Taken as if they were independent, they would promise what they cannot keep."""
    repetitions, patients, scans = 600, 12, 8
    kept = np.zeros(2)
    rng = np.random.default_rng(3)
    for _ in range(repetitions):
        p = np.repeat(rng.beta(2, 1, size=patients + 1), scans)  # one severity, one probability
        rows, target = np.stack([1 - p, p], axis=1), np.ones(len(p), dtype=np.int64)
        ids = np.repeat(np.arange(patients + 1), scans).astype(str)
        scan_ids = np.arange(len(p)).astype(str)
        known = slice(0, patients * scans)
        for way, who in enumerate((ids, scan_ids)):
            found = fit_conformal(
                BINARY, target[known], rows[known], who[known], 0.9, by_class=False
            )
            kept[way] += found.sets(BINARY, rows[-1:])[0, 1]
    honest, naive = kept / repetitions
    assert within_binomial(int(kept[0]), repetitions, 12 / 13)
    assert naive < 0.88 < honest


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_each_class_is_covered_on_new_scans(task: Task) -> None:
    seen, new = simulate(task, 1500, seed=1), simulate(task, 3000, seed=2)
    found = fit_conformal(task, seen.target, seen.said, seen.patient_ids, 0.9)
    sets = found.sets(task, new.said)
    assert found.told(task) == ()
    truths = new.target.T if task.is_multi_label else [new.target]
    parts = np.moveaxis(sets, 1, 0) if task.is_multi_label else [sets]
    for truth, part in zip(truths, parts, strict=True):
        for label in range(part.shape[1]):
            covered = part[truth == label, label]
            assert abs(covered.mean() - 0.9) < 0.035  # 3.3 deviations of calibration and test


@given(low=st.floats(0.5, 0.9), more=st.floats(0.01, 0.09), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_higher_coverage_never_has_smaller_sets(low: float, more: float, seed: int) -> None:
    seen = simulate(TISSUES, 80, scans=2, seed=seed)
    lower, higher = (
        fit_conformal(
            TISSUES, seen.target, seen.said, seen.patient_ids, coverage, by_class=False
        ).sets(TISSUES, seen.said)
        for coverage in (low, low + more)
    )
    assert (higher | ~lower).all()


def test_too_few_patients_put_everything_in_and_are_told() -> None:
    seen = simulate(BINARY, 8)
    found = fit_conformal(BINARY, seen.target, seen.said, seen.patient_ids, 0.9)
    assert found.quantiles == (1, 1)
    assert found.pooled == (True, True)
    assert found.sets(BINARY, seen.said).all()
    assert not answered(found.sets(BINARY, seen.said)).any()
    first, _ = found.told(BINARY)
    assert first.startswith("'healthy' is in every set: with ")


def test_a_rare_class_takes_the_quantile_of_all_and_is_told() -> None:
    seen = simulate(BINARY, 200)
    rare = np.flatnonzero(seen.target == 1)[:5]
    rows = np.concatenate([np.flatnonzero(seen.target == 0), rare])
    chosen = (seen.target[rows], seen.said[rows], seen.patient_ids[rows])
    found = fit_conformal(BINARY, *chosen, 0.9)
    pooled = fit_conformal(BINARY, *chosen, 0.9, by_class=False)
    assert found.pooled == (False, True)
    assert found.patients[1] == 5
    assert found.quantiles[1] == pooled.quantiles[1]
    assert found.told(BINARY) == (
        "'ill' has the quantile of all classes: 5 validation patients have it, a quantile of its "
        "own needs 19 all of whose scans do",
    )
    assert pooled.told(BINARY) == ()


@pytest.mark.parametrize(("coverage", "patients"), [(0.9, 19), (0.8, 9), (0.95, 39), (0.5, 3)])
def test_enough_patients_leave_one_score_above_the_end(coverage: float, patients: int) -> None:
    assert enough_patients(coverage) == patients
    p = np.linspace(0.1, 0.9, patients)
    for count, above in ((patients, 1), (patients - 1, 0)):
        found = fit_conformal(
            *(BINARY, np.ones(count, dtype=np.int64), np.stack([1 - p, p], axis=1)[:count]),
            *(np.arange(count).astype(str), coverage),
            by_class=False,
        )
        assert (1 - p[:count] > found.quantiles[1] + 1e-9).sum() == above


def test_a_set_can_be_empty_single_or_open() -> None:
    found = Conformal(
        coverage=0.9, by_class=True, quantiles=(0.4, 0.3), patients=(50, 50), pooled=(False, False)
    )
    sets = found.sets(BINARY, np.array([[0.9, 0.1], [0.5, 0.5], [0.25, 0.75]]))
    assert sets.tolist() == [[True, False], [False, False], [False, True]]
    assert answered(sets).tolist() == [True, False, True]


def test_a_label_has_a_set_of_no_and_yes() -> None:
    found = Conformal(
        coverage=0.9,
        by_class=True,
        quantiles=(0.6, 0.2, 1.0, 1.0),
        patients=(50, 50, 3, 2),
        pooled=(False, False, True, True),
    )
    sets = found.sets(FINDINGS, np.array([[0.9, 0.9], [0.5, 0.1]]))
    assert sets.tolist() == [[[False, True], [True, True]], [[True, False], [True, True]]]
    assert answered(sets).tolist() == [[True, False], [True, False]]
    assert [text.split(" is ")[0] for text in found.told(FINDINGS)] == [
        "'no effusion'",
        "'yes effusion'",
    ]


def test_a_classifier_that_says_the_same_of_all_leaves_everything_open() -> None:
    p = np.full((60, 2), [0.3, 0.7])
    target = np.repeat([0, 1], [20, 40])
    found = fit_conformal(BINARY, target, p, np.arange(60).astype(str))
    assert found.sets(BINARY, np.nextafter(p, 0)).all()


@pytest.mark.parametrize("neighbours", [3, 7, 52])
def test_rounding_to_six_decimals_takes_no_class_out_of_a_set(neighbours: int) -> None:
    """Of probabilities that few scans share, many lie on the very end of the sets."""
    share = np.arange(neighbours + 1) / neighbours
    p = np.repeat(np.stack([1 - share, share], axis=1), 8, axis=0)
    target = np.tile(np.arange(2), len(p) // 2).astype(np.int64)
    found = fit_conformal(BINARY, target, p, np.arange(len(p)).astype(str), 0.8)
    assert np.array_equal(found.sets(BINARY, np.round(p, 6)), found.sets(BINARY, p))


@pytest.mark.parametrize("task", [BINARY, FINDINGS], ids=lambda task: task.kind)
@pytest.mark.parametrize("method", ["temperature", "platt", "beta"])
def test_calibration_on_the_same_scans_leaves_the_sets_of_two_classes_as_they_are(
    task: Task, method: Method
) -> None:
    seen, new = simulate(task, 120, scans=2), simulate(task, 300, seed=1)
    known = (task, seen.target, seen.said, seen.patient_ids)
    calibration = fit_calibration(*known, method=method)
    before = fit_conformal(*known).sets(task, new.said)
    calibrated = calibration.apply(task, seen.said)
    after = fit_conformal(task, seen.target, calibrated, seen.patient_ids)
    assert before.mean() < 0.95
    np.testing.assert_array_equal(after.sets(task, calibration.apply(task, new.said)), before)


def test_sets_survive_being_stored() -> None:
    seen = simulate(TISSUES, 90)
    found = fit_conformal(TISSUES, seen.target, seen.said, seen.patient_ids)
    again = Conformal.model_validate(json.loads(json.dumps(found.model_dump(mode="json"))))
    assert again == found
    np.testing.assert_array_equal(again.sets(TISSUES, seen.said), found.sets(TISSUES, seen.said))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"quantiles": (0.5,)}, "1 quantiles, 2 numbers of patients"),
        ({"quantiles": (0.5, 1.5)}, "less than or equal to 1"),
        ({"quantiles": (0.5, float("nan"))}, "finite"),
        ({"coverage": 1.0}, "less than 1"),
        ({"patients": (5, -1)}, "greater than or equal to 0"),
        ({"quantiles": (), "patients": (), "pooled": ()}, "0 quantiles"),
    ],
)
def test_stored_numbers_that_cannot_be_are_refused(changed: dict[str, object], told: str) -> None:
    whole = {
        "coverage": 0.9,
        "by_class": True,
        "quantiles": (0.5, 0.5),
        "patients": (9, 9),
        "pooled": (True, True),
    }
    with pytest.raises(ValidationError, match=told):
        Conformal.model_validate(whole | changed)


def test_sets_of_another_task_and_bad_arrays_are_refused() -> None:
    seen = simulate(BINARY, 40)
    found = fit_conformal(BINARY, seen.target, seen.said, seen.patient_ids)
    with pytest.raises(TrustError, match="2 quantiles do not fit a multi-class task") as caught:
        found.sets(TISSUES, np.full((1, 3), 1 / 3))
    assert caught.value.code == "trust.sets_of_another_task"
    with pytest.raises(ValueError, match="not of 2 classes"):
        found.sets(BINARY, np.full((1, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"coverage of 1"):
        fit_conformal(BINARY, seen.target, seen.said, seen.patient_ids, 1.0)
