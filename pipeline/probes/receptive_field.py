"""How far a network sees: by its geometry, and by where gradients arrive.

The theoretical field follows from kernels, strides and dilations (Dumoulin and Visin 2016, "A guide
to convolution arithmetic for deep learning"; Araujo et al. 2019, "Computing receptive fields of
convolutional neural networks"). The support is the block of voxels that any gradient of the central
output reaches: for convolutions it must be the field, for max pooling at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.inspection import Layer, edge_that_matters
from pipeline.probes.base import Probe, ProbeError, Tap, Where, drawn, tap
from pipeline.probes.pictures import canvas, colour_bar, frame, plane, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Voxels of an image that a network's gradients are taken of: (2D, 3D edge).
_MOST_EDGE: Final = {2: 768, 3: 64}
_LEAST_SHOWN: Final = 1e-8  # share of the largest gradient


class ReceptiveField(Probe):
    """The field of a convolution, counted and measured.

    Gradients are taken on noise that is large enough to hold the field, whatever the scans' size.
    Quantities, along the axis where the field is largest: ``field`` (theoretical, voxels),
    ``support`` (edge of the smallest block that holds all gradients that are not 0; equal to
    ``field`` for convolutions), ``measured_field`` (edge of the region that matters, as
    ``medcurve inspect`` defines it).

    Attributes:
        where: Which convolution.
        images: Of noise: a rectifier that is shut on one may be open on the next.
    """

    units: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("field", "support", "measured_field"), "voxels along an axis"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    probe: Literal["receptive_field"] = "receptive_field"
    where: Where = "last"
    images: PositiveInt = 4

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes."""
        return tuple(self.units)

    def check(self, family: Family[Any]) -> None:
        """As all probes; also ``probe.field_too_large``."""
        _edges(tap(family, self.where).layer)

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; also ``probe.field_too_large``."""
        drawn(family, scans, 1, seed)  # refuses foreign scans
        found = self._measured(family, seed)
        return {
            "field": found.field[found.axis],
            "support": float(found.support[found.axis]),
            "measured_field": edge_that_matters(found.influence),
        }

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """Gradients of the central output, on a linear and a logarithmic scale, in their field."""
        from matplotlib.colors import LogNorm

        drawn(family, scans, 1, seed)
        found = self._measured(family, seed)
        influence = plane(found.influence) / float(found.influence.max())
        title = f"{family.name}: what the central output of {found.layer} depends on"
        with canvas(title, 8.2, 4.0) as figure:
            linear, logarithmic = figure.subplots(1, 2)
            edge = f"matters: {edge_that_matters(found.influence):.1f} voxels wide"
            shown = show(linear, influence, edge, cmap="magma", vmin=0, vmax=1)
            colour_bar(figure, shown, linear)
            least = float(influence[influence > 0].min())
            scale = LogNorm(max(least, _LEAST_SHOWN), 1)
            field, support = found.field[found.axis], found.support[found.axis]
            name = f"field {field:.0f} (dashed), any gradient {support} voxels wide"
            shown = show(logarithmic, influence, name, cmap="magma", norm=scale)
            colour_bar(figure, shown, logarithmic)
            for panel in (linear, logarithmic):
                frame(panel, found.corner[:2], found.field[:2])
        return figure

    def _measured(self, family: Family[Any], seed: int) -> _Measured:
        tapped = tap(family, self.where)
        layer = tapped.layer
        edges = _edges(layer)
        generator = torch.Generator().manual_seed(seed)
        squares = torch.zeros(edges, dtype=torch.float64)
        for _ in range(self.images):
            squares += _squared_gradient(tapped, (family.scan_shape[0], *edges), generator)
        reached = squares > 0
        along = [reached.movedim(axis, 0).flatten(1).any(dim=1) for axis in range(reached.ndim)]
        blocks = [(int(a.nonzero()[0]), int(a.nonzero()[-1]) + 1) for a in along]
        axis = int(np.argmax(layer.receptive_field))
        corner = tuple(
            (low + high - field) / 2
            for (low, high), field in zip(blocks, layer.receptive_field, strict=True)
        )
        support = tuple(high - low for low, high in blocks)
        return _Measured(layer.name, layer.receptive_field, support, corner, axis, squares.sqrt())


@dataclass(frozen=True, eq=False)
class _Measured:
    """What gradients say of one convolution.

    Attributes:
        layer: Its name.
        field: Theoretical, along each axis.
        support: Edges of the block that holds all gradients.
        corner: First voxel along each axis of the field, laid over the middle of the support.
        axis: Along which the field is largest.
        influence: (I, J[, K]) root of the sum of squared gradients.
    """

    layer: str
    field: tuple[float, ...]
    support: tuple[int, ...]
    corner: tuple[float, ...]
    axis: int
    influence: Tensor


def _edges(layer: Layer) -> tuple[int, ...]:
    """Of an image that holds the central output's field wherever strides put it."""
    edges = tuple(
        int(field) + 4 * jump for field, jump in zip(layer.receptive_field, layer.jump, strict=True)
    )
    most = _MOST_EDGE[len(edges)]
    if max(edges) > most:
        raise ProbeError(
            "probe.field_too_large",
            f"receptive_field: {layer.name} sees {max(layer.receptive_field):.0f} voxels; "
            f"gradients are taken of images of at most {most} along an axis",
            fix="set where: first_resolution; `medcurve inspect` shows the theoretical field",
        )
    return edges


def _squared_gradient(tapped: Tap, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """(I, J[, K]) of the central output, its channels weighed at random lest they cancel."""
    x = torch.randn((1, *shape), generator=generator, dtype=torch.float64, requires_grad=True)
    maps = tapped.maps(x)
    middle = np.ravel_multi_index([edge // 2 for edge in maps.shape[2:]], maps.shape[2:])
    central = maps[0].flatten(1)[:, int(middle)]
    weights = torch.randn(central.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((central * weights).sum(), x)
    return gradient[0].square().sum(dim=0)
