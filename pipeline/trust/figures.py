"""Reliability before and after calibration, and risk against answers, as SVG text."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.page import MARKERS, PALETTE, STYLE, svg
from pipeline.trust.reliability import ReliabilityBin
from pipeline.trust.selective import RiskCoverage


def reliability_figure(
    panels: Sequence[tuple[str, Sequence[ReliabilityBin]]], name: str = "reliability"
) -> str:
    """Observed against predicted, side by side on one scale; the diagonal is perfect.

    Args:
        panels: Title and bins of each, as ("before", ...), ("after", ...).
        name: Of the figure; ids begin with it.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.75 * len(panels), 3.0), layout="constrained")
        for number, (axes, (title, bins)) in enumerate(
            zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)
        ):
            points = [(one.predicted, one.observed, one.low, one.high) for one in bins]
            draw_reliability(axes, points, PALETTE[number], MARKERS[number])
            axes.set_title(title, loc="left")
            axes.set_xlabel("Predicted")
            if number == 0:
                axes.set_ylabel("Came true")
        return svg(figure, name)


def risk_coverage_figure(
    curves: Sequence[tuple[str, RiskCoverage]], name: str = "risk-coverage"
) -> str:
    """Share of wrong answers against the share of answers given, with its ribbon.

    Args:
        curves: Name and curve of each; one name may be empty.
        name: Of the figure; ids begin with it.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for number, (label, curve) in enumerate(curves):
            colour = PALETTE[number]
            axes.fill_between(
                curve.answered, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0
            )
            axes.plot(curve.answered, curve.risk, color=colour, linewidth=2, label=label)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("Answers given, the surest first")
        axes.set_ylabel("Of these wrong")
        if any(label for label, _ in curves):
            figure.legend(loc="outside upper center", ncols=len(curves), frameon=False)
        return svg(figure, name)


def draw_reliability(
    axes: Axes, points: Sequence[tuple[float, float, float, float]], colour: str, marker: str
) -> None:
    """One reliability diagram: (predicted, observed, low, high) of each bin, and the diagonal."""
    axes.plot([0, 1], [0, 1], color="#8a8a8a", linewidth=1, linestyle=(0, (4, 3)))
    for predicted, _, low, high in points:
        axes.plot([predicted] * 2, [low, high], color=colour, alpha=0.6)
    at, seen = [point[0] for point in points], [point[1] for point in points]
    axes.plot(at, seen, color=colour, marker=marker, markersize=4.5, linewidth=0.8, clip_on=False)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_aspect("equal")
