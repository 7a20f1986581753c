"""How often an answer changes where a scan moves a little: nothing that was asked about changes.

Zhang 2019, "Making convolutional networks shift-invariant again", calls the share of answers that
stay the same consistency. Pooling is said to give invariance to small shifts; it is one that can be
measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.page import PALETTE
from pipeline.probes.base import Probe, drawn
from pipeline.probes.pictures import canvas, scan_plane, show
from pipeline.shifting import shift_batch
from pipeline.shifts import Shift

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Steadiness(Probe):
    """Answers to scans shifted by 1 to ``up_to`` voxels, beside those to the same unshifted.

    Each scan is shifted along each axis in both directions; what comes in from beyond the border
    repeats the outermost voxels. Quantities, means over scans and directions: ``flips at 1`` and so
    on (share whose predicted class, or any label, is another) and ``change at 1`` and so on
    (largest change of a probability). Any family that predicts.

    Attributes:
        up_to: Voxels.
        scans: How many.
    """

    units: ClassVar[Mapping[str, str]] = {
        "flips": "share of scans with another answer",
        "change": "mean change of a probability",
    }
    amount: ClassVar[str] = "shift, voxels"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    probe: Literal["steadiness"] = "steadiness"
    up_to: PositiveInt = 2
    scans: PositiveInt = 128

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes."""
        shifts = range(1, self.up_to + 1)
        return tuple(f"{what} at {voxels}" for voxels in shifts for what in self.units)

    def check(self, family: Family[Any]) -> None:
        """Any family predicts."""

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; no network is needed."""
        some = drawn(family, scans, self.scans, seed)
        before = _told(family, some)
        found = {}
        for voxels in range(1, self.up_to + 1):
            one = _compared(family, some, before, voxels)
            found[f"flips at {voxels}"] = float(one.flipped.mean())
            found[f"change at {voxels}"] = float(one.change.mean())
        return found

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """The scan whose answer changes most, before and after; changes against the shift."""
        some = drawn(family, scans, self.scans, seed)
        before = _told(family, some)
        found = [_compared(family, some, before, n) for n in range(1, self.up_to + 1)]
        direction, number = np.unravel_index(found[-1].change.argmax(), found[-1].change.shape)
        shift = _directions(some, self.up_to)[direction]
        moved = _shifted(some.take(np.array([number])), shift).x[0]
        change = float(found[-1].change[direction, number])
        with canvas(f"{family.name}: how steady are its answers?", 9.4, 3.4) as figure:
            panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.5))
            show(panels[0], scan_plane(some.x[number]), "scan")
            title = f"by {abs(shift.amount):g} voxels:\na probability changes by {change:.2f}"
            show(panels[1], scan_plane(moved), title)
            places = range(1, self.up_to + 1)
            shares = {
                "answers that flip": [one.flipped.mean() for one in found],
                "mean change": [one.change.mean() for one in found],
            }
            for colour, (name, values) in zip(PALETTE, shares.items(), strict=False):
                panels[2].plot(places, values, marker="o", color=colour, label=name)
            panels[2].set_xticks(list(places))
            panels[2].set_ylim(bottom=0)
            panels[2].set_xlabel("voxels")
            panels[2].legend(frameon=False)
        return figure


@dataclass(frozen=True, eq=False)
class _Compared:
    """Answers to scans shifted by some voxels, beside those to unshifted ones.

    Attributes:
        flipped: (directions, N) bool: another answer.
        change: (directions, N) largest change of a probability.
    """

    flipped: NDArray[np.bool_]
    change: NDArray[np.float64]


def _compared(
    family: Family[Any], scans: Scans, before: NDArray[np.float64], voxels: int
) -> _Compared:
    after = np.stack(
        [_told(family, _shifted(scans, shift)) for shift in _directions(scans, voxels)]
    )
    flipped = (_decided(family, after) != _decided(family, before)).any(axis=-1)
    return _Compared(flipped, np.abs(after - before).max(axis=-1))


def _directions(scans: Scans, voxels: int) -> list[Shift]:
    """Along each axis, both ways."""
    axes = range(len(scans.scan_shape) - 1)
    return [
        Shift(kind="shift", amount=sign * voxels, axes=(axis,)) for axis in axes for sign in (1, -1)
    ]


def _shifted(scans: Scans, shift: Shift) -> Scans:
    return scans.with_x(torch.from_numpy(shift_batch(scans.x.numpy(), shift)))


def _told(family: Family[Any], scans: Scans) -> NDArray[np.float64]:
    """(N, n_classes) probabilities."""
    return family.predict_proba(family.prepare(scans.x))


def _decided(family: Family[Any], probability: NDArray[np.float64]) -> NDArray[np.int64]:
    """(..., 1) most probable class, or (..., L) labels, of (..., n_classes)."""
    if family.task.is_multi_label:
        return (probability > 0.5).astype(np.int64)
    classes: NDArray[np.int64] = probability.argmax(axis=-1)[..., None]
    return classes
