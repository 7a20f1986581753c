"""The networks are the published ones, and bear scans of every size from 8 voxels."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn

from data_prep.task import Task
from pipeline.families.base import FamilyError
from pipeline.families.monai_nets import ARCHITECTURES, Architecture, build_monai_net
from pipeline.families.monai_network import MonaiNetwork, MonaiNetworkParams
from pipeline.inspection import inspect_network

TASK = Task(kind="multi-class", class_names=("a", "b", "c"))
# Of torchvision's tables, for 1000 classes and three channels.
PUBLISHED: dict[Architecture, int] = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "densenet121": 7_978_856,
    "efficientnet-b0": 5_288_548,
}


def family_of(shape: tuple[int, ...], seed: int = 0, **params: Any) -> MonaiNetwork:
    small = {"width": 0.125, **params}
    return MonaiNetwork(MonaiNetworkParams.model_validate(small), TASK, shape, seed)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_has_as_many_weights_as_published(architecture: Architecture) -> None:
    with torch.device("meta"):  # the shapes alone
        net = build_monai_net(architecture, (3, 224, 224), 1000, small_stem=False)
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[architecture]


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 9, 13), (1, 8, 11, 9), (1, 70, 66)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scans_of_any_size_give_logits_and_gradients(
    architecture: str, shape: tuple[int, ...]
) -> None:
    net = family_of(shape, architecture=architecture, dropout=0.1).net
    net(torch.randn((2, *shape))).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with torch.no_grad():
        assert net.eval()(torch.randn((1, *shape))).shape == (1, 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_small_scan_is_looked_at_voxel_by_voxel_first(architecture: str) -> None:
    """The small stem keeps the size, up to 64 voxels or where it is asked for."""
    for edge, stem, kept in ((64, "auto", True), (65, "auto", False), (65, "small", True)):
        net = family_of((1, edge, edge), architecture=architecture, stem=stem).net
        first, *later, _ = inspect_network(net, (1, edge, edge), measure=False)
        assert (first.shape[1] == edge) == kept
        assert any(layer.shape[1] == edge for layer in later) == kept
        assert ("max pool" in {layer.kind for layer in later}) == (
            not kept and architecture != "efficientnet-b0"
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_is_on_the_classifiers_inputs(architecture: str) -> None:
    net = family_of((1, 16, 16), architecture=architecture, dropout=0.3).net
    assert 0.3 in {m.p for m in net.modules() if isinstance(m, nn.Dropout)}


def test_the_seed_decides_the_first_weights() -> None:
    first, again, other = (family_of((1, 16, 16), seed).state() for seed in (0, 0, 1))
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_monai_is_imported_only_where_one_of_its_networks_is_built() -> None:
    code = "import sys, pipeline.families, pipeline.cli; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("stem", ["small", "published"])
def test_a_scan_is_refused_in_words_exactly_where_the_network_would_fail(stem: str) -> None:
    net = build_monai_net("densenet121", (1, 70, 66), 3, width=0.05, small_stem=stem == "small")
    for edge in (1, 6, 7, 8, 9, 28, 29, 30):
        shape = (1, 70, edge)
        with torch.no_grad(), suppress(RuntimeError):
            net.eval()(torch.zeros((1, *shape)))
            assert family_of(shape, architecture="densenet121", stem=stem).network() is not None
            continue
        with pytest.raises(FamilyError, match=rf"{stem} stem gets {edge} voxels") as caught:
            family_of(shape, architecture="densenet121", stem=stem)
        assert caught.value.code == "family.scan_too_small"


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "densenet121"])
def test_the_others_bear_a_single_voxel(architecture: str) -> None:
    net = family_of((1, 1, 1, 1), architecture=architecture).net.eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 1, 1, 1, 1)).isfinite().all()
