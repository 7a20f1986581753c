"""Explanations by comparison with a scan in which something is missing.

Integrated gradients (Sundararajan et al. 2017) go in small steps from a blurred scan to the scan;
occlusion (Zeiler and Fergus 2014) blurs one window after another. Both take the *blurred* scan
for "nothing there" (Fong and Vedaldi 2017; Sturmfels et al. 2020 compare baselines): it is as
bright as the scan wherever one looks, where a black or grey one would make every bright organ
evidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from pipeline.trust.explain_score import LogOdds

# Share of the longest axis that the blur's standard deviation is.
_BLUR_SHARE: Final = 1 / 8
# Midpoints of the path: the sum then misses the difference by about a percent.
_STEPS: Final = 64
# Most windows along an axis, 2D and 3D: 576 and 1,000 looks at a scan.
_WINDOWS: Final = {2: 24, 3: 10}
# Voxels that the model sees at once.
_BLOCK_SCANS: Final = 32
_BLOCK_VOXELS: Final = 1 << 20


def blurred(x: Tensor) -> Tensor:
    """(1, C, I, J[, K]) without whatever is smaller than an eighth of the longest axis."""
    sigma = _BLUR_SHARE * max(x.shape[2:])
    sigmas = (0.0, 0.0, *(sigma for _ in x.shape[2:]))
    return torch.from_numpy(ndimage.gaussian_filter(x.numpy(), sigmas, mode="nearest"))


def integrated_gradients(
    net: LogOdds, x: Tensor, baseline: Tensor, target: int, steps: int = _STEPS
) -> Tensor:
    """How much each voxel's difference from ``baseline`` adds to the log-odds of ``target``.

    The sum over all voxels is the difference of the log-odds of ``x`` and ``baseline`` (the
    paper's completeness), but for the error of the midpoint rule.

    Args:
        net: What is explained.
        x: (1, C, I, J[, K]).
        baseline: The same shape.
        target: Class.
        steps: Midpoints of the straight path from ``baseline`` to ``x``.

    Returns:
        (I, J[, K]), summed over channels.
    """
    shares = (torch.arange(steps, device=x.device) + 0.5) / steps
    slope = torch.zeros_like(x)
    for part in torch.split(shares, _block(x)):
        along = part.view(-1, *(1,) * (x.ndim - 1))
        points = (baseline + along * (x - baseline)).requires_grad_()
        score = net(points)[:, target].sum()
        (found,) = torch.autograd.grad(score, points)
        slope += found.sum(dim=0, keepdim=True)
    return ((x - baseline) * slope / steps)[0].sum(dim=0)


def occlusion(
    score: Callable[[Tensor], NDArray[np.float64]], x: Tensor, baseline: Tensor
) -> Tensor:
    """How much lower the score is with each place's surroundings taken from ``baseline``.

    Windows lie on a regular grid that covers the scan, every other one touching; there are at most
    576 of an image and 1,000 of a volume, whatever its size. A voxel has the mean over the windows
    that hold it.

    Args:
        score: (N, C, I, J[, K]) -> (N,), the larger the more the model is for the class.
        x: (1, C, I, J[, K]).
        baseline: The same shape.

    Returns:
        (I, J[, K]); negative where the model is surer without what is there.
    """
    places = list(_windows(tuple(x.shape[2:])))
    whole = float(score(x)[0])
    total = torch.zeros(x.shape[2:], dtype=torch.float64)
    count = torch.zeros(x.shape[2:], dtype=torch.float64)
    size = _block(x)
    for start in range(0, len(places), size):
        part = places[start : start + size]
        hidden = x.repeat(len(part), *(1,) * (x.ndim - 1))
        for scan, window in zip(hidden, part, strict=True):
            scan[:, *window] = baseline[0][:, *window]
        for window, found in zip(part, score(hidden), strict=True):
            total[window] += whole - float(found)
            count[window] += 1
    return (total / count).float()


def _windows(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Windows of twice their distance, three voxels or more; the last ones end with the scan."""
    along = []
    for edge in shape:
        step = -(-edge // _WINDOWS[len(shape)])
        width = min(edge, max(3, 2 * step))
        starts = sorted({*range(0, edge - width, step), edge - width})
        along.append([slice(start, start + width) for start in starts])
    return itertools.product(*along)


def _block(x: Tensor) -> int:
    return max(1, min(_BLOCK_SCANS, _BLOCK_VOXELS // x.numel()))
