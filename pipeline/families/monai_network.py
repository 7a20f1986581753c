"""The networks that everybody compares with, from MONAI, trained from random weights."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.augment import Augmentation, AugmentConfig
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.device import seeded
from pipeline.families.base import Family, FamilyParams, Fit, State
from pipeline.families.monai_nets import SMALL_EDGE, Architecture, build_monai_net
from pipeline.families.network import (
    fit_network,
    load_state_into,
    refuse_unfit_training,
    state_of,
)
from pipeline.prediction import predict_network
from pipeline.training import TrainConfig
from pipeline.views import ViewsConfig


class MonaiNetworkParams(FamilyParams):
    """Parameters of ``monai_network``.

    Attributes:
        architecture: ``resnet18``, ``resnet34``, ``resnet50`` (He et al. 2016), ``densenet121``
            (Huang et al. 2017) or ``efficientnet-b0`` (Tan and Le 2019).
        width: Factor on all numbers of channels; 1 is the published network.
        stem: ``small`` begins with a convolution of 3 voxels and stride 1, and no pooling;
            ``published`` quarters the scan first (EfficientNet: halves); ``auto``: small for scans
            of at most 64 voxels along each axis.
        dropout: Share of the classifier's inputs that are dropped in training.
        train: How it is trained.
        augment: Random changes of training scans, or the name of a set in ``configs/augment``.
        test_time: Views of a scan whose probabilities are averaged when it is predicted; only such
            as ``augment`` allows.
    """

    architecture: Architecture = "resnet18"
    width: PositiveFloat = 1.0
    stem: Literal["auto", "small", "published"] = "auto"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    train: TrainConfig = TrainConfig(learning_rate=1e-3)
    augment: Augmentation = AugmentConfig()
    test_time: ViewsConfig = ViewsConfig()


class MonaiNetwork(Family[MonaiNetworkParams]):
    """A residual, dense or efficient network as published, but for its stem and its classifier."""

    name: ClassVar[str] = "monai_network"
    Params: ClassVar[type[FamilyParams]] = MonaiNetworkParams

    def __init__(
        self, params: MonaiNetworkParams, task: Task, scan_shape: tuple[int, ...], seed: int
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

    def _new_net(self) -> nn.Module:
        stem = self.params.stem
        with seeded(self.seed, torch.device("cpu")):
            return build_monai_net(
                self.params.architecture,
                self.scan_shape,
                self.task.n_classes,
                width=self.params.width,
                small_stem=stem == "small"
                or (stem == "auto" and max(self.scan_shape[1:]) <= SMALL_EDGE),
                dropout=self.params.dropout,
            )
