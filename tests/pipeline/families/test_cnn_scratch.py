"""The network has the shape that its parameters say, or says which stage has nothing left."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data_prep.task import Task
from pipeline.families.base import FamilyError
from pipeline.families.cnn_scratch import CnnScratch, CnnScratchParams
from pipeline.families.conv_net import ConvNet, Stage

TASK = Task(kind="multi-class", class_names=("a", "b", "c"))


def net_of(shape: tuple[int, ...], **params: Any) -> ConvNet:
    small = {"widths": (4, 8), **params}
    return CnnScratch(CnnScratchParams.model_validate(small), TASK, shape, seed=0).net


def features_of(net: ConvNet, shape: tuple[int, ...]) -> torch.Size:
    with torch.no_grad():
        return net.stages(net.stem(torch.zeros((2, *shape)))).shape


@pytest.mark.parametrize("shape", [(1, 33, 26), (2, 17, 19, 16)], ids=["2D", "3D"])
@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate", "circular", "valid", "full"])
def test_every_way_to_pad_pool_and_look_gives_logits(shape: tuple[int, ...], padding: str) -> None:
    """The flat head's size is worked out beforehand: forward fails if a stage's size is not."""
    for pooling, norm in product(["max", "average", "stride", "none"], ["batch", "group", "none"]):
        net = net_of(
            shape,
            padding=padding,
            residual=padding not in ("valid", "full"),
            pooling=pooling,
            norm=norm,
            head="flat",
            stem_stride=1,
        ).eval()
        with torch.no_grad():
            assert net(torch.randn((2, *shape))).shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "params", "expected"),
    [
        ((1, 28, 28), {}, (28 // 2, 28 // 2)),
        ((1, 28, 28), {"widths": (4, 4, 4)}, (7, 7)),
        ((1, 28, 28), {"pooling": "none"}, (28, 28)),
        ((1, 29, 28), {"pooling": "stride"}, (15, 14)),
        ((1, 64, 64), {"pooling": "none"}, (32, 32)),  # the automatic stem halves
        ((1, 224, 200), {"pooling": "none"}, (32, 29)),
        ((1, 28, 28, 28), {"pooling": "none"}, (14, 14, 14)),
        ((1, 16, 12, 16), {"pooling": "none"}, (16, 12, 16)),
        # Each valid convolution of 3 takes 2 voxels: 1 in the stem, 2 in each of the stages.
        ((1, 28, 28), {"padding": "valid", "residual": False}, ((28 - 6) // 2 - 4,) * 2),
        ((1, 28, 28), {"padding": "full", "residual": False, "pooling": "none"}, (38, 38)),
        ((1, 28, 28), {"kernel": 7, "convolutions": 1}, (14, 14)),
    ],
)
def test_sizes_follow_from_the_parameters(
    shape: tuple[int, ...], params: dict[str, Any], expected: tuple[int, ...]
) -> None:
    assert features_of(net_of(shape, **params), shape)[2:] == expected


def test_parameters_reach_the_layers() -> None:
    net = net_of((3, 24, 24), widths=(6, 12), convolutions=3, kernel=5, norm="group", dropout=0.4)
    stages = [module for module in net.modules() if isinstance(module, Stage)]
    assert [len(stage.convolutions) for stage in stages] == [3, 3]
    convolutions = [
        m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)
    ]
    assert {m.kernel_size for m in convolutions} == {(5, 5)}
    assert [m.out_channels for m in convolutions] == [6, 6, 6, 6, 12, 12, 12]
    assert {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)} == {2, 4}
    assert net.dropout.p == 0.4
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    bare = net_of((1, 24, 24), norm="none")
    assert all(
        m.bias is not None
        for m in bare.modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)
    )


def test_the_shortcut_carries_the_input_round_the_convolutions() -> None:
    x = torch.randn(1, 1, 12, 12)
    for residual in (True, False):
        net = net_of((1, 12, 12), residual=residual, norm="none")
        for stage in net.stages:
            nn.init.zeros_(stage.convolutions[-1][0].weight)
            nn.init.zeros_(stage.convolutions[-1][0].bias)
        passed = net.stages(torch.relu(net.stem(x)))
        assert bool(passed.abs().sum() > 0) == residual


def test_heads_differ_in_what_they_see() -> None:
    """Shifting the features changes only what knows where things are."""
    torch.manual_seed(0)
    places = torch.zeros(1, 1, 16, 16)
    places[..., 4:7, 4:7] = 1
    moved = places.roll(4, dims=3)  # by a multiple of the pooling, so that features move whole
    for head, sees in (("average", False), ("max", False), ("flat", True)):
        net = net_of((1, 16, 16), head=head, padding="circular").eval()
        with torch.no_grad():
            same = torch.allclose(net(places), net(moved), atol=1e-5)
        assert same != sees


@pytest.mark.parametrize(
    ("shape", "params", "said"),
    [
        ((1, 6, 28), {"widths": (4, 4, 4, 4)}, "stage 4 gets 1 .*params.pooling: max"),
        ((1, 8, 8, 3), {"widths": (4, 4, 4)}, "stage 3 gets 1 .*params.pooling: max"),
        (
            (1, 10, 10),
            {"padding": "valid", "residual": False},
            "stage 2 gets 2 .*params.kernel 3 with params.padding valid needs 3",
        ),
        (
            (1, 6, 6),
            {"padding": "reflect", "kernel": 7},
            "stage 2 gets 3 .*params.kernel 7 with params.padding reflect needs 4",
        ),
        (
            (1, 4, 9),
            {"padding": "valid", "residual": False, "kernel": 5},
            "the stem gets 4 .*params.kernel 5 with params.padding valid needs 5",
        ),
        ((1, 2, 2), {"widths": (2, 1), "norm": "group"}, "params.norm is group"),
    ],
)
def test_a_scan_that_is_too_small_is_refused_with_place_and_parameter(
    shape: tuple[int, ...], params: dict[str, Any], said: str
) -> None:
    with pytest.raises(FamilyError, match=said) as caught:
        net_of(shape, **params)
    assert caught.value.code == "family.scan_too_small"


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    edges=st.lists(st.integers(1, 20), min_size=2, max_size=3),
    widths=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    params=st.fixed_dictionaries(
        {
            "convolutions": st.integers(1, 2),
            "kernel": st.sampled_from([1, 3, 5, 7]),
            "padding": st.sampled_from(
                ["zero", "reflect", "replicate", "circular", "valid", "full"]
            ),
            "stem_stride": st.sampled_from(["auto", 1, 2, 3]),
            "pooling": st.sampled_from(["max", "average", "stride", "none"]),
            "norm": st.sampled_from(["batch", "group", "none"]),
            "head": st.sampled_from(["average", "max", "flat"]),
            "residual": st.booleans(),
        }
    ),
)
def test_each_combination_works_or_is_refused_by_name(
    edges: list[int], widths: list[int], params: dict[str, Any]
) -> None:
    """No combination builds a network that then fails on a scan."""
    params["residual"] &= params["padding"] not in ("valid", "full")
    try:
        net = net_of((1, *edges), widths=widths, **params)
    except FamilyError as error:
        assert error.code == "family.scan_too_small"
        assert "params." in str(error)
        return
    x = torch.randn((2, 1, *edges))
    with torch.no_grad():
        assert net.eval()(x[:1]).shape == (1, 3)
    if params["norm"] != "batch":  # batch norm trains on two values or more of a channel
        assert net.train()(x).shape == (2, 3)


def test_a_flip_along_an_axis_that_scans_lack_is_refused_before_training() -> None:
    with pytest.raises(FamilyError, match=r"flip_axes is \[2\]") as caught:
        net_of((1, 12, 12), augment={"flip_axes": [2]})
    assert caught.value.code == "family.no_such_axis"


def test_the_seed_decides_the_first_weights() -> None:
    first, again, other = (
        CnnScratch(CnnScratchParams(), TASK, (1, 12, 12), seed).state() for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["classifier.weight"], other["classifier.weight"])
