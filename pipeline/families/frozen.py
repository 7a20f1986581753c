"""Networks with frozen random weights as feature extractors (Saxe et al. 2011).

Batch norm keeps its first statistics (mean 0, variance 1), so that it does nothing. The training
scans may not set them, since features are worked out before anybody knows which scans those are;
noise with the spectrum of natural images was tried in their place, and on BreastMNIST's training
scans the left-out error was larger with it for ResNet-18 (0.166 against 0.164), DenseNet-121 (0.153
against 0.149) and EfficientNet-B0 (0.187 against 0.162), smaller for cnn_scratch (0.155, 0.157).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

# Scans that pass through a network at once, fewer where they are large (some 100 MB of activations
# for 64 channels).
_CHUNK: Final = 16
_CHUNK_VOXELS: Final = 1 << 18


def classifier_of(net: nn.Module) -> nn.Linear:
    """The last fully connected layer of a network: its inputs are the network's features."""
    return [module for module in net.modules() if isinstance(module, nn.Linear)][-1]


def has_classifier(net: nn.Module | None) -> bool:
    """Whether there is a network with a fully connected layer, and so ``features_of`` it."""
    return net is not None and any(isinstance(module, nn.Linear) for module in net.modules())


def classified(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What ``net`` makes of a batch, and the features (N, D) that its classifier made it of."""
    seen: list[Tensor] = []
    handle = classifier_of(net).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        found: Tensor = net(x)
    finally:
        handle.remove()
    return found, seen[0]


def features_of(net: nn.Module, x: Tensor) -> Tensor:
    """What the classifier of ``net`` sees of scans (N, C, I, J[, K]): (N, D) float32.

    In evaluation mode, in chunks of one size, the last filled up with zeros: another size may sum
    in another order, and a ridge with a small penalty would make much of the last bits. The network
    runs on the device that holds it; the features come back to the processor.
    """
    device = next(net.parameters()).device
    chunk = min(_CHUNK, max(1, _CHUNK_VOXELS // x[0].numel()))
    seen: list[Tensor] = []
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad():
            for part in torch.split(x, chunk):
                filling = part.new_zeros((chunk - len(part), *part.shape[1:]))
                seen.append(classified(net, torch.cat([part, filling]).to(device))[1])
    finally:
        net.train(was_training)
    return torch.cat(seen)[: len(x)].cpu()
