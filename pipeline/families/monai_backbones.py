"""MONAI's 2D ResNet and DenseNet with their published stems, cut into stages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from pipeline.families.monai_nets import build_monai_net

_IMAGE: Final = (3, 224, 224)
_BLOCKS: Final = 4


class ResNet(nn.Module):
    """He et al. 2016, as torchvision has it; five stages: the stem and four layers."""

    def __init__(self, name: Literal["resnet18", "resnet34", "resnet50"]) -> None:
        super().__init__()
        self.net: Any = build_monai_net(name, _IMAGE, n_classes=1000, small_stem=False)
        self._layers = [f"layer{number}" for number in range(1, _BLOCKS + 1)]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch; once truncated, the mean of the last map."""
        *_, last = self.stages(x)
        logits: Tensor = self.net.fc(last.flatten(2).mean(dim=2))
        return logits

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The map of the stem before pooling, then of each layer."""
        x = self.net.act(self.net.bn1(self.net.conv1(x)))
        yield x
        x = self.net.maxpool(x)
        for name in self._layers:
            x = getattr(self.net, name)(x)
            yield x

    def parts(self) -> list[list[nn.Module]]:
        """The blocks of each stage."""
        layers = [list(getattr(self.net, name)) for name in self._layers]
        return [[nn.ModuleList([self.net.conv1, self.net.bn1])], *layers]

    def truncate(self, n_stages: int) -> None:
        """Forget the classifier and all that lies above the map of stage ``n_stages``."""
        self.net.fc = nn.Identity()
        for name in self._layers[n_stages - 1 :]:
            setattr(self.net, name, nn.Identity())
        self._layers = self._layers[: n_stages - 1]


class DenseNet(nn.Module):
    """DenseNet-121 (Huang et al. 2017); five stages: the stem and four dense blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = build_monai_net("densenet121", _IMAGE, n_classes=1000, small_stem=False)
        self._blocks = _BLOCKS

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch; once truncated, the mean of the last map."""
        *_, last = self.stages(x)
        logits: Tensor = self.net.class_layers.out(last.flatten(2).mean(dim=2))
        return logits

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The rectified map of the stem before pooling, then of each block after its norm."""
        at = self.net.features
        x = torch.relu(at.norm0(at.conv0(x)))
        yield x
        x = at.pool0(x)
        for number in range(1, self._blocks + 1):
            x = torch.relu(self._norm(number)(getattr(at, f"denseblock{number}")(x)))
            yield x
            if number < self._blocks:
                transition = getattr(at, f"transition{number}")
                x = transition.pool(transition.conv(x))

    def parts(self) -> list[list[nn.Module]]:
        """The layers of each stage; a transition belongs to the stage that it ends."""
        at = self.net.features
        blocks: list[list[nn.Module]] = []
        for number in range(1, self._blocks + 1):
            end = at.norm5 if number == _BLOCKS else getattr(at, f"transition{number}")
            blocks.append([*getattr(at, f"denseblock{number}").children(), end])
        return [[nn.ModuleList([at.conv0, at.norm0])], *blocks]

    def truncate(self, n_stages: int) -> None:
        """Forget the classifier and all that lies above the map of stage ``n_stages``."""
        self.net.class_layers.out = nn.Identity()
        self._blocks = n_stages - 1
        for number in range(1, _BLOCKS + 1):
            if number > self._blocks:
                setattr(self.net.features, f"denseblock{number}", nn.Identity())
                self._forget_norm(number)
            if number >= self._blocks and number < _BLOCKS:
                getattr(self.net.features, f"transition{number}").conv = nn.Identity()

    def _norm(self, number: int) -> nn.Module:
        at = self.net.features
        norm: nn.Module = at.norm5 if number == _BLOCKS else getattr(at, f"transition{number}").norm
        return norm

    def _forget_norm(self, number: int) -> None:
        at = self.net.features
        if number == _BLOCKS:
            at.norm5 = nn.Identity()
        else:
            getattr(at, f"transition{number}").norm = nn.Identity()


def resnet_name(name: str) -> str:
    """torchvision's name of a parameter -> ours."""
    return "net." + re.sub(r"^fc\.", "fc.1.", name)


_DENSE_LAYER: Final = re.compile(r"(.*denselayer\d+)\.(norm|relu|conv)\.?([12])\.(.*)")


def densenet_name(name: str) -> str:
    """torchvision's name of a parameter, of any of its versions -> ours."""
    name = _DENSE_LAYER.sub(r"\1.layers.\2\3.\4", name)
    return "net." + re.sub(r"^classifier\.", "class_layers.out.1.", name)
