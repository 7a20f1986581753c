"""What a claim's study found, drawn: panels of its scores, and of what probes measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.lecture.loss_terms import TERMS, speaks_of_terms, term_series
from pipeline.lecture.outcome import ClaimRun, condition, measured, scored
from pipeline.lecture.panels import (
    draw_breaks,
    draw_families,
    draw_in_order,
    draw_lines,
    draw_names,
    draw_ranks,
    from_zero,
)
from pipeline.lecture.series import Series, by_kind, quantity_of, singly, sweeps
from pipeline.page import STYLE
from pipeline.probes import PROBES
from pipeline.shifts import AMOUNTS
from pipeline.study.claim import Axis, Ranking
from pipeline.study.config import METRIC_WORDS
from pipeline.study.expectation import StudyOutcome, judge
from pipeline.study.learning_curve import Point

_PANEL: Final = (4.2, 3.4)  # inches
_BESIDE: Final = 3  # panels in a row
_SAME: Final = 1e-6  # relative to the larger, or to 1: what differs by less is alike
_FACTORS: Final = frozenset({"gain", "field", "gamma", "scale"})  # 1/2 is as far from 1 as 2 is


@dataclass(frozen=True)
class _Panel:
    title: str
    y: str
    draw: Callable[[Axes], None]
    is_score: bool = False


def draw_claim(run: ClaimRun) -> Figure | None:
    """Test scores on every cohort: against what the claim says; else against size, where there are
    several; else against the amount of each shift, where there are any; else family by family.
    Then scores that are to foretell the rank of others, the terms of the loss and what probes
    measured, where the claim says anything of them. None where there is nothing to compare.
    """
    terms = _term_groups(run, run.outcomes)
    return _drawn([*_score_groups(run, run.outcomes), *terms, _probe_panels(run)])


def draw_real(run: ClaimRun) -> Figure | None:
    """The same of real scans, but for what probes measured."""
    return _drawn([*_score_groups(run, run.real), *_term_groups(run, run.real)])


def _drawn(groups: Sequence[Iterable[_Panel]]) -> Figure | None:
    panels = _laid_out([list(group) for group in groups])
    if not panels:
        return None
    rows, columns = len(panels), max(map(len, panels))
    with mpl.rc_context({**STYLE, "font.size": 9}):
        size = (max(columns, 1.6) * _PANEL[0], rows * _PANEL[1] + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        places = {grid[i, j]: panel for i, row in enumerate(panels) for j, panel in enumerate(row)}
        for axes, panel in places.items():
            panel.draw(axes)
            axes.set_title(panel.title, fontsize=10)
            axes.set_ylabel(panel.y)
        _share_range([axes for axes, panel in places.items() if panel.is_score])
        for axes in set(grid.flat) - places.keys():
            axes.axis("off")
        _add_legend(figure, [axes for axes in places if axes.get_legend() is None])
    return figure


def _laid_out(groups: Sequence[Sequence[_Panel]]) -> list[list[_Panel]]:
    """Rows of panels; a group that does not fit beside the others begins with a row of its own."""
    rows: list[list[_Panel]] = []
    many = max(map(len, groups), default=0) > _BESIDE
    for group in groups:
        left = list(group)
        if rows and not many and len(rows[-1]) + len(left) <= _BESIDE:
            left = rows.pop() + left
        width = _BESIDE + many
        rows += [left[n : n + width] for n in range(0, len(left), width)]
    return rows


def _share_range(places: Sequence[Axes]) -> None:
    """One range for all scores: what looks higher is higher."""
    for axes in places:
        axes.set_ylim(
            min(one.get_ylim()[0] for one in places), max(one.get_ylim()[1] for one in places)
        )


def _add_legend(figure: Figure, places: Sequence[Axes]) -> None:
    handles: dict[str, Artist] = {}
    for axes in places:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            handles=list(handles.values()),
            labels=list(handles),
            loc="outside lower center",
            ncols=min(len(handles), 4),
            fontsize=9,
        )


def _score_groups(
    run: ClaimRun, outcomes: Mapping[str, StudyOutcome]
) -> Iterator[Iterator[_Panel]]:
    """The scores on each cohort; ranks."""
    rankings = [one for one in (*run.claim.expect, *run.claim.report) if isinstance(one, Ranking)]
    rankings = [one for one in rankings if {q.family for q in one.quantities} <= set(run.families)]
    ranked = {quantity.family for one in rankings for quantity in one.quantities}
    numbers = [one for one in run.claim.expect if not isinstance(one, Ranking)]
    named = {quantity.family for one in numbers for quantity in one.quantities}
    families = [name for name in run.families if name in named or name not in ranked]
    if run.claim.against:
        yield _against(run.claim.against, outcomes)
    else:
        for cohort, outcome in outcomes.items():
            yield _score_panels(_short(cohort), outcome, families)
    for ranking in rankings:
        meant = ranking.cohort or run.claim.cohorts[0]
        yield _rank_panels(ranking, outcomes, [meant] if meant in outcomes else list(outcomes))


def _score_panels(cohort: str, outcome: StudyOutcome, families: Sequence[str]) -> Iterator[_Panel]:
    metric, conditions = outcome.config.metric, outcome.config.conditions
    points = [point for point in scored(outcome) if point.family in families]
    panel = partial(_score_panel, metric)

    if len(outcome.sizes) > 1:
        plain = [point for point in points if not condition(point)]
        lines = [
            Series(name, number, [(float(p.size), p) for p in plain if p.family == name])
            for number, name in enumerate(families)
            if any(point.family == name for point in plain)
        ]
        yield panel(cohort, partial(draw_lines, series=lines, x="training patients", scale="log"))
    elif conditions:
        for kind, lines in by_kind(points, families, conditions).items():
            scale: Literal["log", "linear"] = "log" if kind in _FACTORS else "linear"
            draw = partial(draw_lines, series=lines, x=f"{kind}, {AMOUNTS[kind]}", scale=scale)
            yield panel(f"{cohort}: {kind}", draw)
        names, lines = singly(points, families, conditions)
        if len(names) > 1:
            yield panel(cohort, partial(draw_names, series=lines, names=names))
    elif len(families) > 1:
        yield panel(cohort, partial(draw_families, points=points, families=families))


def _against(axis: Axis, outcomes: Mapping[str, StudyOutcome]) -> Iterator[_Panel]:
    """Scores at the largest size against what is measured: each cohort a line."""
    lines = []
    for number, (cohort, outcome) in enumerate(outcomes.items()):
        own = [point for point in measured(outcome) if point.metric == axis.measured]
        at = {(point.family, point.size): point.mean for point in own}
        placed = [
            (at[point.family, point.size], point)
            for point in scored(outcome)
            if point.size == outcome.sizes[-1]
            and not condition(point)
            and (point.family, point.size) in at
        ]
        if placed:
            placed.sort(key=lambda pair: pair[0])
            lines.append(Series(_short(cohort), number, placed))
    if not lines:
        return
    probe, _, quantity = axis.measured.partition("/")
    unit = PROBES[probe].units.get(quantity, "")
    words = f"{probe}: {quantity}, {unit}" + (f"\n(dotted: {axis.says})" if axis.says else "")
    breaks = {_short(cohort): place for cohort, place in axis.breaks.items()}

    def draw(axes: Axes) -> None:
        draw_lines(axes, lines, words, "linear")
        draw_breaks(axes, lines, breaks)

    metric = next(iter(outcomes.values())).config.metric
    yield _score_panel(metric, f"score against {quantity}", draw)


def _score_panel(metric: str, title: str, draw: Callable[[Axes], None]) -> _Panel:
    """With a line at chance, where the metric has it at one place."""

    def drawn(axes: Axes) -> None:
        draw(axes)
        if metric == "auc":
            axes.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":")

    return _Panel(title, f"test {METRIC_WORDS[metric]}", drawn, is_score=True)


def _rank_panels(
    ranking: Ranking, outcomes: Mapping[str, StudyOutcome], cohorts: Sequence[str]
) -> Iterator[_Panel]:
    for cohort in cohorts:
        outcome = outcomes[cohort]
        found = judge(ranking.model_copy(update={"cohort": cohort}), outcomes)
        points = {
            point.family: point
            for point in scored(outcome)
            if point.size == outcome.sizes[-1] and not condition(point)
        }
        score = f"test {METRIC_WORDS[outcome.config.metric]}"
        told = f"rank correlation {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
        first, second = next(iter(ranking.ranks.items()))
        yield _Panel(
            f"{_short(cohort)}: does one score foretell another?",
            f"{score} of {second}, ...",
            partial(
                draw_ranks,
                points=points,
                pairs=ranking.ranks,
                x=f"{score} of {first}, ...",
                told=told,
            ),
        )


def _term_groups(run: ClaimRun, outcomes: Mapping[str, StudyOutcome]) -> Iterator[Iterator[_Panel]]:
    """Of each cohort: every term over the families in the claim's order, which is to be one."""
    if speaks_of_terms(run.claim):
        for cohort, outcome in outcomes.items():
            there = {family for family, _ in outcome.terms}
            kinds = {name: one.family for name, one in run.families.items() if name in there}
            yield _term_panels(_short(cohort), outcome, kinds)


