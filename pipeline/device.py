"""Where and how precisely networks are computed, and what makes their bits repeat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def best_device() -> torch.device:
    """The GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def computes_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16 itself; emulated, it would be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def bf16_is_safe(net: nn.Module, x: Tensor) -> bool:
    """Whether bf16 gradients of ``net`` can be trusted, for scans shaped as ``x`` (1, C, ...).

    On a processor they cannot where a convolution's kernel is longer than its input along an axis:
    there oneDNN (3.12, in torch 2.13) returns weight gradients that are wrong by orders of
    magnitude or NaN, and writes beyond its memory. Found for kernels of 3, 5 and 7 in 2D and 3D by
    comparison with float64; never where the input is at least as long as the kernel.
    """
    if x.device.type != "cpu":
        return True
    short: list[bool] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d | nn.Conv3d)
        reach = [(k - 1) * d + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
        short.append(any(e < r for e, r in zip(inputs[0].shape[2:], reach, strict=True)))

    hooks = [
        module.register_forward_pre_hook(look)
        for module in net.modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d)
    ]
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad():
            net(x)
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    return not any(short)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Decide what draws from torch's own generator (first weights, dropout); then restore it."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Ask CUDA for algorithms that repeat their bits; the processor's do."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
