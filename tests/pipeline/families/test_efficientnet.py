"""The network itself: known answers on photographs, TensorFlow's padding, stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image
from torch.nn import functional

from pipeline.families.backbones import ARCHITECTURES, normalised
from pipeline.families.checkpoint import load_weights, read_checkpoint
from pipeline.families.efficientnet import EfficientNet, pad_same

# Places in ImageNet's list of 1,000 classes.
PHOTOGRAPHS = {"china.jpg": (442, 449), "flower.jpg": (985,)}  # bell cote, boathouse; daisy


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_it_names_what_photographs_show(photograph: str) -> None:
    lite = ARCHITECTURES["efficientnet-lite0"]
    net = lite.build()
    load_weights(net, read_checkpoint(lite.published), lite.rename, optional="nothing")
    pixels = torch.from_numpy(load_sample_image(photograph).astype(np.float32) / 255)
    image = functional.interpolate(
        pixels.permute(2, 0, 1)[None], (224, 224), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        likeliest = net.eval()(normalised(lite, image)).topk(3).indices[0]
    expected = PHOTOGRAPHS[photograph]
    assert set(likeliest[: len(expected)].tolist()) == set(expected)


@given(st.integers(1, 40), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=60)
def test_padding_leaves_a_place_for_each_step(edge: int, kernel: int, stride: int) -> None:
    x = torch.ones(1, 1, edge, edge)
    padded = pad_same(x, (kernel, kernel), (stride, stride))
    assert (padded.shape[2] - kernel) // stride + 1 == -(-edge // stride)
    added = padded.shape[2] - edge
    before = int((padded[0, 0, :, padded.shape[3] // 2] == 0).long().cumprod(0).sum())
    assert before == added // 2  # the odd one comes last


@pytest.mark.parametrize("lite", [True, False])
def test_its_layout_is_the_published_one(lite: bool) -> None:
    net = EfficientNet(1.0, 1.0, lite=lite)
    # Tan and Le 2019, table 2, and the Lite variants' README: millions of parameters.
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(
        4.65 if lite else 5.29, abs=0.01
    )


@pytest.mark.parametrize("lite", [True, False])
@pytest.mark.parametrize("n_stages", [1, 4, 7, 8])
def test_truncated_it_gives_the_same_maps(lite: bool, n_stages: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = EfficientNet(1.0, 1.0, lite=lite).eval()
    x = torch.linspace(-1, 1, 3 * 33 * 35).reshape(1, 3, 33, 35)
    with torch.no_grad():
        whole = list(net.stages(x))
        net.truncate(n_stages)
        kept = list(net.stages(x))
    assert len(whole) == 8
    assert len(kept) == len(net.parts()) == n_stages
    for before, after in zip(whole, kept, strict=False):
        assert torch.equal(before, after)
