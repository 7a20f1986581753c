"""The figures of a report, as SVG text that stands by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from pipeline.page import MARKERS, PALETTE, STYLE, svg
from pipeline.study.config import METRIC_WORDS

_LABEL_GAP: Final = 0.052  # least distance of two labels, as a share of the axis' height

Points = Sequence[Mapping[str, Any]]


def learning_curves(
    points: Points, families: Sequence[str], metric: str, targets: Sequence[float] = ()
) -> str:
    """Mean test score against patients, one curve a family, with the interval as a ribbon."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        ends = []
        for number, family in enumerate(families):
            curve = [
                point
                for point in points
                if point["family"] == family
                and point["metric"] == metric
                and point["split"] == "test"
                and point["mean"] is not None
            ]
            if curve:
                _ribbon(axes, curve, number)
                ends.append((curve[-1]["size"], curve[-1]["mean"], family, PALETTE[number % 7]))
        for target in targets:
            axes.axhline(target, color="#666666", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        _patients_axis(axes, sorted({point["size"] for point in points}))
        axes.set_ylabel(f"Test {METRIC_WORDS[metric]}")
        _direct_labels(axes, ends)
        return svg(figure, f"curves-{metric}")


def cost_against_score(
    costs: Mapping[str, float], points: Points, families: Sequence[str], metric: str
) -> str:
    """Mean test score at the largest size against the seconds that one fit took."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.1), layout="constrained")
        axes = figure.add_subplot()
        ends = []
        by_family = {point["family"]: point for point in points if point["mean"] is not None}
        for number, family in enumerate(families):
            if family not in by_family or family not in costs:
                continue
            point, colour = by_family[family], PALETTE[number % 7]
            mean, seconds = point["mean"], max(costs[family], 1e-3)
            spread = [[max(0.0, mean - point["low"])], [max(0.0, point["high"] - mean)]]
            axes.errorbar(
                seconds, mean, yerr=spread, color=colour, marker=MARKERS[number % 7], capsize=3
            )
            ends.append((seconds, point["high"], family, colour))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
        axes.margins(x=0.3)
        if len(ends) == 1:
            axes.set_xlim(ends[0][0] / 3, ends[0][0] * 3)
        axes.set_xlabel("Time of one fit (log scale)")
        axes.set_ylabel(f"Test {METRIC_WORDS[metric]}")
        for seconds, high, family, colour in ends:
            place = axes.annotate(family, (seconds, high), (0, 5), textcoords="offset points")
            place.set(color=colour, horizontalalignment="center")
        return svg(figure, "costs")


def _ribbon(axes: Axes, curve: Points, number: int) -> None:
    sizes = [point["size"] for point in curve]
    colour = PALETTE[number % len(PALETTE)]
    axes.fill_between(
        sizes,
        [point["low"] for point in curve],
        [point["high"] for point in curve],
        color=colour,
        alpha=0.13,
        linewidth=0,
    )
    axes.plot(
        sizes,
        [point["mean"] for point in curve],
        color=colour,
        marker=MARKERS[number % len(MARKERS)],
        markersize=5.5,
        linewidth=2,
    )


def _patients_axis(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(map(float, sizes))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_xlabel("Training patients (log scale)")


def _direct_labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name each curve at its right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    height = None
    for _, mean, family, colour in sorted(ends, key=lambda end: end[1]):
        wanted = (mean - low) / (high - low)
        height = wanted if height is None else max(wanted, height + _LABEL_GAP)
        axes.text(
            1.02, height, family, color=colour, transform=axes.transAxes, va="center", clip_on=False
        )
