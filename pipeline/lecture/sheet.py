"""The panels of a claim's figure on one sheet: rows of them, one range for scores, one legend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.page import STYLE

_PANEL: Final = (4.2, 3.4)  # inches
_BESIDE: Final = 3  # panels in a row


@dataclass(frozen=True)
class Panel:
    """One of a figure.

    Attributes:
        title: Above it.
        y: What its upright axis tells.
        draw: Draws it; a legend that it makes is its own.
        is_score: Whether its range is to be that of all scores.
    """

    title: str
    y: str
    draw: Callable[[Axes], None]
    is_score: bool = False


def draw_sheet(groups: Sequence[Iterable[Panel]]) -> Figure | None:
    """Groups of panels in rows, under one legend; None where there is no panel."""
    panels = _laid_out([list(group) for group in groups])
    if not panels:
        return None
    rows, columns = len(panels), max(map(len, panels))
    with mpl.rc_context({**STYLE, "font.size": 9}):
        size = (max(columns, 1.6) * _PANEL[0], rows * _PANEL[1] + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        places = {grid[i, j]: panel for i, row in enumerate(panels) for j, panel in enumerate(row)}
        for axes, panel in places.items():
            panel.draw(axes)
            axes.set_title(panel.title, fontsize=10)
            axes.set_ylabel(panel.y)
        _share_range([axes for axes, panel in places.items() if panel.is_score])
        for axes in set(grid.flat) - places.keys():
            axes.axis("off")
        _add_legend(figure, [axes for axes in places if axes.get_legend() is None])
    return figure


def _laid_out(groups: Sequence[Sequence[Panel]]) -> list[list[Panel]]:
    """Rows of panels; a group that does not fit beside the others begins with a row of its own."""
    rows: list[list[Panel]] = []
    many = max(map(len, groups), default=0) > _BESIDE
    for group in groups:
        left = list(group)
        if rows and not many and len(rows[-1]) + len(left) <= _BESIDE:
            left = rows.pop() + left
        width = _BESIDE + many
        rows += [left[n : n + width] for n in range(0, len(left), width)]
    return rows


def _share_range(places: Sequence[Axes]) -> None:
    """One range for all scores: what looks higher is higher."""
    for axes in places:
        axes.set_ylim(
            min(one.get_ylim()[0] for one in places), max(one.get_ylim()[1] for one in places)
        )


def _add_legend(figure: Figure, places: Sequence[Axes]) -> None:
    handles: dict[str, Artist] = {}
    for axes in places:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            handles=list(handles.values()),
            labels=list(handles),
            loc="outside lower center",
            ncols=min(len(handles), 4),
            fontsize=9,
        )
