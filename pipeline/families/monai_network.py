"""The networks that everybody compares with, from MONAI, trained from random weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat
from torch import nn

from pipeline.families.base import FamilyParams
from pipeline.families.monai_nets import SMALL_EDGE, Architecture, build_monai_net
from pipeline.families.network import TrainedNetwork
from pipeline.families.network_params import NetworkParams
from pipeline.train_config import TrainConfig


class MonaiNetworkParams(NetworkParams):
    """Parameters of ``monai_network``: those of every trained network, and these.

    Attributes:
        architecture: ``resnet18``, ``resnet34``, ``resnet50`` (He et al. 2016), ``densenet121``
            (Huang et al. 2017) or ``efficientnet-b0`` (Tan and Le 2019).
        width: Factor on all numbers of channels; 1 is the published network.
        stem: ``small`` begins with a convolution of 3 voxels and stride 1, and no pooling;
            ``published`` quarters the scan first (EfficientNet: halves); ``auto``: small for scans
            of at most 64 voxels along each axis.
        dropout: Share of the classifier's inputs that are dropped in training.
    """

    architecture: Architecture = "resnet18"
    width: PositiveFloat = 1.0
    stem: Literal["auto", "small", "published"] = "auto"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    train: TrainConfig = TrainConfig(learning_rate=1e-3)


class MonaiNetwork(TrainedNetwork[MonaiNetworkParams]):
    """A residual, dense or efficient network as published, but for its stem and its classifier."""

    name: ClassVar[str] = "monai_network"
    Params: ClassVar[type[FamilyParams]] = MonaiNetworkParams

    def new_net(self) -> nn.Module:
        stem = self.params.stem
        return build_monai_net(
            self.params.architecture,
            self.scan_shape,
            self.task.n_classes,
            width=self.params.width,
            small_stem=stem == "small"
            or (stem == "auto" and max(self.scan_shape[1:]) <= SMALL_EDGE),
            dropout=self.params.dropout,
        )
