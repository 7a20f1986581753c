"""Score against the time of a fit, as SVG text that stands by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pipeline.page import STYLE, svg
from pipeline.study.config import METRIC_WORDS
from pipeline.study.report.panels import look

_LETTER_PT: Final = 5.6  # width of a letter, about, and height of a line
_LINE_PT: Final = 11.5
_MARKER_PT: Final = 4.0  # half of a marker

Points = Sequence[Mapping[str, Any]]
Box = tuple[float, float, float, float]  # left, bottom, right, top, in points


def cost_against_score(
    costs: Mapping[str, float], points: Points, families: Sequence[str], metric: str
) -> str:
    """Mean test score at the largest size against the seconds that one fit took."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, max(3.1, 1 + 0.24 * len(families))), layout="constrained")
        axes = figure.add_subplot()
        ends = []
        by_family = {point["family"]: point for point in points if point["mean"] is not None}
        for number, family in enumerate(families):
            if family not in by_family or family not in costs:
                continue
            point, (colour, marker) = by_family[family], look(number)
            mean, seconds = point["mean"], max(costs[family], 1e-3)
            spread = [[max(0.0, mean - point["low"])], [max(0.0, point["high"] - mean)]]
            axes.errorbar(seconds, mean, yerr=spread, color=colour, marker=marker, capsize=3)
            ends.append((seconds, mean, family, colour))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
        axes.margins(x=0.12)
        if ends and (low := min(ends)[0]) * 10 > (high := max(ends)[0]):  # at least a decade
            middle = (low * high) ** 0.5
            axes.set_xlim(middle / 10**0.6, middle * 10**0.6)
        axes.set_xlabel("Time of one fit (log scale)")
        axes.set_ylabel(f"Test {METRIC_WORDS[metric]}")
        figure.canvas.draw()
        _labels_beside(axes, ends)
        return svg(figure, "costs")


def _labels_beside(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name each point beside it, or as near as names and points leave room."""
    box, per_point = axes.get_window_extent(), axes.figure.dpi / 72
    at = [(axes.transData.transform((x, y)) - box.p0) / per_point for x, y, *_ in ends]
    right_end = box.width / per_point
    taken = [(x - _MARKER_PT, y - _MARKER_PT, x + _MARKER_PT, y + _MARKER_PT) for x, y in at]
    for (x, y), (cost, mean, family, colour) in zip(at, ends, strict=True):
        width, to_left = _LETTER_PT * len(family), x > 0.6 * right_end
        places = [
            (side, shift)
            for shift in sorted(range(-6, 7), key=abs)
            for side in ((-1, 1) if to_left else (1, -1))
        ]
        for side, shift in places:
            left = x + 6 if side > 0 else x - 6 - width
            low = y - _LINE_PT / 2 + shift * _LINE_PT
            mine = (left, low, left + width, low + _LINE_PT)
            inside = left >= 0 and left + width <= right_end
            if inside and not any(_overlap(mine, other) for other in taken):
                break
        taken.append(mine)
        axes.annotate(
            family,
            (cost, mean),
            (6 * side, shift * _LINE_PT),
            textcoords="offset points",
            color=colour,
            ha="left" if side > 0 else "right",
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6} if shift else None,
        )


def _overlap(one: Box, other: Box) -> bool:
    beside = one[0] < other[2] and other[0] < one[2]
    return beside and one[1] < other[3] and other[1] < one[3]
