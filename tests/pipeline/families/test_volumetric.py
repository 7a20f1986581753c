"""A 2D network made 3D does in a plane what it did before."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from pipeline.families.backbones import ARCHITECTURES, Backbone, NetworkName
from pipeline.families.efficientnet import SameConv2d
from pipeline.families.volumetric import VolumeConv, to_volumetric


def convolution(groups: int) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Conv2d(6, 6, 3, padding=1, groups=groups, bias=True)


@pytest.mark.parametrize("groups", [1, 6])
def test_acs_lays_each_third_across_one_axis(groups: int) -> None:
    flat = convolution(groups)
    volume = VolumeConv(flat, "acs")
    x = torch.randn(1, 6, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = volume(x)
        for axis, channels in enumerate(((0, 1), (2, 3), (4, 5))):
            for place in range(x.shape[2 + axis]):
                plane = flat(x.select(2 + axis, place))
                for channel in channels:
                    found = out[:, channel].select(1 + axis, place)
                    assert torch.allclose(found, plane[:, channel], atol=1e-5)


@pytest.mark.parametrize("same", [True, False])
def test_inflated_it_sees_in_a_constant_stack_what_it_saw_in_a_slice(same: bool) -> None:
    flat = SameConv2d(6, 4, 3, stride=2) if same else convolution(1)
    x = torch.randn(1, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stack = VolumeConv(flat, "inflated")(x[:, :, None].expand(-1, -1, 9, -1, -1))
        assert torch.allclose(stack[:, :, stack.shape[2] // 2], flat(x), atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet18", "densenet121"])
@pytest.mark.parametrize("kind", ["acs", "inflated"])
def test_whole_networks_take_volumes(name: NetworkName, kind: str) -> None:
    net = ARCHITECTURES[name].empty(3).eval()
    to_volumetric(net, "acs" if kind == "acs" else "inflated")
    with torch.no_grad():
        maps = list(cast("Backbone", net).stages(torch.ones(1, 3, 16, 17, 18)))
    assert [found.ndim for found in maps] == [5, 5, 5]
    assert not any(isinstance(m, nn.Conv2d | nn.BatchNorm2d) for m in net.modules())
