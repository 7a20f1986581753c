"""The bank's features are pooled derivatives, and what cannot be pooled is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from data_prep.task import Task
from pipeline.families import filterbank
from pipeline.families.base import FamilyError
from pipeline.families.filterbank import Filterbank, FilterbankParams
from pipeline.families.gaussian_derivatives import (
    derivatives,
    gradient_magnitude,
    hessian_eigenvalues,
)

TASK = Task(kind="binary", class_names=("a", "b"))


def family_of(shape: tuple[int, ...], **params: Any) -> Filterbank:
    return Filterbank(FilterbankParams.model_validate(params), TASK, shape, seed=0)


def noise(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, *shape))).float()


def test_features_are_the_stated_statistics_of_the_stated_responses() -> None:
    shape = (1, 8, 10)
    family = family_of(shape, sigmas=[1.5], pyramid=[2])
    x = noise(3, shape)
    found = derivatives(x, 1.5)
    maps = torch.cat([*found.values(), gradient_magnitude(found), *hessian_eigenvalues(found)], 1)
    cells = maps.reshape(3, 9, 2, 4, 2, 5).movedim(4, 3).flatten(4)  # (N, map, i, j, voxels)
    expected = torch.cat(
        [
            cells.mean(dim=-1).flatten(1),
            cells.std(dim=-1, correction=0).flatten(1),
            cells.amax(dim=-1).flatten(1),
        ],
        dim=1,
    )
    assert torch.allclose(family.prepare(x), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 8, 10), (1, 6, 6, 8)])
@pytest.mark.parametrize("brightness", [0.0, 1000.0])
def test_deviations_keep_their_digits_however_bright_a_scan_is(
    brightness: float, shape: tuple[int, ...]
) -> None:
    response = noise(3, shape) + brightness
    halves = [halved for edge in shape[1:] for halved in (2, edge // 2)]
    cells = response.double().reshape(3, shape[0], *halves)
    expected = cells.std(dim=tuple(range(3, cells.ndim, 2)), correction=0)
    assert torch.allclose(filterbank._pool(response, 2, "deviation").double(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "params", "count"),
    [
        ((1, 12, 12), {}, 3 * 9 * 3 * (1 + 4 + 16)),
        ((3, 12, 12), {"pyramid": [1]}, 3 * 3 * 9 * 3),
        ((1, 6, 7, 8), {}, 3 * 14 * 3 * (1 + 8)),
        ((1, 6, 7, 8), {"sigmas": [1.0], "pooling": ["max"], "pyramid": [3]}, 14 * 27),
    ],
)
def test_the_number_of_features_is_known_before_any_scan(
    shape: tuple[int, ...], params: dict[str, Any], count: int
) -> None:
    family = family_of(shape, **params)
    assert family.prepare(noise(2, shape)).shape == (2, count)
    assert len(family.state()["weight"]) == count


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    family, x = family_of((1, 8, 8)), noise(5, (1, 8, 8))
    whole = family.prepare(x)
    monkeypatch.setattr(filterbank, "_CHUNK_BYTES", 1)
    assert torch.allclose(family.prepare(x), whole, atol=1e-6)


def test_a_scan_with_fewer_voxels_than_cells_is_refused() -> None:
    with pytest.raises(FamilyError, match="4 cells along each axis") as caught:
        family_of((1, 3, 30))
    assert caught.value.code == "family.scan_too_small"
