"""The maps of a network that was trained on ImageNet as features of scans."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn

from pipeline.families.backbones import Architecture, Backbone, normalised
from pipeline.families.scan_images import (
    Pooling,
    ReadingConfig,
    refuse_small,
    resized,
    scaled,
    shown_range,
    slabs,
)
from pipeline.families.volumetric import to_volumetric

# What is worked on at a time without gradients: bounds the memory, and fits a processor's cache.
_CHUNK: Final = 8
_CHUNK_PIXELS: Final = 1 << 17
_DEVIATION_FLOOR: Final = 1e-6  # a constant map has a deviation of zero, where the root is steep


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
        refuse_small(architecture, config, scan_shape, self._in_slices)
        edges = scan_shape[1:3] if self._in_slices else scan_shape[1:]
        self.image_shape = (3, *scaled(edges, max(config.sizes)))
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
        images = resized(images, scaled(edges, size))
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


def _map_name(axis: int | None, size: int, stage: int) -> str:
    return f"{'whole' if axis is None else f'across{axis}'}_{size}_{stage}"


_POOL: Final[dict[Pooling, Callable[[Tensor], Tensor]]] = {
    "average": lambda places: places.mean(dim=2),
    "deviation": lambda places: (places.var(dim=2, correction=0) + _DEVIATION_FLOOR).sqrt(),
    "max": lambda places: places.amax(dim=2),
}
