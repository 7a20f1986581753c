"""The network of a medcurve model as MONAI takes one; it needs torch, and nothing of medcurve."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """(N, C, I, J[, K]) float32, prepared scans -> (N, n_classes) float32 probabilities.

    They are calibrated: no activation is to follow.

    Args:
        path: ``model.pt2``, the model as one torch program. It holds no pickle.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._program = torch.export.load(path).module()

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities of a batch."""
        probability, *_ = self._program(image.as_subclass(Tensor))  # MONAI's tensors carry more
        return probability.float()  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> Network:
        """Does nothing: the program answers, and cannot be trained."""
        return self
