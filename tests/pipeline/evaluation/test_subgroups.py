"""Groups of few patients have no name, and what divides the scans alike is told once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.subgroups import FEWEST_PATIENTS, OTHER, divisions


def values(**counts: int) -> np.ndarray:
    return np.repeat(list(counts), list(counts.values())).astype(np.str_)


def told(attributes: dict[str, np.ndarray], patient: np.ndarray) -> dict[str, int]:
    return {
        f"{group.attribute}: {group.name}": len(np.unique(patient[group.chosen]))
        for group in divisions(attributes, patient)
    }


def test_groups_of_few_patients_are_told_together() -> None:
    site = values(north=30, south=6, east=3, west=1)
    assert told({"site": site}, np.arange(40)) == {"site: north": 30, "site: other": 10}
    # the patients count, not the scans: three scans of each
    assert told({"site": values(north=30, south=30)}, np.arange(60) // 6) == {}
    assert told({"site": values(north=60, south=60)}, np.arange(120) // 6) == {
        "site: north": 10,
        "site: south": 10,
    }


def test_a_rest_of_one_patient_is_left_out() -> None:
    site = values(north=30, south=20, west=1)
    assert told({"site": site}, np.arange(51)) == {"site: north": 30, "site: south": 20}
    assert told({"site": values(north=30, west=1)}, np.arange(31)) == {}


def test_a_group_that_is_called_other_takes_the_rest_in() -> None:
    site = values(north=30, other=12, west=2)
    assert told({"site": site}, np.arange(44)) == {"site: north": 30, "site: other": 14}


def test_the_same_division_is_told_once_and_names_the_others() -> None:
    groups = divisions(
        {
            "modality": values(CT=20, MR=20),
            "format": values(nifti=20, dicom=20),
            "sex": values(f=19, m=21),
            "type": np.repeat(["u1", "f4"], 20),
        },
        np.arange(40),
    )
    assert [(one.attribute, one.name, one.also) for one in groups] == [
        ("modality", "CT", ("format: nifti", "type: u1")),
        ("modality", "MR", ("format: dicom", "type: f4")),
        ("sex", "f", ()),
        ("sex", "m", ()),
    ]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=80),
    st.integers(1, 4),
    st.sampled_from(["", "other", "rare"]),
)
def test_no_name_of_a_small_group_is_told_and_no_scan_twice(
    kinds: list[int], scans_each: int, zero: str
) -> None:
    names = np.array([zero, "a", "b", "c", "d", "e", "f"])[kinds]
    patient = np.arange(len(kinds)) // scans_each
    groups = divisions({"kind": names}, patient)
    for group in groups:
        patients = len(np.unique(patient[group.chosen]))
        assert patients >= FEWEST_PATIENTS or (group.name == OTHER and patients > 1)
    if groups:
        assert np.sum([group.chosen for group in groups], axis=0).max() == 1
