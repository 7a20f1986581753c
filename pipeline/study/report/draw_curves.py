"""Score against patients, as SVG text that stands by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pipeline.metrics import higher_is_better
from pipeline.page import STYLE, svg
from pipeline.study.config import METRIC_WORDS
from pipeline.study.report.panels import Draw, look

_LABEL_GAP_IN: Final = 0.165  # least distance of two labels
_MANY: Final = 4  # more ribbons than this hide each other
_DASHES: Final[Any] = {"color": "#666666", "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1}

Points = Sequence[Mapping[str, Any]]


def learning_curves(
    points: Points,
    families: Sequence[str],
    metric: str,
    targets: Sequence[float] = (),
    laws: Points = (),
    ahead: Points = (),
    band: Points = (),
) -> str:
    """Mean test score against patients, one colour a family, with the interval as a ribbon.

    Args:
        points: Of ``results.json``.
        families: Which, in order.
        metric: Which score.
        targets: Scores to mark.
        laws: Fitted laws; a family that has one is drawn as its law through its points, any other
            as the line from point to point.
        ahead: Forecasts beyond the largest size; the law goes on to them as a dashed line.
        band: Forecasts from the largest size to there, for the ribbon around that line.
    """
    by_law = {law["family"]: law for law in laws}
    by_ahead = {one["family"]: one for one in ahead}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, max(3.6, 1 + 0.26 * len(families))), layout="constrained")
        axes = figure.add_subplot()
        ends = []
        for number, family in enumerate(families):
            curve = _curve(points, family, metric)
            if not curve:
                continue
            _ribbon(axes, curve, number, 0.13 if len(families) <= _MANY else 0.07)
            end = (curve[-1]["size"], curve[-1]["mean"])
            if family in by_law:
                end = _law(axes, by_law[family], by_ahead.get(family), metric, number)
                _forecast_ribbon(
                    axes, band, family, number, 0.1 if len(families) <= _MANY else 0.05
                )
            else:
                _line(axes, curve, number)
            ends.append((*end, family, look(number)[0]))
        _targets(axes, targets)
        sizes = sorted({point["size"] for point in points})
        _patients_axis(axes, sorted({*sizes, *(one["size"] for one in by_ahead.values())}))
        axes.set_ylabel(f"Test {METRIC_WORDS[metric]}")
        figure.canvas.draw()  # the layout decides how much room labels have
        _direct_labels(axes, ends)
        return svg(figure, f"curves-{metric}")


def scores_at_one_size(
    points: Points, families: Sequence[str], metric: str, targets: Sequence[float] = ()
) -> str:
    """Mean test score of each family with its interval, for a study of one size."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 1.0 + 0.32 * len(families)), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="x", color="#e6e6e6")
        for number, family in enumerate(families):
            colour, marker = look(number)
            for point in _curve(points, family, metric):
                axes.plot([point["low"], point["high"]], [number] * 2, color=colour, linewidth=1.5)
                axes.plot(point["mean"], number, color=colour, marker=marker, markersize=6)
        for target in targets:
            axes.axvline(target, **_DASHES)
        axes.set_yticks(range(len(families)), list(families))
        axes.set_ylim(len(families) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"Test {METRIC_WORDS[metric]}")
        return svg(figure, f"curves-{metric}")


def family_curve(
    points: Points,
    families: Sequence[str],
    metric: str,
    targets: Sequence[float],
    band: Points = (),
) -> Draw:
    """Draws one family's measured curve with its interval, the others in grey behind it.

    Where the family has a forecast (``band``), that goes on as a paler ribbon around a dashed line.
    """
    defined = [p for name in families for p in _curve(points, name, metric)]
    low = min(p["low"] for p in (*defined, *band))
    high = max(p["high"] for p in (*defined, *band))
    sizes = sorted({point["size"] for point in points})
    furthest = [max(one["size"] for one in band)] if band else []

    def draw(axes: Axes, family: str) -> None:
        for other in families:
            rest = _curve(points, other, metric)
            axes.plot(
                [p["size"] for p in rest], [p["mean"] for p in rest], color="#cfcfcf", linewidth=0.9
            )
        number = list(families).index(family)
        curve = _curve(points, family, metric)
        if curve:
            _ribbon(axes, curve, number, 0.2)
            _line(axes, curve, number)
        _forecast_ribbon(axes, band, family, number, 0.1)
        told = [one for one in band if one["family"] == family]
        axes.plot(
            [one["size"] for one in told],
            [one["value"] for one in told],
            color=look(number)[0],
            linewidth=1.4,
            linestyle="--",
        )
        _targets(axes, targets)
        _patients_axis(axes, [*sizes, *furthest], apart=0.22)
        axes.set_xlabel("")
        axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))

    return draw


