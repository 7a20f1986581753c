"""A fully connected network: every voxel has its own weights, and neighbours mean nothing."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field, PositiveInt
from torch import nn

from pipeline.families.base import FamilyParams
from pipeline.families.network import TrainedNetwork
from pipeline.families.network_params import NetworkParams
from pipeline.train_config import TrainConfig


class MlpParams(NetworkParams):
    """Parameters of ``mlp``: those of every trained network, and two more.

    Attributes:
        widths: Units of each hidden layer.
        dropout: Share of each hidden layer's outputs that is dropped in training.
    """

    widths: tuple[PositiveInt, ...] = Field(default=(256, 128), min_length=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    train: TrainConfig = TrainConfig(learning_rate=1e-3)


class Mlp(TrainedNetwork[MlpParams]):
    """Hidden layers with batch norm and dropout on all voxels at once.

    A fixed shuffle of the voxels, the same for all scans, changes nothing that it can learn.
    """

    name: ClassVar[str] = "mlp"
    Params: ClassVar[type[FamilyParams]] = MlpParams

    def new_net(self) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(self.scan_shape)
        for wider in self.params.widths:
            layers += [
                nn.Linear(width, wider, bias=False),
                nn.BatchNorm1d(wider),
                nn.ReLU(),
                nn.Dropout(self.params.dropout),
            ]
            width = wider
        return nn.Sequential(*layers, nn.Linear(width, self.task.n_classes))
