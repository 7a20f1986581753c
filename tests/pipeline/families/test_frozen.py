"""Features of random networks: the classifier's inputs, row by row, and the network is left."""

from __future__ import annotations

import pytest
import torch

from pipeline.families.conv_net import ConvNet, ConvNetParams
from pipeline.families.frozen import classifier_of, features_of
from pipeline.families.monai_nets import ARCHITECTURES, Architecture, build_monai_net


def scans(n: int, *shape: int) -> torch.Tensor:
    return torch.randn((n, *shape), generator=torch.Generator().manual_seed(1))


def test_features_are_what_the_classifier_weighs() -> None:
    net = ConvNet(ConvNetParams(widths=(4, 6)), (1, 12, 12), 3)
    x = scans(70, 1, 12, 12)  # more than a chunk
    features = features_of(net, x)
    assert net.training
    assert features.shape == (70, 6)
    net.eval()
    with torch.no_grad():
        assert torch.allclose(classifier_of(net)(features), net(x), atol=1e-6)
    assert torch.equal(features_of(net, x[3:5]), features[3:5])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(1, 16, 13), (1, 8, 9, 8)], ids=["2D", "3D"])
def test_every_network_gives_finite_features_that_tell_scans_apart(
    architecture: Architecture, shape: tuple[int, ...]
) -> None:
    net = build_monai_net(architecture, shape, 2, width=0.125, dropout=0.5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    features = features_of(net, scans(4, *shape))
    assert features.shape == (4, classifier_of(net).in_features)
    assert features.isfinite().all()
    assert (features.std(dim=0) > 0).any()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
