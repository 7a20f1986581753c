"""The probabilities that a network gives."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prep.task import Task

_EVALUATION_BATCH: Final = 256


def predict_network(net: nn.Module, x: Tensor, task: Task) -> NDArray[np.float64]:
    """Probabilities (N, n_classes) of scans (N, C, I, J[, K]), on the device that holds ``net``.

    In evaluation mode and float32 whatever the training precision was, so that a row does not
    depend on its batch beyond rounding; softmax (multi-label: sigmoid) in float64.
    """
    device = next(net.parameters()).device
    layout = memory_format(x.ndim)
    was_training = net.training
    net.eval()
    with torch.no_grad():
        logits = [
            net(x[start : start + _EVALUATION_BATCH].to(device, memory_format=layout))
            for start in range(0, len(x), _EVALUATION_BATCH)
        ]
    net.train(was_training)
    wide = torch.cat(logits).double().cpu()
    rows: NDArray[np.float64] = (wide.sigmoid() if task.is_multi_label else wide.softmax(1)).numpy()
    return rows


def memory_format(ndim: int) -> torch.memory_format:
    """Channels last, which convolutions are fastest with, for batches of ``ndim`` axes."""
    return torch.channels_last if ndim == 4 else torch.channels_last_3d
