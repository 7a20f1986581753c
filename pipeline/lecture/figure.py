"""What a claim's study found, drawn: scores with intervals, one panel for each cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.lecture.outcome import ClaimRun, condition, measured, scored
from pipeline.page import MARKERS, PALETTE, STYLE
from pipeline.study.claim import Claim
from pipeline.study.config import METRIC_WORDS
from pipeline.study.expectation import StudyOutcome
from pipeline.study.learning_curve import Point

_PANEL: Final = (4.2, 3.4)  # inches
_BESIDE: Final = 3  # panels in a row
_PLAIN: Final = "as they are"


def draw_claim(run: ClaimRun) -> Figure:
    """Test score of every family on every cohort: against size, where there are several; else
    under each condition, where there are any; else family by family. Then what probes measured on
    several families, where the claim says anything of it.
    """
    cohorts = {**run.outcomes, **run.real}
    panels = [(name, list(scored(outcome)), outcome) for name, outcome in cohorts.items()]
    probes = list(_quantities(run.outcomes, run.claim))
    count = len(panels) + len(probes)
    columns = min(count, _BESIDE)
    rows = -(-count // columns)
    with mpl.rc_context({**STYLE, "font.size": 9}):
        size = (max(columns, 1.6) * _PANEL[0], rows * _PANEL[1] + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for (name, points, outcome), panel in zip(panels, axes, strict=False):
            _draw_scores(panel, points, list(run.families), outcome)
            panel.set_title(name.removeprefix("lecture/"), fontsize=10)
        for (cohort, quantity, found), panel in zip(probes, axes[len(panels) :], strict=False):
            _draw_by_family(panel, found, list(run.families))
            where = f" on {cohort.removeprefix('lecture/')}" if len(run.outcomes) > 1 else ""
            panel.set_title(quantity.replace("/", ": ") + where, fontsize=10)
        for panel in axes[count:]:
            panel.axis("off")
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(
                handles, labels, loc="outside lower center", ncols=min(len(labels), 4), fontsize=9
            )
    return figure


def _quantities(
    outcomes: Mapping[str, StudyOutcome], claim: Claim
) -> Iterable[tuple[str, str, Sequence[Point]]]:
    first = next(iter(outcomes))
    claimed = {(quantity.cohort or first, quantity.measured) for quantity in claim.quantities()}
    for cohort, outcome in outcomes.items():
        by_name = defaultdict(list)
        for point in measured(outcome):
            here = point.size == outcome.sizes[-1] and point.cells
            if here and (cohort, point.metric) in claimed:
                by_name[point.metric].append(point)
        for name, points in by_name.items():
            if len(points) > 1:  # a number by itself is no picture
                yield cohort, name, points


def _draw_scores(
    axes: Axes, points: Sequence[Point], families: Sequence[str], outcome: StudyOutcome
) -> None:
    plain = [point for point in points if not condition(point)]
    shifted = [point for point in points if point.size == outcome.sizes[-1]]
    if len(outcome.sizes) > 1:
        by_family = {name: [p for p in plain if p.family == name] for name in families}
        places = {size: float(size) for size in outcome.sizes}
        for name, own in by_family.items():
            _line(axes, [places[p.size] for p in own], own, families.index(name))
        axes.set_xscale("log")
        axes.set_xticks(list(outcome.sizes), [str(size) for size in outcome.sizes])
        axes.minorticks_off()
        axes.set_xlabel("training patients")
    elif outcome.config.conditions:
        order = ["", *(str(shift) for shift in outcome.config.conditions)]
        for number, name in enumerate(families):
            own = [p for p in shifted if p.family == name]
            offset = 0.06 * (number - (len(families) - 1) / 2)
            _line(axes, [order.index(condition(p)) + offset for p in own], own, number)
        axes.set_xticks(range(len(order)), [word or _PLAIN for word in order])
        axes.tick_params(axis="x", rotation=40)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    else:
        _draw_by_family(axes, plain, families)
    axes.set_ylabel(f"test {METRIC_WORDS[outcome.config.metric]}")
    if outcome.config.metric == "auc":
        axes.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":")


def _draw_by_family(axes: Axes, points: Sequence[Point], families: Sequence[str]) -> None:
    own = [point for point in points if point.family in families]
    for point in own:
        number = families.index(point.family)
        _line(axes, [float(number)], [point], number, name="")
    shown = sorted({families.index(point.family) for point in own})
    axes.set_xticks(shown, [families[number] for number in shown], rotation=30, ha="right")
    axes.set_xlim(min(shown, default=0) - 0.6, max(shown, default=0) + 0.6)


def _line(
    axes: Axes, x: Sequence[float], points: Sequence[Point], number: int, name: str | None = None
) -> None:
    means = [point.mean for point in points]
    ends = [
        [max(point.mean - point.low, 0) for point in points],
        [max(point.high - point.mean, 0) for point in points],
    ]
    axes.errorbar(
        x,
        means,
        yerr=ends,
        color=PALETTE[number % len(PALETTE)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        linewidth=1.4,
        elinewidth=1,
        capsize=2,
        label=(points[0].family if points else "") if name is None else name or "_nolegend_",
    )
