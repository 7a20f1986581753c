"""Scans as images for a network that was trained on ImageNet, and its maps as features of scans."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal, cast

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from data_prep.config import Config
from pipeline.families.backbones import Architecture, Backbone, normalised
from pipeline.families.base import FamilyError
from pipeline.families.volumetric import to_volumetric

# What is worked on at a time without gradients: bounds the memory, and fits a processor's cache.
_CHUNK: Final = 8
_CHUNK_PIXELS: Final = 1 << 17
# Intensities that are black and white where a recipe gives a mean of 0 and a deviation of 1. Of
# (-2, 3), (-2, 4), (-3, 3) and each scan's own percentiles, it had the least left-out error on
# BreastMNIST's training scans.
_STANDARD_RANGE: Final = (-2.0, 3.0)
_DEVIATION_FLOOR: Final = 1e-6  # a constant map has a deviation of zero, where the root is steep

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


@dataclass(frozen=True)
class PooledMap:
    """A map that features are pooled from, and where to look at it.

    Attributes:
        layer: Name of the submodule of ``ScanFeatures`` that it passes through once a scan.
        axis: Across which the images are slabs; None: the scan is one image.
        stage: Of the network, from 1.
    """

    layer: str
    axis: int | None
    stage: int


class ScanFeatures(nn.Module):
    """(N, C, I, J[, K]) scans -> (N, D) features.

    A scan of one or three channels is a grey or a colour image; each of any other number of
    channels is an image of its own. D is (axes, for slices) x (sizes) x (images' channels) x
    (widths of the stages) x (kinds of pooling).

    Args:
        architecture: Which network.
        net: It, as far as the last stage that is taken; changed where it is made 3D.
        config: How scans are read.
        scan_shape: (C, I, J[, K]).

    Raises:
        FamilyError: ``family.scan_too_small``.

    Attributes:
        net: The network, for images (N, 3, I, J) or volumes (N, 3, I, J, K).
        image_shape: Of one image of the largest size: (3, I, J[, K]).
        n_features: D.
        chunk: Scans that go through at a time where no gradients are needed.
        attention: One for each axis, where slices are weighted.
        seen: The identity, by a name for each map; explanations look there.
        maps: All of them, a network's later stages last.
    """

    def __init__(
        self,
        architecture: Architecture,
        net: nn.Module,
        config: ReadingConfig,
        scan_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self._architecture = architecture
        self._config = config
        self._channels = 1 if scan_shape[0] in (1, 3) else scan_shape[0]
        self._wanted = config.stages_of(architecture)
        self._in_slices = len(scan_shape) == 4 and config.volume == "slices"
        if len(scan_shape) == 4 and config.volume != "slices":
            to_volumetric(net, config.volume)
        self.net = net
        _refuse_small(architecture, config, scan_shape, self._in_slices)
        edges = scan_shape[1:3] if self._in_slices else scan_shape[1:]
        self.image_shape = (3, *_scaled(edges, max(config.sizes)))
        axes = 3 if self._in_slices else 1
        width = self._width_of_an_image() * self._channels * len(config.sizes)
        self.n_features = width * axes
        images = axes * min(config.slices, max(scan_shape[1:])) if self._in_slices else 1
        pixels = images * self._channels * max(config.sizes) ** len(edges)
        self.chunk = min(_CHUNK, max(1, _CHUNK_PIXELS // pixels))
        learned = self._in_slices and config.slice_pooling == "attention"
        self.attention = nn.ModuleList(SliceAttention(width) for _ in range(axes * learned))
        self.maps = tuple(
            PooledMap(f"seen.{_map_name(axis, size, stage)}", axis, stage)
            for stage in self._wanted
            for axis in (range(3) if self._in_slices else (None,))
            for size in config.sizes
        )
        self.seen = nn.ModuleDict({m.layer.removeprefix("seen."): nn.Identity() for m in self.maps})

    def forward(self, x: Tensor) -> Tensor:
        """Features; without gradients in chunks of one size, the last filled up with zeros.

        With another size sums are rounded otherwise, and a scan's features would depend on how many
        come with it. What is traced to be exported takes scans in any number.
        """
        if torch.compiler.is_compiling():
            return self._looked(x)
        if torch.is_grad_enabled():
            return self._features(x)
        found = []
        for part in torch.split(x, self.chunk):
            filling = part.new_zeros((self.chunk - len(part), *part.shape[1:]))
            found.append(self._looked(torch.cat([part, filling]))[: len(part)])
        return torch.cat(found)

    def _looked(self, x: Tensor) -> Tensor:
        """Features of scans and of their mirror images, averaged."""
        mirrored = [self._features(x.flip(2 + axis)) for axis in self._config.flip_axes]
        return torch.stack([self._features(x), *mirrored]).mean(dim=0)

    def _features(self, x: Tensor) -> Tensor:
        if self._config.intensity == "auto":
            black, white = shown_range(x)
        else:
            black, white = x.new_tensor(self._config.intensity)
        shown = (x - black) / (white - black)
        if not self._in_slices:
            return self._of_images(shown, None)
        return torch.cat([self._of_slices(shown, axis) for axis in range(3)], dim=1)

    def _of_slices(self, x: Tensor, axis: int) -> Tensor:
        """(N, C, I, J, K), black 0 and white 1 -> (N, width) from slices across ``axis``."""
        flat = slabs(x, axis, self._config.slices).movedim(2 + axis, 1)
        features = self._of_images(flat.flatten(0, 1), axis).reshape(*flat.shape[:2], -1)
        if not len(self.attention):
            return features.mean(dim=1)
        pooled: Tensor = self.attention[axis](features)
        return pooled

    def _of_images(self, x: Tensor, axis: int | None) -> Tensor:
        """(B, C, I, J[, K]), black 0 and white 1 -> (B, width)."""
        images = x if self._channels == 1 else x.flatten(0, 1).unsqueeze(1)
        found = [
            self._at(size, images, axis).reshape(x.shape[0], -1) for size in self._config.sizes
        ]
        return torch.cat(found, dim=1)

    def _at(self, size: int, images: Tensor, axis: int | None) -> Tensor:
        """(B, 1 or 3, I, J[, K]) -> what is pooled of the maps of images of that size."""
        edges = tuple(images.shape[2:])
        images = _resized(images, _scaled(edges, size))
        images = normalised(self._architecture, images.expand(-1, 3, *images.shape[2:]))
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        maps = cast("Backbone", self.net).stages(images)
        pooled = [
            _POOL[kind](seen.flatten(2).float())
            for number, found in enumerate(itertools.islice(maps, self._wanted[-1]), start=1)
            if number in self._wanted
            for seen in (self.seen[_map_name(axis, size, number)](found),)
            for kind in self._config.pooling
        ]
        return torch.cat(pooled, dim=1)

    def _width_of_an_image(self) -> int:
        was_training = self.net.training
        self.net.eval()
        with torch.no_grad():
            blank = torch.zeros((1, 3) + (32,) * (len(self.image_shape) - 1))
            widths = [found.shape[1] for found in cast("Backbone", self.net).stages(blank)]
        self.net.train(was_training)
        return len(self._config.pooling) * sum(widths[number - 1] for number in self._wanted)


class SliceAttention(nn.Module):
    """(N, slices, D) -> (N, D) with learned weights (Ilse et al. 2018, gated attention)."""

    def __init__(self, width: int, inner: int = 64) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.content = nn.Linear(width, inner)
        self.gate = nn.Linear(width, inner)
        self.weigh = nn.Linear(inner, 1)
        nn.init.zeros_(self.weigh.weight)  # the mean, to begin with

    def forward(self, x: Tensor) -> Tensor:
        """Features of a batch."""
        seen = self.norm(x.flatten(0, 1)).reshape(x.shape)
        weight = self.weigh(self.content(seen).tanh() * self.gate(seen).sigmoid()).softmax(dim=1)
        pooled: Tensor = (weight * x).sum(dim=1)
        return pooled


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


def _refuse_small(
    architecture: Architecture, config: ReadingConfig, scan_shape: tuple[int, ...], slices: bool
) -> None:
    edges = scan_shape[1:]
    shown = list(itertools.combinations(edges, 2)) if slices else [edges]
    found = min(min(_scaled(image, min(config.sizes))) for image in shown)
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


def _map_name(axis: int | None, size: int, stage: int) -> str:
    return f"{'whole' if axis is None else f'across{axis}'}_{size}_{stage}"


def _scaled(edges: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(max(1, round(edge * size / max(edges))) for edge in edges)


def _resized(images: Tensor, edges: tuple[int, ...]) -> Tensor:
    if tuple(images.shape[2:]) == edges:
        return images
    if images.ndim == 4:
        return functional.interpolate(images, edges, mode="bilinear", antialias=True)
    if max(edges) < max(images.shape[2:]):
        return functional.interpolate(images, edges, mode="area")
    return functional.interpolate(images, edges, mode="trilinear")


_POOL: Final[dict[Pooling, Callable[[Tensor], Tensor]]] = {
    "average": lambda places: places.mean(dim=2),
    "deviation": lambda places: (places.var(dim=2, correction=0) + _DEVIATION_FLOOR).sqrt(),
    "max": lambda places: places.amax(dim=2),
}
