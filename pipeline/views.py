"""Views of a scan at prediction: mirrored and shifted copies whose probabilities are averaged.

Nothing here is random (test-time augmentation often is): a scan has the same views whenever, and
in whichever batch, it is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, product

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from data_prep.config import Config


class ViewsConfig(Config):
    """Which views a scan has; the default is the scan alone, at no cost.

    A scan is predicted once for each: 2 per mirrored axis, multiplied, times 5 (2D) or 7 (3D) where
    it is shifted. With mirrored axes the probabilities of a scan and its mirror image are the same.

    Attributes:
        flip_axes: Spatial axes to mirror (0 is I): none, each and all together.
        shift_px: Voxels to shift by along each axis, one way and the other; the border goes on.
    """

    flip_axes: tuple[NonNegativeInt, ...] = ()
    shift_px: NonNegativeInt = 0


def views(x: Tensor, config: ViewsConfig) -> Iterator[Tensor]:
    """Every view of a batch (N, C, I, J[, K]), the batch itself first."""
    axes = sorted(set(config.flip_axes))
    mirrored = chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
    for flipped, (axis, voxels) in product(mirrored, _shifts(x.ndim - 2, config.shift_px)):
        yield _shift(x.flip([a + 2 for a in flipped]) if flipped else x, axis, voxels)


def _shifts(ndim: int, voxels: int) -> list[tuple[int, int]]:
    """(axis, voxels), the shift by nothing first."""
    if not voxels:
        return [(0, 0)]
    return [(0, 0), *product(range(ndim), (-voxels, voxels))]


def _shift(x: Tensor, axis: int, voxels: int) -> Tensor:
    if not voxels:
        return x
    length = x.shape[axis + 2]
    source = (torch.arange(length, device=x.device) - voxels).clamp(0, length - 1)
    return x.index_select(axis + 2, source)
