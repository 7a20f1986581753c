"""Gaussian derivatives of images and volumes, and the invariants made of them.

All are scale-normalised: a derivative of order n is multiplied by sigma^n, so that responses at
different scales compare (Lindeberg 1998, "Feature detection with automatic scale selection"). At
the border the outermost voxel goes on.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TRUNCATE = 4.0  # kernel radius in sigmas, scipy.ndimage's default


def kernel(sigma: float, order: int) -> NDArray[np.float64]:
    """The Gaussian (sum 1), or its derivative by correlation, of radius 4 sigma."""
    radius = int(_TRUNCATE * sigma + 0.5)
    t = np.arange(-radius, radius + 1, dtype=np.float64)
    gauss = np.exp(-(t**2) / (2 * sigma**2))
    gauss /= gauss.sum()
    # What is correlated: what stands at t is the derivative at -t, so odd orders change their sign.
    factor = {0: np.ones_like(t), 1: t / sigma**2, 2: (t**2 - sigma**2) / sigma**4}[order]
    found: NDArray[np.float64] = factor * gauss
    return found


def orders(ndim: int) -> list[tuple[int, ...]]:
    """Derivative orders along each axis, 0th to 2nd in all: (0, 0), (1, 0), (0, 1), (2, 0), ..."""
    return [
        tuple(axes.count(axis) for axis in range(ndim))
        for total in range(3)
        for axes in combinations_with_replacement(range(ndim), total)
    ]


def derivatives(x: Tensor, sigma: float) -> dict[tuple[int, ...], Tensor]:
    """Orders along each axis -> scale-normalised derivative, shaped as ``x`` (N, C, I, J[, K])."""
    ndim = x.ndim - 2
    partial: dict[tuple[int, ...], Tensor] = {(): x}
    for axis in range(ndim):  # axis by axis, each partial result shared by all that begin with it
        wanted = {order[: axis + 1] for order in orders(ndim)}
        partial = {
            order: _along(partial[order[:-1]], axis, sigma, order[-1]) for order in sorted(wanted)
        }
    return {order: partial[order] * sigma ** sum(order) for order in orders(ndim)}


def _along(x: Tensor, axis: int, sigma: float, order: int) -> Tensor:
    operator = torch.from_numpy(_operator(x.shape[axis + 2], sigma, order)).to(x.device)
    return (x.movedim(axis + 2, -1) @ operator).movedim(-1, axis + 2)


@lru_cache(maxsize=64)
def _operator(edge: int, sigma: float, order: int) -> NDArray[np.float32]:
    """(edge, edge) matrix that filters a row from the right, the border's voxel going on.

    For scans of some dozen voxels one dense product is several times faster than sliding a kernel.
    Not to be changed: the scans of a cohort share it.
    """
    weight = kernel(sigma, order)
    taps = np.arange(len(weight)) - len(weight) // 2
    operator = np.zeros((edge, edge))
    for place in range(edge):
        np.add.at(operator[:, place], np.clip(place + taps, 0, edge - 1), weight)
    return operator.astype(np.float32)


def gradient_magnitude(found: dict[tuple[int, ...], Tensor]) -> Tensor:
    """Length of the gradient, of its parts' shape: the same however the image is turned."""
    first = [value**2 for order, value in found.items() if sum(order) == 1]
    return torch.stack(first).sum(dim=0).sqrt()


def hessian_eigenvalues(found: dict[tuple[int, ...], Tensor]) -> list[Tensor]:
    """Principal curvatures, rising: the same however the image is turned.

    In closed form: for 3 x 3 by the trigonometric solution of the characteristic polynomial (Smith
    1961, "Eigenvalues of a symmetric 3 x 3 matrix").
    """
    ndim = len(next(iter(found)))

    def entry(a: int, b: int) -> Tensor:
        return found[tuple((axis == a) + (axis == b) for axis in range(ndim))]

    if ndim == 2:
        mean = (entry(0, 0) + entry(1, 1)) / 2
        half = torch.hypot((entry(0, 0) - entry(1, 1)) / 2, entry(0, 1))
        return [mean - half, mean + half]
    mean = (entry(0, 0) + entry(1, 1) + entry(2, 2)) / 3
    a, b, c = (entry(axis, axis) - mean for axis in range(3))
    d, e, f = entry(0, 1), entry(0, 2), entry(1, 2)
    size = (((a**2 + b**2 + c**2) + 2 * (d**2 + e**2 + f**2)) / 6).sqrt()
    determinant = a * (b * c - f**2) - d * (d * c - e * f) + e * (d * f - b * e)
    # Rounding can carry the cosine past 1; a multiple of the identity has size 0 and any angle.
    cosine = (determinant / (2 * size**3).clamp(min=1e-30)).clamp(-1, 1)
    angle = torch.acos(cosine) / 3
    top = mean + 2 * size * torch.cos(angle)
    bottom = mean + 2 * size * torch.cos(angle + 2 * math.pi / 3)
    return [bottom, 3 * mean - top - bottom, top]
