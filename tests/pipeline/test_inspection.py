"""Layers are counted as the textbooks do; fields are what gradients find; the network is left."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.families.monai_nets import build_monai_net
from pipeline.inspection import inspect_network, multiply_adds


@pytest.mark.parametrize(
    ("architecture", "giga"), [("resnet18", 1.814), ("resnet50", 4.089), ("densenet121", 2.834)]
)
def test_multiply_adds_are_those_of_torchvisions_tables(architecture: str, giga: float) -> None:
    with torch.device("meta"):
        net = build_monai_net(architecture, (3, 224, 224), 1000, small_stem=False)  # type: ignore[arg-type]
    net.to_empty(device="cpu")
    assert multiply_adds(net, (3, 224, 224)) / 1e9 == pytest.approx(giga, abs=1e-3)


def test_a_layer_says_what_it_is_and_holds() -> None:
    net = nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten()
    )
    net.append(nn.Linear(4 * 2 * 3 * 2, 3))
    net.train()
    conv, norm, pool, linear = inspect_network(net, (2, 4, 6, 4))
    assert net.training
    assert [layer.kind for layer in (conv, norm, pool, linear)] == [
        "convolution",
        "norm",
        "max pool",
        "linear",
    ]
    assert (conv.shape, conv.parameters) == ((4, 4, 6, 4), 4 * 2 * 27 + 4)
    assert conv.multiply_adds == 4 * 96 * 2 * 27
    assert conv.activation_bytes == 4 * 4 * 96
    assert (norm.parameters, norm.multiply_adds, norm.measured_field) == (8, 0, None)
    assert (pool.shape, pool.receptive_field) == ((4, 2, 3, 2), (4.0, 4.0, 4.0))
    assert (linear.parameters, linear.multiply_adds) == (48 * 3 + 3, 48 * 3)
    assert linear.receptive_field == (math.inf,) * 3
    assert linear.measured_field is None
    assert conv.measured_field == pytest.approx(3.0)
    assert "_field" not in vars(next(net.parameters()))


class Forked(nn.Module):
    """Two ways of unlike reach that are added or joined, functional in between."""

    def __init__(self, *, join: bool) -> None:
        super().__init__()
        self.short = nn.Conv2d(1, 2, 3, padding=1)
        self.long = nn.Sequential(nn.Conv2d(1, 2, 5, padding=2), nn.Conv2d(2, 2, 3, padding=1))
        self.last = nn.Conv2d(4 if join else 2, 1, 1)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        ways = [torch.relu(self.short(x)), self.long(x)]
        met = torch.cat(ways, dim=1) if self.join else ways[0] + ways[1]
        return self.last(met)


@pytest.mark.parametrize("join", [True, False])
def test_where_branches_meet_the_larger_field_goes_on(join: bool) -> None:
    fields = {
        layer.name: layer.receptive_field
        for layer in inspect_network(Forked(join=join), (1, 15, 15))
    }
    assert fields["short"] == (3.0, 3.0)
    assert fields["last"] == fields["long.1"] == (7.0, 7.0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    layers=st.lists(
        st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(1, 2)),
        min_size=1,
        max_size=3,
    )
)
def test_the_field_is_the_extent_of_the_gradient(layers: list[tuple[int, int, int]]) -> None:
    """With weights of one, a voxel is in the field exactly where the gradient is not zero."""
    convolutions = [nn.Conv2d(1, 1, k, stride=s, dilation=d, bias=False) for k, s, d in layers]
    net = nn.Sequential(*convolutions)
    for convolution in convolutions:
        nn.init.ones_(convolution.weight)
    last = inspect_network(net, (1, 61, 61), measure=False)[-1]
    x = torch.zeros((1, 1, 61, 61), requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x)[0, 0, 0, 0], x)
    rows = gradient[0, 0].any(dim=1).nonzero()[:, 0]
    assert last.receptive_field[0] == rows.max() - rows.min() + 1
