"""A small convolutional network, trained from random weights on the scans alone."""

from __future__ import annotations

from typing import ClassVar

from pipeline.families.base import FamilyParams
from pipeline.families.conv_net import ConvNet, ConvNetParams
from pipeline.families.network import TrainedNetwork
from pipeline.families.network_params import NetworkParams


class CnnScratchParams(ConvNetParams, NetworkParams):
    """Parameters of ``cnn_scratch``: what its network looks like, and how it is trained."""


class CnnScratch(TrainedNetwork[CnnScratchParams]):
    """Stages of convolutions with normalisation, pooled in between, under a linear classifier."""

    name: ClassVar[str] = "cnn_scratch"
    Params: ClassVar[type[FamilyParams]] = CnnScratchParams

    def new_net(self) -> ConvNet:
        return ConvNet(self.params, self.scan_shape, self.task.n_classes)
