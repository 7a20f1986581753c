"""Families and scans that the probes' tests look at: tiny, never fitted, of known weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families.cnn_scratch import CnnScratch, CnnScratchParams

TASK = Task(kind="binary", class_names=("healthy", "ill"))


def scans_of(shape: tuple[int, ...], count: int = 6, task: Task = TASK) -> Scans:
    """Noise of that shape (C, I, J[, K])."""
    draw = np.random.default_rng(7)
    wide = (count, task.n_classes) if task.is_multi_label else count
    return Scans(
        x=torch.from_numpy(draw.normal(size=(count, *shape)).astype(np.float32)),
        target=draw.integers(0, 2, wide),
        patient_ids=np.array([f"p{n}" for n in range(count)]),
        scan_ids=np.array([f"s{n}" for n in range(count)]),
    )


def cnn(shape: tuple[int, ...] = (1, 20, 20), task: Task = TASK, **params: Any) -> CnnScratch:
    """A small network with first weights."""
    small = {"widths": (4,), "convolutions": 1, "residual": False, **params}
    return CnnScratch(CnnScratchParams.model_validate(small), task, shape, seed=0)


def holding(net: nn.Module, shape: tuple[int, ...] = (1, 20, 20), task: Task = TASK) -> CnnScratch:
    """A family whose network is that one."""
    family = cnn(shape, task)
    family.net = net
    return family


def averaging(kernel: int, depth: int, padding: str) -> nn.Sequential:
    """Convolutions of one channel and equal weights, and a classifier of their mean."""
    around = {"valid": 0, "same": kernel // 2, "full": kernel - 1}[padding]
    layers: list[nn.Module] = []
    for _ in range(depth):
        convolution = nn.Conv2d(1, 1, kernel, padding=around, bias=False)
        nn.init.constant_(convolution.weight, kernel**-2)
        layers.append(convolution)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))


class Located(nn.Module):
    """Adds to its map where each place is, so that it is no map of the scan alone."""

    places: torch.Tensor

    def __init__(self, edge: int, *, share: float = 1.0) -> None:
        super().__init__()
        ways = torch.linspace(-share, share, edge)
        places = torch.stack(torch.meshgrid(ways, ways, indexing="ij"))
        self.register_buffer("places", places)
        self.convolution = nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular", bias=False)
        self.located = nn.Conv2d(5, 4, 1, bias=False)
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        places = self.places.expand(len(x), *self.places.shape)
        maps = self.located(torch.cat([self.convolution(x), places], dim=1))
        logits: torch.Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits
