"""What calibration keeps, what it mends, and what it refuses."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import BINARY, FINDINGS, TASKS, TISSUES, simulate
from sklearn.isotonic import IsotonicRegression

from data_prep.task import Task
from pipeline.metrics import score
from pipeline.trust.calibration import Calibration
from pipeline.trust.calibration_fit import ISOTONIC_PATIENTS, cross_fitted, fit_calibration
from pipeline.trust.calibration_maps import Method, apply_map
from pipeline.trust.errors import TrustError
from pipeline.trust.patient_folds import patient_folds

METHODS: tuple[Method, ...] = get_args(Method)
SUITED = [
    (task, method)
    for task in TASKS
    for method in METHODS
    if method not in (("vector",) if task in (BINARY, FINDINGS) else ("platt", "beta"))
]


def fitted(task: Task, method: Method, **how: float) -> tuple[Calibration, np.ndarray]:
    seen = simulate(task, 120, scans=2, **how)
    found = fit_calibration(task, seen.target, seen.said, seen.patient_ids, method=method)
    return found, seen.said


@pytest.mark.parametrize(
    ("task", "method"), SUITED, ids=lambda value: getattr(value, "kind", value)
)
def test_every_method_gives_probabilities_and_survives_being_stored(
    task: Task, method: Method
) -> None:
    found, said = fitted(task, method)
    extremes = np.concatenate([said, np.eye(task.n_classes)])
    calibrated = found.apply(task, extremes)
    assert found.method == method
    assert calibrated.dtype == np.float64
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    if not task.is_multi_label:
        np.testing.assert_allclose(calibrated.sum(axis=1), 1, atol=1e-12)
    stored = json.dumps(found.model_dump(mode="json"))
    again = Calibration.model_validate(json.loads(stored))
    assert again == found
    np.testing.assert_array_equal(again.apply(task, extremes), calibrated)


@given(
    method=st.sampled_from(["temperature", "platt", "beta", "isotonic"]),
    seed=st.integers(0, 1000),
    temperature=st.floats(0.1, 5),
)
@settings(max_examples=25, deadline=None)
def test_the_order_of_scans_of_a_binary_task_stays(
    method: Method, seed: int, temperature: float
) -> None:
    found, said = fitted(BINARY, method, seed=seed, temperature=temperature)
    order = np.lexsort(
        (-said[:, 0], said[:, 1])
    )  # near 1, p rounds to what 1 - p still tells apart
    rising = np.diff(found.apply(BINARY, said)[order, 1])
    assert (rising >= -1e-12).all()
    apart = (np.diff(said[order, 1]) > 1e-4) & (said[order, 1][1:] < 1 - 1e-4)
    if method != "isotonic":
        assert (rising[apart] > 0).all()


def test_temperature_keeps_the_most_probable_class() -> None:
    found, said = fitted(TISSUES, "temperature")
    np.testing.assert_array_equal(found.apply(TISSUES, said).argmax(axis=1), said.argmax(axis=1))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("temperature", [0.4, 2.0])
def test_a_known_temperature_is_recovered(task: Task, temperature: float) -> None:
    seen = simulate(task, 8000, temperature=temperature)
    found = fit_calibration(task, seen.target, seen.said, seen.patient_ids, method="temperature")
    np.testing.assert_allclose(found.numbers, temperature, rtol=0.07)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_a_classifier_that_is_too_sure_is_mended(task: Task) -> None:
    seen, new = simulate(task, 400, seed=1), simulate(task, 2000, seed=2)
    found = fit_calibration(task, seen.target, seen.said, seen.patient_ids)
    before = score(task, new.target, new.said)
    after = score(task, new.target, found.apply(task, new.said))
    best = score(task, new.target, new.true)
    assert found.method != "none"
    gap = before["log_loss"] - best["log_loss"]
    assert after["log_loss"] - best["log_loss"] < 0.1 * gap
    assert after["brier"] < before["brier"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_probabilities_that_are_true_are_hardly_changed(task: Task) -> None:
    moved, lost = [], []
    new = simulate(task, 1000, temperature=1, seed=99)
    for seed in range(6):
        seen = simulate(task, 100, scans=2, temperature=1, seed=seed)
        found = fit_calibration(task, seen.target, seen.true, seen.patient_ids)
        calibrated = found.apply(task, new.true)
        moved.append(np.abs(calibrated - new.true).mean())
        before, after = (score(task, new.target, p)["log_loss"] for p in (new.true, calibrated))
        lost.append(after - before)
    assert np.mean(moved) < 0.03
    assert np.mean(lost) < 0.01


def test_isotonic_equals_scikit_learn_within_what_the_patients_allow() -> None:
    seen = simulate(BINARY, 300)
    found = fit_calibration(BINARY, seen.target, seen.said, seen.patient_ids, method="isotonic")
    no, yes = np.bincount(seen.target)
    reference = IsotonicRegression(y_min=1 / (no + 2), y_max=(yes + 1) / (yes + 2))
    reference.set_params(out_of_bounds="clip").fit(seen.said[:, 1], seen.target)
    new = simulate(BINARY, 300, seed=9).said
    np.testing.assert_allclose(
        found.apply(BINARY, new)[:, 1], reference.predict(new[:, 1]), atol=1e-12
    )


def test_isotonic_is_a_candidate_from_enough_patients_on() -> None:
    for patients, expected in ((ISOTONIC_PATIENTS - 1, False), (ISOTONIC_PATIENTS, True)):
        seen = simulate(BINARY, patients)
        found = fit_calibration(BINARY, seen.target, seen.said, seen.patient_ids)
        assert ("isotonic" in found.candidates) == expected


def test_the_lowest_loss_decides_but_steps_must_be_clearly_better() -> None:
    for seed, temperature in ((3, 1.0), (4, 0.5), (5, 1.5)):
        seen = simulate(BINARY, ISOTONIC_PATIENTS, temperature=temperature, seed=seed)
        found = fit_calibration(BINARY, seen.target, seen.said, seen.patient_ids)
        smooth = {name: loss for name, loss in found.candidates.items() if name != "isotonic"}
        assert found.method == min(smooth, key=lambda name: smooth[name])


def test_few_patients_move_a_map_little_and_many_as_far_as_they_say() -> None:
    def slope(patients: int, seed: int) -> float:
        seen = simulate(BINARY, patients, temperature=0.5, seed=seed)
        known = (seen.target, seen.said, seen.patient_ids)
        return fit_calibration(BINARY, *known, method="temperature").numbers[0][0]

    assert slope(4000, 0) == pytest.approx(0.5, abs=0.06)
    assert 0.6 < np.mean([slope(10, seed) for seed in range(20)]) < 0.95


def test_a_curve_that_no_line_of_logits_mends_is_given_steps() -> None:
    seen = simulate(BINARY, 3000, temperature=1)
    bent = 0.35 + 0.3 * (seen.true[:, 1] > 0.5) + 0.05 * np.sin(9 * seen.true[:, 1])
    said = np.stack([1 - bent, bent], axis=1)
    found = fit_calibration(BINARY, seen.target, said, seen.patient_ids)
    assert found.method == "isotonic"
    assert found.candidates["isotonic"] == min(found.candidates.values())


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("none", "vector")])
def test_classes_told_apart_without_error_give_finite_numbers(method: Method) -> None:
    target = np.repeat([0, 1], 10)
    said = np.eye(2)[target]
    ids = np.arange(20).astype(str)
    found = fit_calibration(BINARY, target, said, ids, method=method)
    calibrated = found.apply(BINARY, said)
    assert np.isfinite(calibrated).all()
    assert (calibrated.argmax(axis=1) == target).all()


def test_one_patient_many_times_is_no_more_than_one_patient() -> None:
    seen = simulate(BINARY, 60)
    once = fit_calibration(BINARY, seen.target, seen.said, seen.patient_ids, method="beta")
    repeated = [np.repeat(rows, 5, axis=0) for rows in (seen.target, seen.said, seen.patient_ids)]
    again = fit_calibration(BINARY, *repeated, method="beta")
    np.testing.assert_allclose(once.numbers, again.numbers, rtol=1e-3)


def test_too_few_patients_or_a_missing_class_change_nothing() -> None:
    few = simulate(BINARY, 9)
    found = fit_calibration(BINARY, few.target, few.said, few.patient_ids)
    assert (found.method, found.candidates) == ("none", {})
    seen = simulate(TISSUES, 60)
    two = np.minimum(seen.target, 1)
    for method in ("auto", "vector"):
        found = fit_calibration(TISSUES, two, seen.said, seen.patient_ids, method=method)
        assert found.method == "none"
        np.testing.assert_array_equal(found.apply(TISSUES, seen.said), seen.said)
        out = cross_fitted(TISSUES, two, seen.said, seen.patient_ids, method=method)
        np.testing.assert_array_equal(out, seen.said)


def test_a_label_that_is_never_true_stays_as_it_is() -> None:
    seen = simulate(FINDINGS, 100)
    target = seen.target * [1, 0]
    for method in ("temperature", "isotonic"):
        found = fit_calibration(FINDINGS, target, seen.said, seen.patient_ids, method=method)
        calibrated = found.apply(FINDINGS, seen.said)
        np.testing.assert_allclose(calibrated[:, 1], seen.said[:, 1], atol=1e-12)
        assert np.abs(calibrated[:, 0] - seen.said[:, 0]).max() > 0.05


def test_out_of_fold_probabilities_know_nothing_of_their_own_patient() -> None:
    seen = simulate(BINARY, 60, scans=2)
    out = cross_fitted(BINARY, seen.target, seen.said, seen.patient_ids, method="platt")
    fold = patient_folds(seen.target, seen.patient_ids, 5)
    changed = seen.said.copy()
    changed[fold == 2] = changed[fold == 2][:, ::-1]
    other = cross_fitted(BINARY, seen.target, changed, seen.patient_ids, method="platt")
    mine = apply_map(
        "platt",
        fit_calibration(
            BINARY,
            seen.target[fold != 2],
            seen.said[fold != 2],
            seen.patient_ids[fold != 2],
            method="platt",
        ).numbers,
        seen.said[fold == 2],
    )
    np.testing.assert_array_equal(out[fold == 2], mine)
    assert (other[fold != 2] != out[fold != 2]).any()


def test_a_method_of_another_kind_of_task_is_refused() -> None:
    seen = simulate(TISSUES, 30)
    with pytest.raises(TrustError, match="auto, none, temperature, vector") as caught:
        fit_calibration(TISSUES, seen.target, seen.said, seen.patient_ids, method="platt")
    assert caught.value.code == "trust.calibration_method"
