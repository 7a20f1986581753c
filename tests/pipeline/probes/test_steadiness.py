"""Answers to shifted scans beside those to unshifted ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from probed import holding, scans_of
from torch import Tensor, nn

from data_prep.task import Task
from pipeline.probes.steadiness import Steadiness

SHAPE = (1, 12, 12)


class Looking(nn.Module):
    """Says the second class, ever more surely, the brighter one pixel is."""

    def __init__(self, *, everywhere: bool) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self._everywhere = everywhere

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        seen = x.amax(dim=(1, 2, 3)) if self._everywhere else x[:, 0, 6, 6]
        return torch.stack([torch.zeros_like(seen), 10 * seen - 5], dim=1)


def dotted(count: int = 3) -> torch.Tensor:
    x = torch.zeros((count, *SHAPE))
    x[:, 0, 6, 6] = 1
    return x


def test_who_looks_at_one_pixel_flips_and_who_looks_everywhere_does_not() -> None:
    scans = scans_of(SHAPE, 3).with_x(dotted())
    found = Steadiness(up_to=2).measure(holding(Looking(everywhere=False), SHAPE), scans, seed=0)
    assert found["flips at 1"] == found["flips at 2"] == 1
    assert found["change at 1"] > 0.9
    found = Steadiness(up_to=2).measure(holding(Looking(everywhere=True), SHAPE), scans, seed=0)
    assert set(found.values()) == {0.0}


def test_one_direction_of_four_counts_a_quarter() -> None:
    x = torch.zeros((1, *SHAPE))
    x[0, 0, 6, 5] = 1  # shifted one voxel along the columns it lies where one looks
    family = holding(Looking(everywhere=False), SHAPE)
    found = Steadiness(up_to=1).measure(family, scans_of(SHAPE, 1).with_x(x), seed=0)
    assert found["flips at 1"] == pytest.approx(0.25)


def test_any_label_that_changes_is_a_flip() -> None:
    task = Task(kind="multi-label", class_names=("a", "b"))
    scans = scans_of(SHAPE, 3, task).with_x(dotted())
    family = holding(Looking(everywhere=False), SHAPE, task)
    found = Steadiness(up_to=1).measure(family, scans, seed=0)
    assert found["flips at 1"] == 1
    assert np.isclose(found["change at 1"], 1 / (1 + np.exp(-5)) - 1 / (1 + np.exp(5)))
