"""Calibration, confusion and agreement on the test scans, as SVG text that stands by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline.page import STYLE, svg
from pipeline.study.report.panels import Draw, look
from pipeline.trust.figures import draw_reliability

AGREEMENT: Final = (
    ("right", "every fit is right", "#0072B2"),
    ("contested", "fits disagree", "#E6C875"),
    ("wrong", "every fit is wrong", "#D55E00"),
)
WHISKER: Final[Any] = {"color": "#1c1c1e", "linewidth": 1.1, "marker": "|", "markersize": 3.5}
_LONGEST: Final = 18  # characters of a class name on an axis
_MOST_NUMBERED: Final = 12  # classes; with more, numbers in the squares cannot be read

Rows = Sequence[Mapping[str, Any]]


def reliability(bins: Rows, families: Sequence[str]) -> Draw:
    """Draws one family's observed shares against its predictions."""

    def draw(axes: Axes, family: str) -> None:
        mine = [row for row in bins if row["family"] == family]
        colour, marker = look(list(families).index(family))
        points = [(r["predicted"], r["observed"], r["low"], r["high"]) for r in mine]
        draw_reliability(axes, points, colour, marker)

    return draw


def confusion(rows: Rows, classes: Sequence[str]) -> str:
    """Share of each true class that is called each class, as shades of one colour."""
    k = len(classes)
    share = np.array([np.nan if r["share"] is None else r["share"] for r in rows]).reshape(k, k)
    names = [_short(name) for name in classes]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, max(2.4, 1.3 + 0.42 * k)), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(visible=False)
        axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1.5)
        for row in range(k if k <= _MOST_NUMBERED else 0):
            for column in range(k):
                value = share[row, column]
                axes.text(
                    *(column + 0.5, row + 0.5),
                    "–" if np.isnan(value) else f"{100 * value:.0f} %",
                    ha="center",
                    va="center",
                    color="white" if value > 0.55 else "#1c1c1e",
                    fontsize=10 if k <= 8 else 8,
                )
        steep = k > 3
        axes.set_xticks(
            np.arange(k) + 0.5,
            names,
            rotation=40 if steep else 0,
            ha="right" if steep else "center",
            rotation_mode="anchor" if steep else None,
        )
        axes.set_yticks(np.arange(k) + 0.5, names)
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        return svg(figure, "confusion")


def label_rates(rows: Rows, labels: Sequence[str]) -> str:
    """For each label of a multi-label task: sensitivity and specificity with intervals."""
    at = {(row["label"], row["true"]): row for row in rows if row["true"] == row["predicted"]}
    shown = (("yes", "sensitivity", 0, -0.14), ("no", "specificity", 1, 0.14))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 1.3 + 0.36 * len(labels)), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="x", color="#e6e6e6")
        for answer, words, place, shift in shown:
            colour, marker = look(place)
            for row, label in enumerate(labels):
                found = at[label, answer]
                if found["share"] is None:
                    continue
                y = row + shift
                axes.plot([found["low"], found["high"]], [y, y], color=colour, alpha=0.6)
                axes.plot(found["share"], y, color=colour, marker=marker, markersize=5)
            axes.plot([], [], color=colour, marker=marker, label=words)
        axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("Share of test scans that is told right")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return svg(figure, "confusion")


def agreement(rows: Rows, what: str) -> str:
    """For each family how many test scans (``what``) all of its fits get right, some, or none."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 1.2 + 0.34 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(visible=False)
        whole = max(sum(row[name] for name, *_ in AGREEMENT) for row in rows)
        for at, row in enumerate(rows):
            start = 0
            for name, _, colour in AGREEMENT:
                axes.barh(at, row[name], 0.72, start, color=colour)
                if row[name] > 0.045 * whole:
                    dark = name == "contested"
                    axes.text(
                        *(start + row[name] / 2, at, str(row[name])),
                        ha="center",
                        va="center",
                        color="#1c1c1e" if dark else "white",
                    )
                start += row[name]
            axes.plot([row["right_low"], row["right_high"]], [at - 0.26] * 2, **WHISKER)
            if row["contested"]:  # else both intervals are of one boundary
                ends = [start - row["wrong_high"], start - row["wrong_low"]]
                axes.plot(ends, [at + 0.26] * 2, **WHISKER)
        axes.set_yticks(range(len(rows)), [row["family"] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, whole)
        axes.set_xlabel(what)
        bars = [Patch(color=colour, label=words) for _, words, colour in AGREEMENT]
        figure.legend(handles=bars, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
        return svg(figure, "agreement")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
