"""Receptive fields by a network's geometry, carried along with the tensors of a pass forward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_WINDOWED: Final = (nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)


@dataclass(frozen=True)
class Field:
    """Receptive field of one output along each axis, and voxels from one output to the next.

    size' = size + reach * jump, jump' = jump * stride (Dumoulin and Visin 2016, "A guide to
    convolution arithmetic"); where branches meet, the larger of both.
    """

    size: tuple[float, ...]
    jump: tuple[int, ...]

    @classmethod
    def of_a_voxel(cls, ndim: int) -> Field:
        """Of the scan itself."""
        return cls((1.0,) * ndim, (1,) * ndim)

    def after(self, module: nn.Module) -> Field:
        """Of what ``module`` makes of it."""
        if not isinstance(module, _WINDOWED):
            return self
        ndim = len(self.size)
        kernel, stride, dilation = (
            _per_axis(getattr(module, name, 1), ndim)
            for name in ("kernel_size", "stride", "dilation")
        )
        size = tuple(
            s + (k - 1) * d * j
            for s, k, d, j in zip(self.size, kernel, dilation, self.jump, strict=True)
        )
        return Field(size, tuple(j * step for j, step in zip(self.jump, stride, strict=True)))

    def of_everything(self) -> Field:
        """Where all places are mixed."""
        return Field((math.inf,) * len(self.size), self.jump)


def _per_axis(value: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    return (value,) * ndim if isinstance(value, int) else tuple(value)


def with_field(x: Tensor, field: Field) -> Tensor:
    """``x``, which knows its field from here on."""
    x._field = field  # type: ignore[attr-defined]
    return x


class CarriedFields(TorchFunctionMode):
    """Carries receptive fields through what is no module: sums, joins, activations, flattening."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [t for t in tree_leaves((args, kwargs)) if hasattr(t, "_field")]
        if isinstance(result, Tensor) and inputs:
            fields = [tensor._field for tensor in inputs]
            met = Field(
                tuple(map(max, zip(*(f.size for f in fields), strict=True))),
                tuple(map(max, zip(*(f.jump for f in fields), strict=True))),
            )
            pooled = result.ndim < inputs[0].ndim and inputs[0].shape[2:].numel() > 1
            with_field(result, met.of_everything() if pooled else met)
        return result
