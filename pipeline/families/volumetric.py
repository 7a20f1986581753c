"""2D networks turned into 3D ones that keep their weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.families.efficientnet import SameConv2d, pad_same

Kind = Literal["acs", "inflated"]


def to_volumetric(net: nn.Module, kind: Kind) -> None:
    """Replace in ``net`` whatever is 2D by its 3D counterpart, in place.

    Args:
        net: With convolutions, batch norms and poolings of square windows.
        kind: ``acs``: a third of each convolution's filters lies across each axis (Yang et al.
            2021, "Reinventing 2D convolutions for 3D images"); weights stay as they are.
            ``inflated``: filters are repeated along the first axis and divided by their depth
            (Carreira and Zisserman 2017, "Quo vadis, action recognition?").
    """
    for name, child in list(net.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(net, name, VolumeConv(child, kind))
        elif isinstance(child, nn.BatchNorm2d):
            setattr(net, name, _volume_norm(child))
        elif isinstance(child, nn.MaxPool2d):
            setattr(net, name, nn.MaxPool3d(child.kernel_size, child.stride, child.padding))
        elif isinstance(child, nn.AvgPool2d):
            window, step = _edge(child.kernel_size), _edge(child.stride)
            setattr(net, name, nn.AvgPool3d(window, step, _edge(child.padding)))
        else:
            to_volumetric(child, kind)


class VolumeConv(nn.Conv3d):
    """A 2D convolution's filters in a volume: (N, C, I, J, K) -> (N, wider, I', J', K')."""

    def __init__(self, flat: nn.Conv2d, kind: Kind) -> None:
        same = isinstance(flat, SameConv2d)
        super().__init__(
            flat.in_channels,
            flat.out_channels,
            flat.kernel_size[0],
            stride=flat.stride[0],
            padding=0 if same else int(flat.padding[0]),
            groups=flat.groups,
            bias=flat.bias is not None,
        )
        self._same = same
        self._acs = kind == "acs"
        weight = flat.weight.detach()
        if not self._acs:
            depth = self.kernel_size[0]
            weight = (weight / depth).unsqueeze(2).repeat(1, 1, depth, 1, 1)
        self.weight = nn.Parameter(weight.clone())
        if flat.bias is not None:
            self.bias = nn.Parameter(flat.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Features of a batch."""
        if self._same:
            x = pad_same(x, self.kernel_size, self.stride)
        weight = self._crossed() if self._acs else self.weight
        return functional.conv3d(
            x, weight, self.bias, self.stride, self.padding, groups=self.groups
        )

    def _crossed(self) -> Tensor:
        """Each third of the filters in the middle plane across one axis, zeros elsewhere.

        Three smaller convolutions would give the same, but not for filters in groups.
        """
        around = self.kernel_size[0] // 2
        planes = torch.tensor_split(self.weight, 3)
        padded = []
        for axis, plane in enumerate(planes):
            padding = [0] * 6  # last axis first, before and after each
            padding[4 - 2 * axis] = padding[5 - 2 * axis] = around
            padded.append(functional.pad(plane.unsqueeze(2 + axis), padding))
        return torch.cat(padded)


def _edge(size: int | tuple[int, int]) -> int:
    return size if isinstance(size, int) else size[0]


def _volume_norm(flat: nn.BatchNorm2d) -> nn.BatchNorm3d:
    norm = nn.BatchNorm3d(flat.num_features, eps=flat.eps, momentum=flat.momentum)
    norm.load_state_dict(flat.state_dict())
    return norm
