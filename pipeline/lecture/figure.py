"""What a claim's study found, drawn: panels of its scores, and of what probes measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Literal

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
from pipeline.lecture.sheet import Panel, draw_sheet
from pipeline.probes import PROBES
from pipeline.shifts import AMOUNTS
from pipeline.study.claim import Axis, Ranking
from pipeline.study.config import METRIC_WORDS
from pipeline.study.expectation import StudyOutcome, judge
from pipeline.study.learning_curve import Point

_SAME: Final = 1e-6  # relative to the larger, or to 1: what differs by less is alike
_FACTORS: Final = frozenset({"gain", "field", "gamma", "scale"})  # 1/2 is as far from 1 as 2 is


def draw_claim(run: ClaimRun) -> Figure | None:
    """Test scores on every cohort: against what the claim says; else against size, where there are
    several; else against the amount of each shift, where there are any; else family by family.
    Then scores that are to foretell the rank of others, the terms of the loss and what probes
    measured, where the claim says anything of them. None where there is nothing to compare.
    """
    terms = _term_groups(run, run.outcomes)
    return draw_sheet([*_score_groups(run, run.outcomes), *terms, _probe_panels(run)])


def draw_real(run: ClaimRun) -> Figure | None:
    """The same of real scans, but for what probes measured."""
    return draw_sheet([*_score_groups(run, run.real), *_term_groups(run, run.real)])


def _score_groups(run: ClaimRun, outcomes: Mapping[str, StudyOutcome]) -> Iterator[Iterator[Panel]]:
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
    yield _rankings(run, rankings, families, outcomes)


def _rankings(
    run: ClaimRun,
    rankings: Sequence[Ranking],
    families: Sequence[str],
    outcomes: Mapping[str, StudyOutcome],
) -> Iterator[Panel]:
    """Every ranking on its cohort; of real scans each once, however many cohorts it is asked of."""
    foretold = [name for one in rankings for name in one.ranks.values()]
    looks = {name: n for n, name in enumerate(dict.fromkeys([*families, *foretold]))}
    drawn: list[Ranking] = []
    for ranking in rankings:
        meant = ranking.cohort or run.claim.cohorts[0]
        asked = ranking if meant in outcomes else ranking.anywhere
        if asked not in drawn:
            cohorts = [meant] if meant in outcomes else list(outcomes)
            yield from _rank_panels(asked, looks, outcomes, cohorts)
            drawn.append(asked)


def _score_panels(cohort: str, outcome: StudyOutcome, families: Sequence[str]) -> Iterator[Panel]:
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


def _against(axis: Axis, outcomes: Mapping[str, StudyOutcome]) -> Iterator[Panel]:
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


def _score_panel(metric: str, title: str, draw: Callable[[Axes], None]) -> Panel:
    """With a line at chance, where the metric has it at one place."""

    def drawn(axes: Axes) -> None:
        draw(axes)
        if metric == "auc":
            axes.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":")

    return Panel(title, f"test {METRIC_WORDS[metric]}", drawn, is_score=True)


def _rank_panels(
    ranking: Ranking,
    looks: Mapping[str, int],
    outcomes: Mapping[str, StudyOutcome],
    cohorts: Sequence[str],
) -> Iterator[Panel]:
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
        yield Panel(
            f"{_short(cohort)}: does one score foretell another?",
            f"{score} of {second}, ...",
            partial(
                draw_ranks,
                points=points,
                pairs=ranking.ranks,
                looks=looks,
                x=f"{score} of {first}, ...",
                told=told,
            ),
        )


def _term_groups(run: ClaimRun, outcomes: Mapping[str, StudyOutcome]) -> Iterator[Iterator[Panel]]:
    """Of each cohort: every term over the families in the claim's order, which is to be one."""
    if speaks_of_terms(run.claim):
        for cohort, outcome in outcomes.items():
            there = {family for family, _ in outcome.terms}
            kinds = {name: one.family for name, one in run.families.items() if name in there}
            yield _term_panels(_short(cohort), outcome, kinds)


def _term_panels(cohort: str, outcome: StudyOutcome, kinds: Mapping[str, str]) -> Iterator[Panel]:
    for term, words in TERMS.items():
        if lines := term_series(outcome, kinds, term):
            draw = partial(draw_in_order, series=lines, names=list(kinds))
            yield Panel(f"{cohort}: {words}", words, draw)


def _probe_panels(run: ClaimRun) -> Iterator[Panel]:
    """Of every quantity that the claim speaks of: at all amounts, where it has any."""
    cohorts = list(run.outcomes)
    first = cohorts[0]
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
            yield Panel(title, unit, partial(_draw_sweep, series=lines, x=x))
        elif _differ([point.mean for point in own]):
            # Where colours tell cohorts apart, points have that of the one they are measured on.
            look = cohorts.index(cohort) if run.claim.against else None
            families = list(run.families)
            draw = partial(_draw_quantity, points=own, families=families, look=look)
            yield Panel(title, unit, draw)


def _draw_sweep(axes: Axes, series: Sequence[Series], x: str) -> None:
    draw_lines(axes, series, x, "linear")
    from_zero(axes, [point for one in series for _, point in one.points])


def _draw_quantity(
    axes: Axes, points: Sequence[Point], families: Sequence[str], look: int | None
) -> None:
    draw_families(axes, points, families, look)
    from_zero(axes, points)


def _differ(means: Sequence[float]) -> bool:
    least = _SAME * max(1.0, max(map(abs, means), default=0.0))
    return len(means) > 1 and not math.isclose(min(means), max(means), abs_tol=least)


def _short(cohort: str) -> str:
    return cohort.removeprefix("lecture/")
