"""An audit drawn: for each kind of shift the score and, below it, the share of flips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from pipeline.audit.audit import Arm, Audit, AuditRow
from pipeline.audit.sweep import RANGES, Range
from pipeline.metrics import higher_is_better
from pipeline.page import MARKERS, PALETTE, STYLE, svg
from pipeline.shifts import NEUTRAL
from pipeline.study.config import METRIC_WORDS

ARMS: Final[dict[Arm, tuple[str, str, str]]] = {
    "with": (PALETTE[0], MARKERS[0], "-"),
    "without": (PALETTE[1], MARKERS[1], "--"),
}
_MISTAKES: Final = ("ex-\nchanged", "re-\nversed", "last re-\nversed", "quarter\nturn")
_COLUMNS: Final = 3
_MOST_TICKS: Final = 7
_PANEL_IN: Final = (2.75, 2.7)


def panels(audit: Audit) -> list[tuple[Range, str]]:
    """Each kind that was tried with its panel as an SVG element."""
    drawn = []
    for tried in _tried(audit):
        with mpl.rc_context({**STYLE, "font.size": 8.5}):
            figure = Figure(figsize=_PANEL_IN, layout="constrained")
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
            _draw(upper, lower, audit, tried)
            drawn.append((tried, svg(figure, tried.kind)))
    return drawn


def whole_figure(audit: Audit) -> str:
    """All kinds in one figure, to be printed: an SVG file's text."""
    tried = _tried(audit)
    lines = -(-len(tried) // _COLUMNS)
    with mpl.rc_context({**STYLE, "font.size": 8.5}):
        size = (_COLUMNS * _PANEL_IN[0], lines * (_PANEL_IN[1] + 0.25) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        places = figure.subfigures(lines, _COLUMNS, squeeze=False).ravel()
        for place, one in zip(places, tried, strict=False):
            upper, lower = place.subplots(2, 1, sharex=True, height_ratios=(3, 2))
            _draw(upper, lower, audit, one)
            upper.set_title(one.kind, fontsize=9.5, fontweight="bold", loc="left")
        handles, labels = figure.findobj(Axes)[0].get_legend_handles_labels()
        figure.legend(
            handles,
            [f"{label} the recipe" for label in labels],
            loc="outside upper left",
            ncols=2,
            frameon=False,
        )
        return svg(figure, "audit")


def _tried(audit: Audit) -> list[Range]:
    kinds = {row.step.kind for row in audit.rows if row.step}
    return [one for one in RANGES if one.kind in kinds]


def _draw(upper: Axes, lower: Axes, audit: Audit, tried: Range) -> None:
    unshifted_rows: tuple[tuple[Arm, AuditRow], ...] = (
        ("with", audit.base),
        ("without", audit.bare),
    )
    for arm, unshifted in unshifted_rows:
        rows = [row for row in audit.arm(arm) if row.step and row.step.kind == tried.kind]
        _curve(upper, lower, tried, arm, unshifted, rows)
    upper.set_ylim(*_limits(audit))
    upper.yaxis.set_major_locator(MaxNLocator(4))
    upper.set_ylabel(METRIC_WORDS[audit.metric])
    lower.set_ylim(-0.04, 1.04)
    lower.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    lower.set_ylabel("flips")
    lower.set_xlabel(tried.unit)


def _curve(
    upper: Axes, lower: Axes, tried: Range, arm: Arm, unshifted: AuditRow, rows: list[AuditRow]
) -> None:
    colour, marker, dashes = ARMS[arm]
    if not tried.unit:
        _points(upper, lower, tried, arm, [unshifted, *rows])
        return
    assert tried.kind != "storage"
    neutral = NEUTRAL[tried.kind]
    places = {neutral: unshifted} | {row.step.amount: row for row in rows if row.step}
    amounts = sorted(places)
    # Amounts stand side by side, as they rise: on a scale the small ones would lie on each other.
    x = range(len(amounts))
    for axes, estimates in (
        (upper, [places[amount].score for amount in amounts]),
        (lower, [places[amount].flips for amount in amounts]),
    ):
        value, low, high = np.array([(e.value, e.low, e.high) for e in estimates]).T
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, value, dashes, color=colour, marker=marker, ms=3, lw=1.4, label=arm)
    inside = [n for n, a in enumerate(amounts) if a == neutral or places[a].realistic]
    if arm == "with":
        for axes in (upper, lower):
            axes.axvspan(min(inside), max(inside), color="#e9edf1", zorder=0, linewidth=0)
    every = 1 if len(amounts) <= _MOST_TICKS else 2
    shown = x[amounts.index(neutral) % every :: every]
    lower.set_xticks(shown, [f"{amounts[n]:g}" for n in shown])


def _points(upper: Axes, lower: Axes, tried: Range, arm: Arm, rows: Sequence[AuditRow]) -> None:
    """Shifts that have names in place of amounts: no line leads from one to the next."""
    colour, marker, _ = ARMS[arm]
    x = np.arange(len(rows)) + (-0.12 if arm == "with" else 0.12)
    for axes, estimates in (
        (upper, [row.score for row in rows]),
        (lower, [row.flips for row in rows]),
    ):
        value, low, high = np.array([(e.value, e.low, e.high) for e in estimates]).T
        axes.vlines(x, low, high, color=colour, alpha=0.4, linewidth=3)
        axes.plot(x, value, marker, color=colour, ms=4, label=arm)
    names = [f"axis {a:g}" for a in tried.amounts] if tried.kind == "flip" else _MISTAKES
    lower.set_xticks(range(len(rows)), ["none", *names[: len(rows) - 1]], fontsize=6.5)
    lower.set_xlim(-0.5, len(rows) - 0.5)


def _limits(audit: Audit) -> tuple[float, float]:
    """One scale for all panels. A loss without recipe has no bound, and may leave the picture."""
    rows = [audit.base, *audit.arm("with")]
    if higher_is_better(audit.metric):
        rows += [audit.bare, *audit.arm("without")]
    ends = np.array([(row.score.low, row.score.value, row.score.high) for row in rows])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    margin = 0.04 * (high - low) or 0.02
    return low - margin, high + margin