def metric_curves(points: Points, families: Sequence[str], metrics: Sequence[str]) -> Draw:
    """Draws all families' curves by the metric whose words are given."""
    by_words = {METRIC_WORDS[metric]: metric for metric in metrics}

    def draw(axes: Axes, words: str) -> None:
        for number, family in enumerate(families):
            curve = _curve(points, family, by_words[words])
            if curve:
                _ribbon(axes, curve, number, 0.07)
                _line(axes, curve, number)
        _patients_axis(axes, sorted({point["size"] for point in points}), apart=0.22)
        axes.set_xlabel("")

    return draw


def _curve(points: Points, family: str, metric: str) -> Points:
    return [
        point
        for point in points
        if (point["family"], point["metric"], point["split"]) == (family, metric, "test")
        and point["mean"] is not None
        and point["low"] is not None
    ]


def _ribbon(axes: Axes, curve: Points, number: int, alpha: float) -> None:
    """The interval, and the measured means as markers."""
    colour, marker = look(number)
    sizes, means = [p["size"] for p in curve], [p["mean"] for p in curve]
    low, high = [p["low"] for p in curve], [p["high"] for p in curve]
    axes.fill_between(sizes, low, high, color=colour, alpha=alpha, linewidth=0)
    axes.plot(sizes, means, color=colour, marker=marker, markersize=5, linestyle="none")


def _forecast_ribbon(axes: Axes, band: Points, family: str, number: int, alpha: float) -> None:
    """The interval of a family's forecast beyond the largest size."""
    told = [one for one in band if one["family"] == family]
    sizes = [one["size"] for one in told]
    low, high = [one["low"] for one in told], [one["high"] for one in told]
    if told:
        axes.fill_between(sizes, low, high, color=look(number)[0], alpha=alpha, linewidth=0)


def _line(axes: Axes, curve: Points, number: int) -> None:
    sizes, means = [p["size"] for p in curve], [p["mean"] for p in curve]
    axes.plot(sizes, means, color=look(number)[0], linewidth=2)


def _law(
    axes: Axes, law: Mapping[str, Any], told: Mapping[str, Any] | None, metric: str, number: int
) -> tuple[float, float]:
    """The law through the sizes it was fitted to, then dashed to the forecast; returns its end."""
    colour = look(number)[0]
    first, last = law["sizes"][0], law["sizes"][-1]
    inside = np.geomspace(first, last, 60)
    axes.plot(inside, _scores(law, inside, metric), color=colour, linewidth=1.8)
    if told is None:
        return last, float(_scores(law, inside, metric)[-1])
    beyond = np.geomspace(last, told["size"], 20)
    axes.plot(beyond, _scores(law, beyond, metric), color=colour, linewidth=1.6, linestyle="--")
    at = told["size"] * 2 ** (0.07 * (number - 3))  # intervals stand beside each other
    axes.plot([at, at], [told["low"], told["high"]], color=colour, linewidth=1.3, alpha=0.75)
    return told["size"], told["value"]


def _scores(law: Mapping[str, Any], sizes: np.ndarray[Any, Any], metric: str) -> Any:
    error = law["asymptote"] + law["scale"] * sizes ** -law["exponent"]
    return 1 - error if higher_is_better(metric) else error


def _targets(axes: Axes, targets: Sequence[float]) -> None:
    for target in targets:
        axes.axhline(target, **_DASHES)


def _patients_axis(axes: Axes, sizes: Sequence[int], apart: float = 0.085) -> None:
    """Name the sizes, leaving out those nearer to a larger one than this share of the axis.

    The smallest is named in any case, if need be in place of its neighbour.
    """
    shown, span = [sizes[-1]], math.log(sizes[-1] / sizes[0])
    for size in reversed(sizes[:-1]):
        if math.log(shown[-1] / size) >= apart * span:
            shown.append(size)
    if shown[-1] != sizes[0]:
        shown = [shown[0], *shown[1:-1], sizes[0]]
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(map(float, shown))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_xlabel("Training patients (log scale)")


def _direct_labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name each curve at the right of the axes, moved apart where names would overlap."""
    if not ends:
        return
    low, high = axes.get_ylim()
    box = axes.get_window_extent()
    gap = _LABEL_GAP_IN * axes.figure.dpi / box.height
    ordered = sorted(ends, key=lambda end: end[1])
    heights = [(mean - low) / (high - low) for _, mean, *_ in ordered]
    for number in range(1, len(heights)):
        heights[number] = max(heights[number], heights[number - 1] + gap)
    heights[-1] = min(heights[-1], 1.0)
    for number in range(len(heights) - 2, -1, -1):
        heights[number] = min(heights[number], heights[number + 1] - gap)
    for (_, _, family, colour), height in zip(ordered, heights, strict=True):
        axes.text(
            1.02, height, family, color=colour, transform=axes.transAxes, va="center", clip_on=False
        )
