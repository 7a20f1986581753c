"""Random changes of training scans that leave the diagnosis as it is, a batch at a time.

Everything here is random and happens on the device during training; what is the same for every
scan (orientation, spacing, intensity scale) is ``data_prep``'s and has happened before.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Generator, Tensor
from torch.nn import functional

from data_prep.config import Config, config_content


class AugmentConfig(Config):
    """How far a training scan may be changed; the default is not at all.

    Each scan draws its own values, uniformly within plus and minus the limit unless said
    otherwise. Intensities are those of the prepared scan (about unit spread after a z-score).

    Attributes:
        flip_axes: Spatial axes (0 is I) to mirror with probability one half. Only where the anatomy
            is the same mirrored: a chest is not (the heart is left), and after RAS axis 0 is left
            to right.
        shift_px: Largest shift along each axis, in voxels of the prepared scan.
        rotation_degrees: Largest turn, in the plane (2D), or about each axis in turn (3D).
        scale: Largest relative change of size (0.1: from 1/1.1 to 1.1 times).
        gain: Largest relative change of contrast about the scan's mean (as ``scale``).
        bias: Largest intensity added to the whole scan.
        noise: Largest standard deviation of added Gaussian noise; drawn from 0 up.
    """

    flip_axes: tuple[NonNegativeInt, ...] = ()
    shift_px: NonNegativeFloat = 0.0
    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    scale: NonNegativeFloat = 0.0
    gain: NonNegativeFloat = 0.0
    bias: NonNegativeFloat = 0.0
    noise: NonNegativeFloat = 0.0

    @property
    def moves(self) -> bool:
        """True where voxels are resampled."""
        return bool(self.flip_axes or self.shift_px or self.rotation_degrees or self.scale)


Augmentation = Annotated[AugmentConfig, config_content("augment", AugmentConfig)]


def augment(x: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """A batch (N, C, I, J[, K]) float32 with each scan changed on its own; ``x`` is left alone.

    Args:
        x: The batch, on the generator's device.
        config: How far.
        generator: Decides every draw.

    Raises:
        ValueError: If ``flip_axes`` names an axis that the scans do not have.
    """
    if any(axis not in range(x.ndim - 2) for axis in config.flip_axes):
        raise ValueError(f"flip_axes {config.flip_axes} do not fit scans of {x.ndim - 2} axes")
    if config.moves:
        x = _resample(x, _affine(x, config, generator))
    per_scan = (-1,) + (1,) * (x.ndim - 1)
    if config.gain:
        mean = x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        gain = _factor(len(x), config.gain, generator).view(per_scan)
        x = mean + (x - mean) * gain
    if config.bias:
        x = x + _uniform((len(x),), config.bias, generator).view(per_scan)
    if config.noise:
        level = config.noise * torch.rand(len(x), generator=generator, device=x.device)
        normal = torch.randn(x.shape, generator=generator, device=x.device)
        x = x + level.view(per_scan) * normal
    return x


def _uniform(shape: tuple[int, ...], limit: float, generator: Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=generator, device=generator.device) - 1) * limit


def _factor(n: int, limit: float, generator: Generator) -> Tensor:
    """Factors from 1 / (1 + limit) to 1 + limit, as often below 1 as above."""
    return torch.pow(1 + limit, _uniform((n,), 1.0, generator))


def _affine(x: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """(N, d, d + 1) maps from output to input voxels, centred, axes in array order (i, j[, k])."""
    n, d = len(x), x.ndim - 2
    linear = torch.eye(d, device=x.device).repeat(n, 1, 1)
    if config.rotation_degrees:
        planes = [(0, 1)] if d == 2 else [(0, 1), (0, 2), (1, 2)]
        angles = torch.deg2rad(_uniform((len(planes), n), config.rotation_degrees, generator))
        for (a, b), angle in zip(planes, angles, strict=True):
            turn = torch.eye(d, device=x.device).repeat(n, 1, 1)
            turn[:, a, a] = turn[:, b, b] = torch.cos(angle)
            turn[:, a, b] = -torch.sin(angle)
            turn[:, b, a] = torch.sin(angle)
            linear = linear @ turn
    if config.scale:
        linear = linear * _factor(n, config.scale, generator).view(-1, 1, 1)
    for axis in config.flip_axes:
        coin = torch.rand(n, generator=generator, device=x.device) < 0.5
        linear[:, :, axis] *= torch.where(coin, -1.0, 1.0).view(-1, 1)
    shift = _uniform((n, d, 1), config.shift_px, generator)
    return torch.cat([linear, shift], dim=2)


def _resample(x: Tensor, affine: Tensor) -> Tensor:
    """Linear interpolation; beyond the border the border's voxels go on, so no edge appears."""
    sizes = torch.tensor(x.shape[2:], dtype=x.dtype, device=x.device)
    # grid_sample counts axes the other way round, and each from -1 to 1 whatever its length.
    linear = affine[:, :, :-1] * (sizes.view(1, 1, -1) / sizes.view(1, -1, 1))
    shift = affine[:, :, -1:] * (2 / sizes).view(1, -1, 1)
    theta = torch.cat([linear.flip(1, 2), shift.flip(1)], dim=2)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
