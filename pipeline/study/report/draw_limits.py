"""Bias and variance as stacked bars, as SVG text that stands by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pipeline.page import STYLE, svg
from pipeline.study.report.panels import Draw

# Bottom to top; what more patients can take away lies on what they cannot.
TERMS: Final = (
    ("noise", "noise of the labels", "#B8B8B8"),
    ("bias2", "bias²", "#0072B2"),
    ("variance_data", "variance by patients", "#E69F00"),
    ("variance_seed", "variance by seed", "#009E73"),
)
MIXED: Final = "bias² and variance by patients, which one subset cannot tell apart"
LETTERS: Final = {
    "at the noise floor": "N",
    "bias-limited": "B",
    "variance-limited (patients)": "P",
    "variance-limited (seed)": "S",
    "variance-limited": "V",
    "undecided": "?",
    "not settled": "~",
}
_HATCH: Final = "///"
_WHISKER: Final[Any] = {"color": "#1c1c1e", "linewidth": 0.9, "solid_capstyle": "butt"}

Terms = Mapping[str, Mapping[str, Any]]  # value, low and high of each term
Rows = Mapping[tuple[str, int], Terms]


def limits(rows: Rows, verdicts: Mapping[tuple[str, int], str], sizes: Sequence[int]) -> Draw:
    """Draws the bars of one family, all families on one scale.

    Args:
        rows: Terms of the squared loss of each family and size, each with its interval as a
            whisker that begins where its part of the bar does.
        verdicts: What limits them.
        sizes: The study's.
    """
    highest = max(_highest(terms) for terms in rows.values())

    def draw(axes: Axes, family: str) -> None:
        for at, size in enumerate(sizes):
            if (family, size) not in rows:
                continue
            terms, base = rows[family, size], 0.0
            for name, _, colour in TERMS:
                height = _height(terms, name)
                axes.bar(at, height, 0.74, base, color=colour, linewidth=0, **_mixed(terms, name))
                base += height
            for shift, low, high in _whiskers(terms):
                axes.plot([at + shift] * 2, [low, high], **_WHISKER)
            axes.text(
                *(at, _highest(terms) + 0.02 * highest, LETTERS[verdicts[family, size]]),
                ha="center",
                va="bottom",
                fontsize=8.5,
                color="#333333",
            )
        crowded = sum(len(str(size)) for size in sizes) > 20
        axes.set_xticks(
            range(len(sizes)), [str(size) for size in sizes], rotation=45 if crowded else 0
        )
        axes.set_xlim(-0.6, len(sizes) - 0.4)
        axes.set_ylim(0, 1.12 * highest)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(axis="x", length=0)

    return draw


def limits_at_one_size(
    rows: Rows, verdicts: Mapping[tuple[str, int], str], families: Sequence[str]
) -> str:
    """All families' bars in one drawing, for a study of one size."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.9 + 0.34 * len(families)), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="x", color="#e6e6e6")
        for at, family in enumerate(families):
            ((place, terms),) = [(p, t) for p, t in rows.items() if p[0] == family]
            base = 0.0
            for name, _, colour in TERMS:
                width = _height(terms, name)
                axes.barh(at, width, 0.72, base, color=colour, linewidth=0, **_mixed(terms, name))
                base += width
            for shift, low, high in _whiskers(terms):
                axes.plot([low, high], [at + shift] * 2, **_WHISKER)
            axes.annotate(
                LETTERS[verdicts[place]],
                (_highest(terms), at),
                (5, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(range(len(families)), list(families))
        axes.set_ylim(len(families) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.set_xlabel("Expected squared loss")
        return svg(figure, "limits")


def legend(rows: Rows) -> list[tuple[str, str, str]]:
    """Name, colour and pattern of what the bars of these rows show."""
    shown = []
    for name, words, colour in TERMS:
        known = [terms for terms in rows.values() if _value(terms, name) is not None]
        mixed = [terms for terms in known if _mixed(terms, name)]
        if len(known) > len(mixed):
            shown.append((words, colour, ""))
        if mixed:
            shown.append((MIXED, colour, "hatched"))
    return shown


def patches(entries: Sequence[tuple[str, str, str]]) -> list[Patch]:
    """A legend's entries for a figure that is a file of its own."""
    return [
        Patch(
            facecolor=colour,
            label=words,
            edgecolor="white",
            hatch=_HATCH if pattern else None,
        )
        for words, colour, pattern in entries
    ]


def _mixed(terms: Terms, name: str) -> dict[str, Any]:
    """How bias^2 looks that has variance in it."""
    mixed = name == "bias2" and _value(terms, "variance_data") is None
    return {"hatch": _HATCH, "edgecolor": "white"} if mixed else {}


def _value(terms: Terms, name: str) -> float | None:
    value: float | None = terms[name]["value"] if name in terms else None
    return value


def _height(terms: Terms, name: str) -> float:
    """What is drawn: an unbiased estimate of a small variance may come out below 0."""
    return max(0.0, _value(terms, name) or 0.0)


def _whiskers(terms: Terms) -> Iterator[tuple[float, float, float]]:
    """Interval of each part of a bar: how far from its middle, and both ends, from 0 on.

    They stand beside each other, the lowest part's first.
    """
    base = 0.0
    for at, (name, *_) in enumerate(TERMS):
        if _value(terms, name) is not None and terms[name]["low"] is not None:
            low, high = terms[name]["low"], terms[name]["high"]
            yield 0.17 * (at - (len(TERMS) - 1) / 2), base + max(0.0, low), base + max(0.0, high)
        base += _height(terms, name)


def _highest(terms: Terms) -> float:
    """Top of a bar or of its whiskers."""
    bar = sum(_height(terms, name) for name, *_ in TERMS)
    return max([bar, *(high for *_, high in _whiskers(terms))])
