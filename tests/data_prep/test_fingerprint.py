"""A fingerprint knows what its numbers mean, and holds no identity."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cohort_rows import TASK, cohort, image, look, of_rows, row

from data_prep.errors import StageError
from data_prep.fingerprint import CohortFingerprint, Spread


def test_a_spread_is_ends_and_percentiles() -> None:
    spread = Spread.of(np.arange(101))
    assert spread == Spread(minimum=0, lower=10, median=50, upper=90, maximum=100)
    assert not spread.is_constant
    assert Spread.of([3]).is_constant


CT = {"modality": "CT", "minimum": -1024.0, "maximum": 2000.0}
TISSUE = [look(-1000, 1500) for _ in range(10)]


@pytest.mark.parametrize(
    ("changes", "looks", "expected"),
    [
        (CT, TISSUE, True),
        (CT | {"modality": ""}, TISSUE, True),  # a NIfTI file does not say
        (CT | {"modality": "MR"}, TISSUE, False),
        (CT | {"flags": ("no_rescale",)}, TISSUE, False),
        (CT | {"minimum": 0.0}, TISSUE, False),
        (CT, [look(-1000, 30_000)], False),
    ],
)
def test_hounsfield_units_are_recognised(
    changes: dict[str, object], looks: list[object], expected: bool
) -> None:
    assert cohort(looks=looks, **changes).looks_like_hu is expected  # type: ignore[arg-type]


def test_modality_is_that_of_all_scans_that_state_one() -> None:
    assert of_rows([row(0), row(1, modality="")]).modality == "MR"
    assert of_rows([row(0), row(1, modality="CT")]).modality == ""
    assert of_rows([row(0, modality="")]).modality == ""


def test_one_scale_is_told_from_many() -> None:
    assert cohort(maximum=1.0).intensities.has_one_scale
    assert not cohort().intensities.has_one_scale
    assert cohort(**image()).is_eight_bit
    assert not of_rows([row(0, dtype="uint8"), row(1)]).is_eight_bit


def test_it_comes_back_from_json_and_holds_no_identity() -> None:
    seen = cohort(looks=[look(), look(tissue=())], unreadable=2)
    text = json.dumps(seen.to_json(), allow_nan=False)
    assert CohortFingerprint.from_json(json.loads(text)) == seen
    assert "secret" not in text
    assert "P00" not in text
    assert f"{1:016x}" not in text
    assert seen.task == TASK


@pytest.mark.parametrize("content", [{}, [], {"cohort": "x", "scanz": 3}])
def test_json_of_something_else_is_refused(content: object) -> None:
    with pytest.raises(StageError) as caught:
        CohortFingerprint.from_json(content)
    assert caught.value.code == "fingerprint.bad_file"
