"""Scans as images for a network that was trained on ImageNet."""

from __future__ import annotations

import itertools
from typing import Annotated, Final, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional

from data_prep.config import Config
from pipeline.families.backbones import Architecture
from pipeline.families.base import FamilyError

# Intensities that are black and white where a recipe gives a mean of 0 and a deviation of 1. Of
# (-2, 3), (-2, 4), (-3, 3) and each scan's own percentiles, it had the least left-out error on
# BreastMNIST's training scans.
_STANDARD_RANGE: Final = (-2.0, 3.0)

Pooling = Literal["average", "deviation", "max"]


class ReadingConfig(Config):
    """How scans are shown to the network, and what is taken of its maps.

    Attributes:
        sizes: Pixels of an image's longer edge: scans are enlarged or reduced to each of these, in
            their proportions, and what is found at all sizes is joined.
        intensity: The prepared intensities that are shown as black and as white, or ``auto``: as
            ``shown_range`` has it.
        stages: Of the network, counted from 1, whose maps are taken, or ``all``; what lies above
            the last one is not worked out.
        pooling: What is taken of each map over all its places.
        flip_axes: Spatial axes along which features of the mirrored scan are averaged in when no
            gradients are needed. Only where the anatomy is the same mirrored; of a network that is
            trained on, only such as its ``augment`` mirrors.
        volume: How a 3D scan is shown: as ``slices`` across each axis, or whole, the network made
            3D (``acs`` or ``inflated``, see ``to_volumetric``).
        slices: How many across each axis, evenly spaced (all, where there are fewer).
        slice_pooling: Features of an axis are the ``mean`` over its slices, or weighted by
            ``attention``, which is learned.
    """

    sizes: tuple[Annotated[int, Field(ge=32, le=1024)], ...] = Field(default=(64,), min_length=1)
    intensity: Literal["auto"] | tuple[float, float] = "auto"
    stages: tuple[PositiveInt, ...] | Literal["all"] = "all"
    pooling: tuple[Pooling, ...] = Field(default=("average", "deviation"), min_length=1)
    flip_axes: tuple[NonNegativeInt, ...] = ()
    volume: Literal["slices", "acs", "inflated"] = "slices"
    slices: PositiveInt = 7
    slice_pooling: Literal["mean", "attention"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> ReadingConfig:
        if self.stages != "all" and list(self.stages) != sorted({*self.stages} or {0}):
            raise ValueError(f"stages must be numbers that rise, not {list(self.stages)}")
        if self.intensity != "auto" and self.intensity[0] >= self.intensity[1]:
            raise ValueError(f"intensity must be black, white, not {list(self.intensity)}")
        return self

    def stages_of(self, architecture: Architecture) -> tuple[int, ...]:
        """Numbers of the stages, from 1."""
        if self.stages == "all":
            return tuple(range(1, architecture.n_stages + 1))
        return self.stages


def shown_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Black and white (N, 1, ...) of scans (N, C, ...), by what a recipe's intensities mean.

    A recipe gives 0 to 1 (window, percentile, min-max) or a mean of 0 and a deviation of 1 (the
    z-scores). A scan that lies within 0 to 1 is taken for the former. Nothing else of a scan is
    used, so that its brightness, which can be evidence, is shown as it is.
    """
    flat = x.flatten(1)
    unit = (flat.amin(dim=1) >= 0) & (flat.amax(dim=1) <= 1)
    unit = unit.view((-1,) + (1,) * (x.ndim - 1))
    low, high = x.new_tensor(_STANDARD_RANGE)
    return torch.where(unit, 0.0, low), torch.where(unit, 1.0, high)


def slabs(x: Tensor, axis: int, wanted: int) -> Tensor:
    """(N, C, I, J, K) with its slices across ``axis`` averaged into ``wanted`` equal slabs.

    Unchanged where there are no more slices. Slabs, as radiologists read them, leave no voxel out.
    """
    count = min(x.shape[2 + axis], wanted)
    last = x.movedim(2 + axis, -1)
    return (
        functional.adaptive_avg_pool1d(last.flatten(1, 3), count)
        .reshape(*last.shape[:-1], count)
        .movedim(-1, 2 + axis)
    )


def refuse_small(
    architecture: Architecture, config: ReadingConfig, scan_shape: tuple[int, ...], slices: bool
) -> None:
    """Refuse scans (C, I, J[, K]) whose images, of the smallest size, the last stage cannot take.

    ``slices``: whether a volume is shown as slices across each axis, or whole.

    Raises:
        FamilyError: ``family.scan_too_small``.
    """
    edges = scan_shape[1:]
    shown = list(itertools.combinations(edges, 2)) if slices else [edges]
    found = min(min(scaled(image, min(config.sizes))) for image in shown)
    last = config.stages_of(architecture)[-1]
    least = architecture.least_edge(last)
    if found < least:
        raise FamilyError(
            "family.scan_too_small",
            f"pretrained: an image of a scan of shape {scan_shape} is {found} pixels wide at "
            f"params.reading.sizes {min(config.sizes)}; {last} stages of this network need {least}",
            fix="choose larger params.reading.sizes, fewer params.reading.stages, another "
            "params.network, or scans that are less narrow in the prep config",
        )


def scaled(edges: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The edges of an image whose longer one is to have ``size`` pixels, in its proportions."""
    return tuple(max(1, round(edge * size / max(edges))) for edge in edges)


def resized(images: Tensor, edges: tuple[int, ...]) -> Tensor:
    """(B, C, I, J[, K]) -> (B, C, *edges), smoothed where pixels grow; unchanged where none do."""
    if tuple(images.shape[2:]) == edges:
        return images
    if images.ndim == 4:
        return functional.interpolate(images, edges, mode="bilinear", antialias=True)
    if max(edges) < max(images.shape[2:]):
        return functional.interpolate(images, edges, mode="area")
    return functional.interpolate(images, edges, mode="trilinear")
