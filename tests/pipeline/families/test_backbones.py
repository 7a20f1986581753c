"""Every network is whole, is cut where it says, and takes the weights that others publish."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast, get_args

import pytest
import torch
from torch import nn

from data_prep.files import sha256_file
from pipeline.families.backbones import ARCHITECTURES, Backbone, NetworkName
from pipeline.families.checkpoint import OwnCheckpoint
from pipeline.families.monai_backbones import DenseNet, ResNet, densenet_name, resnet_name
from pipeline.inspection import inspect_network

FIVE_STAGES = ["resnet18", "resnet50", "densenet121"]


def test_every_network_is_described() -> None:
    assert set(ARCHITECTURES) == set(get_args(NetworkName))


@pytest.mark.parametrize("name", FIVE_STAGES)
@pytest.mark.parametrize("n_stages", [1, 3, 5])
def test_truncated_it_gives_the_same_maps(name: NetworkName, n_stages: int) -> None:
    net = ARCHITECTURES[name].build().eval()
    backbone = cast("Backbone", net)
    x = torch.linspace(-1, 1, 3 * 33 * 34).reshape(1, 3, 33, 34)
    with torch.no_grad():
        assert net(x).shape == (1, 1000)
        whole = [found.clone() for found in backbone.stages(x)]
        assert len(whole) == ARCHITECTURES[name].n_stages
        backbone.truncate(n_stages)
        kept = list(backbone.stages(x))
    assert len(kept) == len(backbone.parts()) == n_stages
    assert all(torch.equal(a, b) for a, b in zip(whole, kept, strict=False))


@pytest.mark.parametrize("name", ["efficientnet-b0", *FIVE_STAGES])
@pytest.mark.parametrize("n_stages", [1, 2, 5])
def test_its_parts_are_all_that_is_left(name: NetworkName, n_stages: int) -> None:
    net = ARCHITECTURES[name].empty(n_stages)
    in_parts = {
        parameter
        for part in cast("Backbone", net).parts()
        for block in part
        for parameter in block.parameters()
    }
    assert in_parts == set(net.parameters())
    used = inspect_network(net, (3, 32, 32), measure=False)
    assert sum(layer.parameters for layer in used) == sum(p.numel() for p in net.parameters())


def published_names(net: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with the names that torchvision gives."""
    renamed = {}
    for name, value in net.state_dict().items():
        theirs = name.removeprefix("net.")
        theirs = re.sub(r"^class_layers\.out\.1\.", "classifier.", theirs)
        theirs = re.sub(r"^fc\.1\.", "fc.", theirs)
        # The DenseNet files of torchvision are of its first years: "norm.1" for "layers.norm1".
        theirs = re.sub(r"\.layers\.(norm|conv)([12])\.", r".\1.\2.", theirs)
        if "num_batches_tracked" not in theirs:
            renamed[theirs] = value.clone()
    return renamed


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_torchvisions_files_fit(tmp_path: Path, name: NetworkName) -> None:
    trained = ARCHITECTURES[name].build()
    path = tmp_path / "published.pth"
    torch.save(published_names(trained), path)
    own = OwnCheckpoint(path=str(path), sha256=sha256_file(path))
    loaded = ARCHITECTURES[name].trained(5, own).state_dict()
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in loaded.items())


def test_names_of_any_age_are_understood() -> None:
    layer = "features.denseblock1.denselayer2"
    ours = "net.features.denseblock1.denselayer2.layers.norm1.weight"
    assert densenet_name(f"{layer}.norm.1.weight") == ours
    assert densenet_name(f"{layer}.norm1.weight") == ours
    assert densenet_name("classifier.bias") == "net.class_layers.out.1.bias"
    assert resnet_name("fc.weight") == "net.fc.1.weight"
    assert resnet_name("layer1.0.conv1.weight") == "net.layer1.0.conv1.weight"


def test_published_sizes() -> None:
    # He et al. 2016 and Huang et al. 2017 as torchvision counts them: 11,689,512 and 7,978,856.
    assert sum(p.numel() for p in ResNet("resnet18").parameters()) == 11_689_512
    assert sum(p.numel() for p in DenseNet().parameters()) == 7_978_856
