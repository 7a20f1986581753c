"""The probabilities that a network gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prep.task import Task
from pipeline.views import ViewsConfig, views

_EVALUATION_BATCH: Final = 256


def predict_network(
    net: nn.Module, x: Tensor, task: Task, test_time: ViewsConfig | None = None
) -> NDArray[np.float64]:
    """Probabilities (N, n_classes) of scans (N, C, I, J[, K]), on the device that holds ``net``.

    The mean of those of each view that ``test_time`` asks for; if of none, of the scan alone. In
    evaluation mode and float32 whatever the training precision was, so that a row does not depend
    on its batch beyond rounding; softmax (multi-label: sigmoid) in float64. The filters of ``net``
    are laid out as training does it: otherwise a network that was loaded would sum in another order
    than the one that was saved.
    """
    return look_through(net, x, task, test_time)[0]


def look_through(
    net: nn.Module,
    x: Tensor,
    task: Task,
    test_time: ViewsConfig | None = None,
    layer: nn.Module | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """What ``predict_network`` gives, and what goes into ``layer`` of ``net`` on the same way.

    Returns:
        Probabilities (N, n_classes), and inputs of ``layer`` (N, D) float32 for the scans
        themselves (of several views the first); without a layer, D is 0.
    """
    device = next(net.parameters()).device
    put_channels_last(net, x.ndim)
    was_training = net.training
    net.eval()
    found, inside = [], []
    with torch.no_grad():
        for start in range(0, len(x), _EVALUATION_BATCH):
            batch = _one_channel_last(x[start : start + _EVALUATION_BATCH].to(device))
            probability, features = look_at_batch(
                net, batch, task, test_time or ViewsConfig(), layer
            )
            found.append(probability)
            inside.append(features.cpu())
    net.train(was_training)
    return torch.cat(found).numpy(), torch.cat(inside).numpy()


def look_at_batch(
    net: nn.Module, batch: Tensor, task: Task, test_time: ViewsConfig, layer: nn.Module | None
) -> tuple[Tensor, Tensor]:
    """``look_through`` of one batch, in torch operations alone, so that it can be traced.

    Returns:
        Probabilities (N, n_classes) float64, and inputs of ``layer`` (N, D) float32.
    """
    layout = memory_format(batch.ndim)
    with _inputs_of(layer) as inputs:
        # "to": "contiguous" leaves the strides of one channel, and with them the kernel, open.
        seen = [
            _probability(net(view.to(memory_format=layout)), task)
            for view in views(batch, test_time)
        ]
    features = inputs[0].flatten(1) if layer else batch.new_empty((batch.shape[0], 0))
    return torch.stack(seen).mean(dim=0), features


def _one_channel_last(batch: Tensor) -> Tensor:
    """The batch with the strides that channels last has, where one channel makes that no copy."""
    if batch.shape[1] != 1 or not batch.is_contiguous():
        return batch
    return batch.view(batch.shape[0], *batch.shape[2:], 1).movedim(-1, 1)


@contextmanager
def _inputs_of(layer: nn.Module | None) -> Iterator[list[Tensor]]:
    """What goes into ``layer``, call by call."""
    seen: list[Tensor] = []
    if layer is None:
        yield seen
        return
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _probability(logits: Tensor, task: Task) -> Tensor:
    wide = logits.double().cpu()
    return wide.sigmoid() if task.is_multi_label else wide.softmax(dim=1)


def put_channels_last(net: nn.Module, ndim: int) -> None:
    """Put channels last in the filters of as many axes as scans have (slices have fewer)."""
    for parameter in net.parameters():
        if parameter.ndim == ndim:
            parameter.data = parameter.data.contiguous(memory_format=memory_format(ndim))


def memory_format(ndim: int) -> torch.memory_format:
    """Channels last, which convolutions are fastest with, for batches of ``ndim`` axes."""
    return torch.channels_last if ndim == 4 else torch.channels_last_3d
