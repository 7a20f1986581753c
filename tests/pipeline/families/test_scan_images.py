"""Scans are shown as they are: no voxel left out, black and white by what intensities mean."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from pipeline.families.scan_images import ReadingConfig, shown_range, slabs


def scans(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2))
@settings(deadline=None, max_examples=40)
def test_slabs_leave_no_voxel_out(length: int, wanted: int, axis: int) -> None:
    shape = [2, 1, 3, 3, 3]
    shape[2 + axis] = length
    x = scans(*shape)
    found = slabs(x, axis, wanted)
    assert found.shape[2 + axis] == min(length, wanted)
    if length % wanted == 0:
        assert torch.allclose(found.mean(), x.mean(), atol=1e-6)
    if length <= wanted:
        assert torch.equal(found, x)


def test_auto_shows_unit_scans_and_standard_scans_alike() -> None:
    unit, standard = torch.tensor([0.0, 0.3, 1.0]), torch.tensor([-1.0, 0.0, 2.5])
    x = torch.stack([unit, standard]).reshape(2, 1, 3, 1)
    black, white = shown_range(x)
    assert black.flatten().tolist() == [0.0, -2.0]
    assert white.flatten().tolist() == [1.0, 3.0]


@pytest.mark.parametrize("wrong", [{"stages": [2, 1]}, {"stages": []}, {"intensity": [1, 1]}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ReadingConfig.model_validate(wrong)
