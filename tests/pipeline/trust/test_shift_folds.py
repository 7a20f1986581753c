"""A reference of scans that the model was fitted on keeps its rate, and tells batches apart."""

from __future__ import annotations

import numpy as np
import pytest
from looked_scans import Looked, looked
from numpy.typing import NDArray

from pipeline.trust.shift_folds import fold_reference, fold_shift
from pipeline.trust.shift_reference import ShiftError, ShiftReference
from pipeline.trust.two_sample import batch_test

FOLDS = 5


def by_heart(features: NDArray[np.float32], fitted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A model for which scans that it was fitted on lie far closer together than others."""
    return np.where(fitted[:, None], 0.2 * features, features).astype(np.float32)


def reference_of(
    scans: Looked, *, learns: bool, patients: list[str] | None = None, false_alarms: float = 0.1
) -> ShiftReference:
    looks, features = scans
    fold = np.arange(len(looks)) % FOLDS
    shifts = []
    for number in range(FOLDS):
        seen = by_heart(features, fold != number) if learns else features
        shifts.append(fold_shift(looks, seen, np.flatnonzero(fold == number)))
    seen = by_heart(features, fold >= 0) if learns else features
    names = patients or [str(n) for n in range(len(looks))]
    return fold_reference(looks, seen, shifts, names, false_alarms)


@pytest.mark.parametrize("learns", [False, True])
def test_new_scans_are_flagged_at_the_stated_rate(learns: bool) -> None:
    flags = []
    for draw in range(25):
        reference = reference_of(looked(59, 2 * draw), learns=learns)
        assert reference.rate == 0.1
        flags += [score.flagged for score in reference.score(*looked(20, 2 * draw + 1))]
    # 500 scans in 25 groups that share a threshold: a standard deviation of about 1.5 %.
    assert 0.1 - 0.045 < np.mean(flags) < 0.1 + 0.045


def test_a_foreign_scan_is_flagged() -> None:
    reference = reference_of(looked(60), learns=True)
    looks, features = looked(10, 7)
    assert all(score.flagged for score in reference.score(looks, features + 30))
    bright = reference.score(looked(10, 8, bright=400.0)[0], features)
    assert all(score.raised_by == "histogram" for score in bright)


def test_batches_are_compared_by_features_only_where_they_are_as_of_new_scans() -> None:
    for learns in (False, True):
        reference = reference_of(looked(100), learns=learns)
        found = batch_test(reference, *looked(30, 5))
        assert ("features" in found.p_values) == (not learns)
        assert found.p_value > 0.01
        assert found.scans[0] == 20  # the first fold
        assert batch_test(reference, *looked(30, 5, bright=60.0)).p_value <= 0.01


def test_it_is_the_same_from_its_state() -> None:
    reference = reference_of(looked(60), learns=True)
    again = ShiftReference.from_state(reference.facts, reference.state())
    new = looked(5, 9)
    assert again.score(*new) == reference.score(*new)
    assert batch_test(again, *looked(30, 5)) == batch_test(reference, *looked(30, 5))
    state = reference.state()
    state["metadata.held_points"] = state["metadata.held_points"][1:]
    with pytest.raises(ShiftError, match=r"metadata\.held_points") as caught:
        ShiftReference.from_state(reference.facts, state)
    assert caught.value.code == "shift.bad_state"


def test_each_patient_counts_once() -> None:
    patients = [f"p{n % 20}" for n in range(60)]
    reference = reference_of(looked(60), learns=False, patients=patients)
    assert reference.facts.held_out == len(reference.held) == 20


def test_too_few_scans_are_refused() -> None:
    with pytest.raises(ShiftError) as caught:
        reference_of(looked(9), learns=False)
    assert caught.value.code == "shift.too_few_scans"
