"""A network drawn layer by layer: what is left of the scan, what it costs, how far it sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import ScalarFormatter

from pipeline.inspection import Layer
from pipeline.page import PALETTE, STYLE

_COLOURS: Final = {
    "convolution": PALETTE[0],
    "max pool": PALETTE[1],
    "average pool": PALETTE[2],
    "linear": PALETTE[3],
}
_MOST_NAMED: Final = 40  # layers whose names still stand side by side
_LONGEST_NAME: Final = 28


def draw_network(title: str, layers: Sequence[Layer], scan_shape: tuple[int, ...]) -> Figure:
    """Three panels over the layers in the order in which they run (norms are left out).

    Blocks as high as the longest edge of the output, with the number of channels on top; the
    share of each layer in parameters and multiply-adds; theoretical and measured receptive field,
    with the scan's edge as a line.
    """
    shown = [layer for layer in layers if layer.kind != "norm"]
    with mpl.rc_context({**STYLE, "font.size": 9, "axes.axisbelow": True}):
        width = min(16.0, max(7.0, 1.5 + 0.34 * len(shown)))
        figure = Figure(figsize=(width, 8.5), layout="constrained")
        figure.suptitle(title, fontsize=11)
        blocks, costs, fields = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
        _blocks(blocks, shown)
        _costs(costs, layers, shown)
        _fields(fields, shown, max(scan_shape[1:]))
        named = len(shown) <= _MOST_NAMED
        ticks = range(len(shown)) if named else range(0, len(shown), len(shown) // 20)
        fields.set_xticks(
            list(ticks), [_short(shown[i].name) for i in ticks], rotation=90, fontsize=7
        )
        fields.set_xlim(-0.8, len(shown) - 0.2)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _edge(layer: Layer) -> int:
    return max(layer.shape[1:], default=1)


def _blocks(panel: mpl.axes.Axes, shown: Sequence[Layer]) -> None:
    highest = max(_edge(layer) for layer in shown)
    last = 0
    for number, layer in enumerate(shown):
        edge = _edge(layer)
        corner = (number - 0.38, 0)
        panel.add_patch(Rectangle(corner, 0.76, edge, color=_COLOURS[layer.kind], lw=0))
        if layer.shape[0] != last and len(shown) <= _MOST_NAMED:
            panel.text(number, edge + 0.02 * highest, f"{layer.shape[0]}", ha="center")
        last = layer.shape[0]
    panel.set_ylim(0, 1.18 * highest)
    panel.set_ylabel("edge of the output (voxels)\nchannels above, where they change")
    kinds = dict.fromkeys(layer.kind for layer in shown)
    handles = [Patch(color=_COLOURS[kind], label=kind) for kind in kinds]
    panel.legend(handles=handles, ncols=len(handles), loc="upper right", frameon=False)


def _costs(panel: mpl.axes.Axes, layers: Sequence[Layer], shown: Sequence[Layer]) -> None:
    places = np.arange(len(shown))
    for offset, colour, what, total, values in (
        (
            -0.2,
            PALETTE[0],
            "parameters",
            sum(x.parameters for x in layers),
            [x.parameters for x in shown],
        ),
        (
            0.2,
            PALETTE[1],
            "multiply-adds",
            sum(x.multiply_adds for x in layers),
            [x.multiply_adds for x in shown],
        ),
    ):
        share = 100 * np.array(values) / max(total, 1)
        panel.bar(places + offset, share, 0.4, color=colour, label=f"{what}: {total:,} in all")
    panel.set_ylabel("share of the network (%)")
    panel.legend(loc="upper left", frameon=False)


def _fields(panel: mpl.axes.Axes, shown: Sequence[Layer], edge: int) -> None:
    finite = [(i, max(x.receptive_field)) for i, x in enumerate(shown) if _is_finite(x)]
    measured = [(i, x.measured_field) for i, x in enumerate(shown) if x.measured_field is not None]
    for points, colour, marker, label in (
        (finite, PALETTE[0], "o", "theoretical (beyond its last point: the whole scan)"),
        (measured, PALETTE[1], "s", "measured with first weights"),
    ):
        if points:
            panel.plot(
                *zip(*points, strict=True), color=colour, marker=marker, ms=3, lw=1, label=label
            )
    panel.axhline(edge, color="#444444", lw=0.8, ls="--", label=f"the scan's longest edge: {edge}")
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_formatter(ScalarFormatter())
    panel.set_ylabel("receptive field (voxels)")
    panel.legend(loc="lower right", frameon=False)


def _is_finite(layer: Layer) -> bool:
    return all(map(math.isfinite, layer.receptive_field))
