"""A reference is fitted on enough scans, and of each held-out patient on one."""

from __future__ import annotations

import pytest
from looked_scans import looked

from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.shift_reference import ShiftError


@pytest.mark.parametrize(("n_train", "n_held"), [(7, 20), (30, 3)])
def test_too_few_scans_are_refused(n_train: int, n_held: int) -> None:
    with pytest.raises(ShiftError, match=f"{n_train} training and {n_held} held-out") as caught:
        fit_shift_reference(*looked(n_train, 1), *looked(n_held, 2))
    assert caught.value.code == "shift.too_few_scans"


def test_each_held_out_patient_counts_once() -> None:
    patients = [f"p{n % 12}" for n in range(36)]
    reference = fit_shift_reference(*looked(30, 1), *looked(36, 2), held_out_patients=patients)
    assert reference.facts.held_out == len(reference.held) == 12
    assert {len(points) for points in reference.points.values()} == {12}
