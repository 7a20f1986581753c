"""What a network holds and does: weights, multiply-adds and memory, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pipeline.dataset import Scans
from pipeline.families.base import Family
from pipeline.inspection import Inspection
from pipeline.page import PALETTE
from pipeline.probes.base import Probe, drawn, network_of
from pipeline.probes.pictures import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST: Final = 12  # layers that are drawn of each: those that matter


class Cost(Probe):
    """Parameters, multiply-adds and activations of the whole network for one scan.

    As ``medcurve inspect`` has them. A weight that is shared by all places is one parameter, and is
    used in a multiply-add at each of them. Quantities: ``parameters``, ``multiply_adds`` and
    ``activation_bytes`` (of the outputs of all layers, in float32). Any family with a network.
    """

    units: ClassVar[Mapping[str, str]] = {
        "parameters": "weights",
        "multiply_adds": "for one scan",
        "activation_bytes": "bytes for one scan",
    }
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    probe: Literal["cost"] = "cost"

    @property
    def quantities(self) -> tuple[str, ...]:
        """As all probes."""
        return tuple(self.units)

    def measure(self, family: Family[Any], scans: Scans, seed: int) -> dict[str, float]:
        """As all probes; no convolution is needed."""
        held = _held(family, scans, seed)
        return {
            "parameters": float(held.parameters),
            "multiply_adds": float(held.multiply_adds),
            "activation_bytes": float(held.activation_bytes),
        }

    def draw(self, family: Family[Any], scans: Scans, seed: int) -> Figure:
        """The layers that hold and do most."""
        held = _held(family, scans, seed)
        title = f"{family.name}: {held.parameters:,} parameters"
        with canvas(title, 10.8, 3.6) as figure:
            for number, (panel, (what, values)) in enumerate(
                zip(figure.subplots(1, 3), _by_layer(held).items(), strict=True)
            ):
                most = sorted(values, key=lambda row: -row[1])[:_LARGEST]
                rows = [row for row in values if row in most]
                panel.barh(range(len(rows)), [value for _, value in rows], color=PALETTE[number])
                panel.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7)
                panel.invert_yaxis()
                panel.set_title(what, fontsize=9)
        return figure


def _held(family: Family[Any], scans: Scans, seed: int) -> Inspection:
    network_of(family)  # refuses what has no network
    drawn(family, scans, 1, seed)  # refuses foreign scans
    return family.inspect()


def _by_layer(held: Inspection) -> dict[str, list[tuple[str, int]]]:
    """What is counted -> (layer, count) of each layer that counts at all."""
    counts = {
        "parameters": [(layer.name, layer.parameters) for layer in held.layers],
        "multiply-adds": [(layer.name, layer.multiply_adds) for layer in held.layers],
        "bytes of activations": [(layer.name, layer.activation_bytes) for layer in held.layers],
    }
    return {what: [row for row in rows if row[1]] for what, rows in counts.items()}
