"""The ways in which a panel shows points: against a number, by name, or one score against another.

A family, or another series, has its colour and its marker in all panels of a figure; intervals are
drawn as bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from pipeline.lecture.series import Series
from pipeline.page import MARKERS, PALETTE
from pipeline.study.learning_curve import Point

_MANY: Final = 10_000  # where numbers on an axis get a letter for their thousands
_BESIDE: Final = 0.08  # between points at one name


def draw_lines(
    axes: Axes, series: Sequence[Series], x: str, scale: Literal["linear", "log"]
) -> None:
    """Series against a number; ticks where there are points."""
    for one in series:
        _line(axes, one)
    ticks = sorted({place for one in series for place, _ in one.points})
    axes.set_xscale(scale)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x)


def draw_breaks(axes: Axes, series: Sequence[Series], breaks: Mapping[str, float]) -> None:
    """A dotted line in the colour of each series, by its label, where it is to break."""
    for one in series:
        if one.label in breaks:
            colour = _look(one.number)["color"]
            axes.axvline(breaks[one.label], color=colour, linewidth=1, linestyle=":")


def draw_names(axes: Axes, series: Sequence[Series], names: Sequence[str]) -> None:
    """Series at names, whose places are their numbers; every series beside the others."""
    for number, one in enumerate(series):
        aside = _BESIDE * (number - (len(series) - 1) / 2)
        placed = [(place + aside, point) for place, point in one.points]
        _line(axes, Series(one.label, one.number, placed), joined=False)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_xlim(-0.6, len(names) - 0.4)


def draw_in_order(axes: Axes, series: Sequence[Series], names: Sequence[str]) -> None:
    """Series over names that are in an order, whose places are their numbers; its own legend."""
    for one in series:
        _line(axes, one)
    axes.legend(frameon=False, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")


def draw_families(
    axes: Axes, points: Sequence[Point], families: Sequence[str], look: int | None = None
) -> None:
    """One point for each family that has one, named below it; all of one look if it is given."""
    own = {families.index(point.family): point for point in points if point.family in families}
    for number, point in sorted(own.items()):
        _line(axes, Series("", number if look is None else look, [(float(number), point)]))
    axes.set_xticks(sorted(own), [families[number] for number in sorted(own)])
    axes.tick_params(axis="x", rotation=30)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
    axes.set_xlim(min(own, default=0) - 0.6, max(own, default=0) + 0.6)


def draw_ranks(
    axes: Axes,
    points: Mapping[str, Point],
    pairs: Mapping[str, str],
    looks: Mapping[str, int],
    x: str,
    told: str,
) -> None:
    """The second family of each pair, which has the look, against the first; its own legend."""
    for one, other in pairs.items():
        across, up = points[one], points[other]
        axes.errorbar(
            [across.mean],
            [up.mean],
            xerr=_ends([across]),
            yerr=_ends([up]),
            linestyle="none",
            elinewidth=0.6,
            label=other,
            **_look(looks[other]),
        )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    axes.set_xlabel(f"{x}\n{told}")


def from_zero(axes: Axes, points: Sequence[Point]) -> None:
    """Begin the scale near 0 where no mean is below it, and write large numbers short."""
    _, high = axes.get_ylim()
    if min(point.mean for point in points) >= 0:
        axes.set_ylim(-0.03 * high, high)
    if high >= _MANY:
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))


def _line(axes: Axes, series: Series, *, joined: bool = True) -> None:
    points = [point for _, point in series.points]
    axes.errorbar(
        [place for place, _ in series.points],
        [point.mean for point in points],
        yerr=_ends(points),
        linewidth=1.4 if joined else 0,
        elinewidth=1,
        capsize=2,
        label=series.label or "_nolegend_",
        **_look(series.number),
    )


def _look(number: int) -> dict[str, Any]:
    """Colour and marker; once all colours are used, each with another marker."""
    turn = number // len(PALETTE)
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": MARKERS[(number + turn) % len(MARKERS)],
        "markersize": 5,
    }


def _ends(points: Sequence[Point]) -> list[list[float]]:
    """Lengths of the bars below and above; an interval may lie beside its mean."""
    return [
        [max(point.mean - point.low, 0) for point in points],
        [max(point.high - point.mean, 0) for point in points],
    ]
