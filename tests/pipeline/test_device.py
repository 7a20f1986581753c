"""bf16 is used where its gradients are right, and what was borrowed from torch is given back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pipeline import device
from pipeline.device import best_device, bf16_is_safe, computes_bf16, deterministic, seeded

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def convolution(edges: tuple[int, ...], kernel: int) -> tuple[nn.Module, Tensor]:
    """A network of one convolution from 16 to 32 channels, and an input for it."""
    kind = nn.Conv2d if len(edges) == 2 else nn.Conv3d
    generator = torch.Generator().manual_seed(0)
    net = kind(16, 32, kernel, padding=kernel // 2)
    return net, torch.randn((4, 16, *edges), generator=generator)


@pytest.mark.parametrize(
    ("edges", "kernel", "safe"),
    [
        ((3, 3), 3, True),
        ((2, 9), 3, False),
        ((1, 1), 1, True),
        ((3, 3, 3), 3, True),
        ((5, 4, 5), 3, True),
        ((2, 2, 2), 3, False),
        ((9, 9, 4), 5, False),
    ],
)
def test_a_kernel_longer_than_its_input_is_not_safe_on_a_processor(
    edges: tuple[int, ...], kernel: int, safe: bool
) -> None:
    net, x = convolution(edges, kernel)
    assert bf16_is_safe(net, x[:1]) == safe
    assert bf16_is_safe(net.to("meta"), x[:1].to("meta"))  # any other device


def test_dilation_counts_into_the_kernel() -> None:
    x = torch.zeros(1, 1, 6, 6)
    assert bf16_is_safe(nn.Conv2d(1, 1, 3, dilation=2), x)
    assert not bf16_is_safe(nn.Conv2d(1, 1, 3, dilation=3, padding=3), x)


def test_looking_leaves_the_network_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for mode in (True, False):
        net.train(mode)
        bf16_is_safe(net, torch.ones(1, 1, 5, 5))
        assert net.training == mode
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net.modules())


@pytest.mark.skipif(not computes_bf16(CPU), reason="this processor does not compute in bf16")
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("edges", [(5, 5), (7, 6), (5, 5, 5), (7, 5, 6)])
def test_gradients_are_right_where_they_are_called_safe(
    edges: tuple[int, ...], kernel: int
) -> None:
    """The converse is not run: where they are not safe, the heap may be overwritten."""
    net, x = convolution(edges, kernel)
    assert bf16_is_safe(net, x[:1])
    outer = torch.randn(net(x).shape, generator=torch.Generator().manual_seed(1))
    gradients = []
    for enabled in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = net(x)
        y.backward(outer.to(y.dtype))
        gradients.append(net.weight.grad.clone())
    exact, rounded = gradients
    assert (rounded - exact).abs().max() < 0.02 * exact.abs().max()


def test_bf16_is_computed_where_the_hardware_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for avx512, amx in ((True, False), (False, True), (False, False)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=avx512: found)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda found=amx: found)
        assert computes_bf16(CPU) == (avx512 or amx)
    for native in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, found=native: found
        )
        assert computes_bf16(CUDA) == native


def test_the_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, expected in ((True, CUDA), (False, CPU)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        assert best_device() == expected


def test_cuda_is_asked_for_repeatable_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(CUDA):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(CPU):
        assert not torch.are_deterministic_algorithms_enabled()


def test_seeded_forks_the_gpus_generator_too(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[list[int]] = []

    @contextlib.contextmanager
    def fork(devices: list[int]) -> Iterator[None]:
        forked.append(devices)
        yield

    monkeypatch.setattr(device.torch.random, "fork_rng", fork)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for where in (CPU, CUDA):
        with seeded(0, where):
            pass
    assert forked == [[], [3]]
