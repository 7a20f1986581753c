"""Torch operators that ONNX has no counterpart of, in terms of those that it has.

Shapes but the batch's are fixed in an exported program, so each cell of an adaptive pooling is
a slice whose ends are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor


def _pooled(x: Tensor, cells: Sequence[int], pooled: Callable[[Tensor, int], Tensor]) -> Tensor:
    """(N, C, edges...) -> (N, C, cells...), axis by axis, which a cell being a box allows.

    Cell o of an axis reaches from floor(o n / cells) to ceil((o + 1) n / cells), as torch has it.
    """
    for axis, count in enumerate(cells, start=2):
        edge = int(x.shape[axis])
        if edge == count:
            continue
        ends = [(o * edge // count, -(-(o + 1) * edge // count)) for o in range(count)]
        parts = [pooled(x.narrow(axis, first, last - first), axis) for first, last in ends]
        x = torch.cat(parts, dim=axis)
    return x


def _largest(x: Tensor, cells: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Second comes where the largest lie, which no family asks for: nothing is left of it."""
    found = _pooled(x, cells, lambda part, axis: part.amax(dim=axis, keepdim=True))
    return found, torch.zeros_like(found, dtype=torch.int64)


def _mean(x: Tensor, cells: Sequence[int]) -> Tensor:
    return _pooled(x, cells, lambda part, axis: part.mean(dim=axis, keepdim=True))


def _hypot(a: Tensor, b: Tensor) -> Tensor:
    return (a * a + b * b).sqrt()


def _stable_sort(
    x: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor]:
    """ONNX's TopK puts the first of equals first, so that it is stable."""
    values, indices = x.topk(x.shape[dim], dim=dim, largest=descending, sorted=True)
    return values, indices


_ATEN: Final = torch.ops.aten
OPERATORS: Final[dict[Any, Callable[..., Any]]] = {
    _ATEN.adaptive_max_pool2d.default: _largest,
    _ATEN.adaptive_max_pool3d.default: _largest,
    _ATEN.adaptive_avg_pool2d.default: _mean,
    _ATEN.adaptive_avg_pool3d.default: _mean,
    _ATEN._adaptive_avg_pool2d.default: _mean,
    _ATEN._adaptive_avg_pool3d.default: _mean,
    _ATEN.hypot.default: _hypot,
    _ATEN.sort.stable: _stable_sort,
}
