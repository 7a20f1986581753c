"""A fully connected network: every voxel has its own weights, and neighbours mean nothing."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.augment import Augmentation, AugmentConfig
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.device import seeded
from pipeline.families.base import Family, FamilyParams, Fit, State
from pipeline.families.network import (
    fit_network,
    load_state_into,
    refuse_unfit_training,
    state_of,
)
from pipeline.prediction import predict_network
from pipeline.training import TrainConfig
from pipeline.views import ViewsConfig


class MlpParams(FamilyParams):
    """Parameters of ``mlp``.

    Attributes:
        widths: Units of each hidden layer.
        dropout: Share of each hidden layer's outputs that is dropped in training.
        train: How it is trained.
        augment: Random changes of training scans, or the name of a set in ``configs/augment``.
        test_time: Views of a scan whose probabilities are averaged when it is predicted; only such
            as ``augment`` allows.
    """

    widths: tuple[PositiveInt, ...] = Field(default=(256, 128), min_length=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    train: TrainConfig = TrainConfig(learning_rate=1e-3)
    augment: Augmentation = AugmentConfig()
    test_time: ViewsConfig = ViewsConfig()


class Mlp(Family[MlpParams]):
    """Hidden layers with batch norm and dropout on all voxels at once.

    A fixed shuffle of the voxels, the same for all scans, changes nothing that it can learn.
    """

    name: ClassVar[str] = "mlp"
    Params: ClassVar[type[FamilyParams]] = MlpParams

    def __init__(
        self, params: MlpParams, task: Task, scan_shape: tuple[int, ...], seed: int
    ) -> None:
        super().__init__(params, task, scan_shape, seed)
        refuse_unfit_training(self, params.train, params.augment, params.test_time)
        self.net = self._new_net()

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        self.net = self._new_net()
        return fit_network(
            self,
            self.net,
            train,
            val,
            self.params.train,
            self.params.augment,
            progress,
            checkpoints,
        )

    def predict_proba(self, x: Tensor) -> NDArray[np.float64]:
        return predict_network(self.net, x, self.task, self.params.test_time)

    def network(self) -> nn.Module:
        return self.net

    def state(self) -> State:
        return state_of(self.net)

    def load_state(self, state: State) -> None:
        load_state_into(self, self.net, state)

    def _new_net(self) -> nn.Sequential:
        with seeded(self.seed, torch.device("cpu")):
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