def _term_panels(cohort: str, outcome: StudyOutcome, kinds: Mapping[str, str]) -> Iterator[_Panel]:
    for term, words in TERMS.items():
        if lines := term_series(outcome, kinds, term):
            draw = partial(draw_in_order, series=lines, names=list(kinds))
            yield _Panel(f"{cohort}: {words}", words, draw)


def _probe_panels(run: ClaimRun) -> Iterator[_Panel]:
    """Of every quantity that the claim speaks of: at all amounts, where it has any."""
    first = next(iter(run.outcomes))
    claimed = [(one.cohort or first, quantity_of(one.measured)) for one in run.claim.quantities()]
    for cohort, name in dict.fromkeys(pair for pair in claimed if pair[1]):
        outcome = run.outcomes[cohort]
        where = f" on {_short(cohort)}" if len(run.outcomes) > 1 else ""
        own = [
            point
            for point in measured(outcome)
            if point.cells and point.size == outcome.sizes[-1] and quantity_of(point.metric) == name
        ]
        probe, _, quantity = name.partition("/")
        unit = PROBES[probe].units.get(quantity, "")
        title = f"{probe}: {quantity}{where}"
        lines = sweeps(own, list(run.families), name)
        if lines:
            x = PROBES[probe].amount
            yield _Panel(title, unit, partial(_draw_sweep, series=lines, x=x))
        elif _differ([point.mean for point in own]):
            yield _Panel(
                title, unit, partial(_draw_quantity, points=own, families=list(run.families))
            )


def _draw_sweep(axes: Axes, series: Sequence[Series], x: str) -> None:
    draw_lines(axes, series, x, "linear")
    from_zero(axes, [point for one in series for _, point in one.points])


def _draw_quantity(axes: Axes, points: Sequence[Point], families: Sequence[str]) -> None:
    draw_families(axes, points, families)
    from_zero(axes, points)


def _differ(means: Sequence[float]) -> bool:
    least = _SAME * max(1.0, max(map(abs, means), default=0.0))
    return len(means) > 1 and not math.isclose(min(means), max(means), abs_tol=least)


def _short(cohort: str) -> str:
    return cohort.removeprefix("lecture/")
