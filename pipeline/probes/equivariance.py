"""Do a network's feature maps move with the scan? Inside they must; at the border padding shows.

A convolution commutes with translations (LeCun et al. 1989; Bronstein et al. 2021, "Geometric deep
learning", section 3), but only where its window stays within the scan: what is made up beyond the
border does not move along. The scan is shifted cyclically, so that with circular padding there is
no border at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.page import PALETTE
from pipeline.probes.base import Probe, ProbeError, Tap, Where, drawn, tap
from pipeline.probes.pictures import canvas, colour_bar, frame, plane, scan_plane, show, show_signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST: float = 1e-17  # error that is still drawn on a logarithmic axis


class Equivariance(Probe):
    """Feature maps of shifted scans against shifted feature maps of scans.

    An error is the root mean square over channels of their difference at a place, divided by that
    of the whole map. A place is inside where it is farther than the radius of the receptive field
    from the scan's border along the axis of the shift, before and after it; else at the border.
    Quantities: ``inside_error`` and ``border_error`` (largest), ``inside_mean`` and
    ``border_mean``, over scans, axes and shifts, and ``border_mean at 1`` to ``at up_to``; a border
    error is 0 where no place is at the border (``valid``).

    Attributes:
        where: Which convolution: by default the one with the widest field before pooling.
        up_to: Shifts by 1 to so many voxels, times the voxels from one place of the map to the
            next (the network's total stride): between places there is nothing to compare with.
        scans: How many.
    """

    units: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("inside_error", "inside_mean", "border_error", "border_mean"),
        "share of the map's root mean square",
    )
    amount: ClassVar[str] = "shift, places of the map"
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    probe: Literal["equivariance"] = "equivariance"
    where: Where = "first_resolution"
    up_to: PositiveInt = 8
    scans: PositiveInt = 8

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes."""
        return (*self.units, *(f"border_mean at {n}" for n in range(1, self.up_to + 1)))

    def check(self, family: Family[Any]) -> None:
        """As all probes."""
        tap(family, self.where)

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; also ``probe.scan_too_small`` where no place is inside."""
        x = drawn(family, scans, self.scans, seed).x
        tapped = tap(family, self.where)
        found = [
            _compare(tapped, x, axis, places)
            for places in range(1, self.up_to + 1)
            for axis in range(x.ndim - 2)
        ]
        inside = np.concatenate([one.errors[:, one.inside].ravel() for one in found])
        border = [one.errors[:, ~one.inside].ravel() for one in found]
        everywhere = np.concatenate(border)
        values = {
            "inside_error": float(inside.max()),
            "inside_mean": float(inside.mean()),
            "border_error": float(everywhere.max(initial=0)),
            "border_mean": _mean(everywhere),
        }
        for places in range(1, self.up_to + 1):
            of_shift = [part for part, one in zip(border, found, strict=True) if one.by == places]
            values[f"border_mean at {places}"] = _mean(np.concatenate(of_shift))
        return values

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """Scan, its map, error of the map for the largest shift, error against the border."""
        x = drawn(family, scans, self.scans, seed).x
        tapped = tap(family, self.where)
        found = [_compare(tapped, x, axis, self.up_to) for axis in range(2)]
        maps = tapped.maps(x[:1])[0].detach()
        loudest = int(maps.flatten(1).square().mean(dim=1).argmax())
        title = f"{family.name}: do the maps of {tapped.layer.name} move with the scan?"
        with canvas(title, 10.8, 3.5) as figure:
            panels = figure.subplots(1, 4, width_ratios=(1, 1, 1.15, 1.45))
            show(panels[0], scan_plane(x[0]), "scan")
            show_signed(panels[1], plane(maps[loudest]), f"its map, channel {loudest}")
            self._draw_errors(figure, panels[2], found[0])
            _draw_profile(panels[3], found, tapped)
        return figure

    def _draw_errors(self, figure: Figure, panel: Any, one: _Comparison) -> None:
        errors = torch.from_numpy(one.errors.mean(axis=0)).movedim(0, one.axis)
        title = f"relative error, shifted\nby {one.voxels} voxels downwards"
        shown = show(panel, plane(errors), title, cmap="magma", vmin=0)
        rows = np.flatnonzero(one.inside)
        frame(panel, (rows[0], 0), (len(rows), errors.shape[1]))
        colour_bar(figure, shown, panel)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """One shift along one axis.

    Attributes:
        errors: (N, places along the axis, places along the others) relative errors.
        inside: (places along the axis,) bool.
        distance: (places along the axis,) voxels from the middle of a place's window to the border,
            the nearer of before and after the shift.
        axis, by, voxels: Of the shift: axis, places of the map, voxels of the scan.
    """

    errors: NDArray[np.float64]
    inside: NDArray[np.bool_]
    distance: NDArray[np.float64]
    axis: int
    by: int
    voxels: int


def _compare(tapped: Tap, x: Tensor, axis: int, by: int) -> _Comparison:
    jump = tapped.layer.jump[axis]
    with torch.no_grad():
        before = tapped.maps(x)
        after = tapped.maps(x.roll(by * jump, dims=axis + 2))
    places, edge = before.shape[axis + 2], x.shape[axis + 2]
    scale = before.flatten(1).square().mean(dim=1).sqrt().clamp(min=torch.finfo(x.dtype).tiny)
    overlap = max(places - by, 0)
    moved = after.narrow(axis + 2, places - overlap, overlap)
    difference = (moved - before.narrow(axis + 2, 0, overlap)).square().mean(dim=1).sqrt()
    errors = difference / scale.view((-1,) + (1,) * (x.ndim - 2))
    # Paddings are the same on both sides (but for a voxel, where strides leave a rest), so the map
    # lies over the middle of the scan.
    middle = (edge - 1) / 2 + jump * (np.arange(places) - (places - 1) / 2)
    to_border = np.minimum(middle, edge - 1 - middle)
    distance = np.minimum(to_border[places - overlap :], to_border[:overlap])
    radius = (tapped.layer.receptive_field[axis] - 1) / 2
    inside = distance >= radius + jump - 1
    if not inside.any():
        raise ProbeError(
            "probe.scan_too_small",
            f"equivariance: after a shift by {by * jump} voxels no place of {tapped.layer.name} is "
            f"farther from the border than its radius of {radius:.0f} voxels; the scan has {edge}",
            fix="set a smaller up_to, where: first_resolution, or probe larger scans",
        )
    along = errors.movedim(axis + 1, 1).numpy()
    return _Comparison(along, inside, distance, axis, by, by * jump)


def _mean(errors: NDArray[np.float64]) -> float:
    return float(errors.mean()) if errors.size else 0.0


def _draw_profile(panel: Any, found: list[_Comparison], tapped: Tap) -> None:
    for one, colour, name in zip(found, PALETTE, ("downwards", "to the right"), strict=False):
        distances = np.unique(one.distance)
        worst = [one.errors[:, one.distance == d].max() for d in distances]
        panel.semilogy(
            distances, np.maximum(worst, _LEAST), color=colour, marker="o", ms=3, lw=1, label=name
        )
    radius = (tapped.layer.receptive_field[0] - 1) / 2
    panel.axvline(radius, color="#444444", lw=0.8, ls="--", label=f"radius: {radius:.0f} voxels")
    panel.set_xlabel("voxels to the border")
    panel.set_title("largest error by distance", fontsize=9)
    panel.legend(frameon=False, fontsize=8)
