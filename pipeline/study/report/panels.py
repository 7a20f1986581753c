"""One drawing for each family: side by side on a page, and together in one file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.page import MARKERS, PALETTE, STYLE, svg

Draw = Callable[[Axes, str], None]

_COLUMNS: Final = 3
# A panel is as wide as a phone leaves to two of them: its text must be read at 0.8 of its size.
_SMALL: Final = {**STYLE, "font.size": 9.5, "axes.titlesize": 10, "axes.titleweight": "bold"}


def look(number: int) -> tuple[str, str]:
    """Colour and marker of a family, by its place in the study."""
    return PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]


def each(
    draw: Draw, families: Sequence[str], name: str, size: tuple[float, float]
) -> tuple[str, ...]:
    """An SVG for each family, titled by it.

    Args:
        draw: Draws one family.
        families: Which.
        name: Of the figure; ids begin with it.
        size: Width and height of one, in inches.
    """
    drawings = []
    with mpl.rc_context(_SMALL):
        for number, family in enumerate(families):
            figure = Figure(figsize=size, layout="constrained")
            axes = figure.add_subplot()
            draw(axes, family)
            axes.set_title(family, loc="left")
            drawings.append(svg(figure, f"{name}-{number}"))
    return tuple(drawings)


def together(
    draw: Draw,
    families: Sequence[str],
    name: str,
    size: tuple[float, float],
    legend: Sequence[Artist] = (),
) -> str:
    """The same drawings in one SVG, with a legend; arguments as for ``each``."""
    rows = math.ceil(len(families) / _COLUMNS)
    columns = min(_COLUMNS, len(families))
    with mpl.rc_context(_SMALL):
        width, height = size[0] * columns, size[1] * rows + (0.4 if legend else 0)
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, family in zip(grid, families, strict=False):
            draw(axes, family)
            axes.set_title(family, loc="left")
        for axes in grid[len(families) :]:
            axes.set_axis_off()
        if legend:
            figure.legend(handles=list(legend), loc="outside lower center", ncols=2, frameon=False)
        return svg(figure, name)


def lines(families: Sequence[str]) -> list[Line2D]:
    """A legend's entries for families, for a figure that is a file of its own."""
    return [
        Line2D([], [], color=look(at)[0], marker=look(at)[1], label=name)
        for at, name in enumerate(families)
    ]
