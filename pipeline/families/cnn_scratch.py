"""A small convolutional network, trained from random weights on the scans alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.augment import Augmentation, AugmentConfig
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.device import seeded
from pipeline.families.base import Family, FamilyParams, Fit, State
from pipeline.families.conv_net import ConvNet, ConvNetParams
from pipeline.families.network import (
    fit_network,
    load_state_into,
    refuse_unfit_training,
    state_of,
)
from pipeline.prediction import predict_network
from pipeline.training import TrainConfig
from pipeline.views import ViewsConfig


class CnnScratchParams(ConvNetParams):
    """Parameters of ``cnn_scratch``: those of its network, and two more.

    Attributes:
        train: How it is trained.
        augment: Random changes of training scans, or the name of a set in ``configs/augment``.
        test_time: Views of a scan whose probabilities are averaged when it is predicted; only such
            as ``augment`` allows.
    """

    train: TrainConfig = TrainConfig()
    augment: Augmentation = AugmentConfig()
    test_time: ViewsConfig = ViewsConfig()


class CnnScratch(Family[CnnScratchParams]):
    """Stages of convolutions with normalisation, pooled in between, under a linear classifier."""

    name: ClassVar[str] = "cnn_scratch"
    Params: ClassVar[type[FamilyParams]] = CnnScratchParams

    def __init__(
        self, params: CnnScratchParams, task: Task, scan_shape: tuple[int, ...], seed: int
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

    def network(self) -> ConvNet:
        return self.net

    def state(self) -> State:
        return state_of(self.net)

    def load_state(self, state: State) -> None:
        load_state_into(self, self.net, state)

    def _new_net(self) -> ConvNet:
        with seeded(self.seed, torch.device("cpu")):
            return ConvNet(self.params, self.scan_shape, self.task.n_classes)
