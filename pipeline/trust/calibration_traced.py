"""``Calibration.apply`` in torch operations alone, so that a model can be exported whole.

The maps are those of ``pipeline.trust.calibration_maps``, whose arrays these lines follow; a test
holds the two together for every method and task.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data_prep.task import Task
from pipeline.trust.calibration import Calibration
from pipeline.trust.calibration_maps import Method

_EPSILON = float(np.finfo(np.float64).eps)


def traced_calibration(calibration: Calibration, task: Task, probability: Tensor) -> Tensor:
    """Calibrated probabilities.

    Args:
        calibration: What was learnt on validation.
        task: What is predicted.
        probability: (N, n_classes) float64 as a family gives them.

    Returns:
        (N, n_classes) float64.

    Raises:
        TrustError: ``trust.calibration_of_another_task``.
    """
    calibration.check_task(task)
    method, numbers = calibration.method, calibration.numbers
    if method == "none":
        return probability
    if not task.is_multi_label:
        return _mapped(method, numbers, probability)
    each = len(numbers) // task.n_classes
    columns = []
    for at in range(task.n_classes):
        yes = probability[:, at : at + 1]
        two = torch.cat([1 - yes, yes], dim=1)
        columns.append(_mapped(method, numbers[each * at : each * (at + 1)], two)[:, 1:])
    return torch.cat(columns, dim=1)


def _mapped(method: Method, numbers: Sequence[Sequence[float]], probability: Tensor) -> Tensor:
    if method == "isotonic":
        return _on_steps(numbers, probability)
    z = probability.clamp(_EPSILON, 1 - _EPSILON).log()
    row = probability.new_tensor(numbers[0])
    if method == "temperature":
        return (row * z).softmax(dim=1)
    if method == "vector":
        slope, shift = row.chunk(2)
        return (slope * z + shift).softmax(dim=1)
    no, yes = z[:, :1], z[:, 1:]
    score = row[0] * (yes - no) if method == "platt" else row[0] * yes - row[1] * no
    score = score + row[-1]
    return torch.cat([torch.zeros_like(score), score], dim=1).softmax(dim=1)


def _on_steps(numbers: Sequence[Sequence[float]], probability: Tensor) -> Tensor:
    if probability.shape[1] == 2:
        yes = _interpolated(probability[:, 1:], numbers[0], numbers[1])
        return torch.cat([1 - yes, yes], dim=1)
    rows = torch.cat(
        [
            _interpolated(probability[:, at : at + 1], numbers[2 * at], numbers[2 * at + 1])
            for at in range(probability.shape[1])
        ],
        dim=1,
    )
    return rows / rows.sum(dim=1, keepdim=True)


def _interpolated(x: Tensor, at: Sequence[float], height: Sequence[float]) -> Tensor:
    """``np.interp`` of a column (N, 1): each piece adds its slope times how much of it lies below.

    A search for the piece, which numpy does, has no counterpart in ONNX.
    """
    places, heights = x.new_tensor(at), x.new_tensor(height)
    lengths = places.diff()
    slopes = torch.where(lengths > 0, heights.diff() / lengths.clamp(min=_EPSILON), 0.0)
    below = torch.minimum((x - places[:-1]).clamp(min=0), lengths)
    return heights[0] + (slopes * below).sum(dim=1, keepdim=True)
