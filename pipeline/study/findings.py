"""What a study's journal says: scores with intervals, comparisons, bias and variance, forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from data_prep.progress import Progress
from data_prep.store import Store
from pipeline.study.comparison import Difference, Trend, differences, trends
from pipeline.study.components import Decomposed, ScanRank, ranked_scans
from pipeline.study.config import RuleName
from pipeline.study.explanation import limit_sentences, outlook_sentences
from pipeline.study.failures import failure_sentences
from pipeline.study.forecast import Outlook, outlook
from pipeline.study.grid import Plan
from pipeline.study.journal import Entry, Journal
from pipeline.study.learning_curve import Curves, Draws, curves
from pipeline.study.outcomes import Outcomes
from pipeline.study.reach import Reach, reaches
from pipeline.study.scored import score_places, splits_of
from pipeline.study.selection import Choice, ScoredCell, choose_by_each
from pipeline.study.summary import caveats, few_patients, headline
from pipeline.study.train_test_gap import Gap, gaps
from pipeline.study.verdict import Verdict, verdicts

HARDEST: Final = 20  # scans of each family that are told


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that a study's journal says.

    Attributes:
        curves: Points with intervals, also on the training scans (split ``train``).
        gaps: From training to test scans, by the headline metric.
        differences: Between families, at each size.
        trends: Last step of each curve.
        reaches: How each family stands to each target at each size.
        decomposed: Bias and variance of each family and size that has a finished cell.
        verdicts: What limits each of them.
        hardest: The hardest and the most contested test scans at the largest size.
        outcomes: What each family's fits do on the test scans at the largest size.
        outlook: Laws, forecasts and crossings.
        choices: What is to be released, by each rule.
        sentences: In words, most important first.
        caveats: What the intervals do not cover.
        cells: Every finished cell with its scores.
    """

    curves: Curves
    gaps: tuple[Gap, ...]
    differences: tuple[Difference, ...]
    trends: tuple[Trend, ...]
    reaches: tuple[Reach, ...]
    decomposed: tuple[Decomposed, ...]
    verdicts: tuple[Verdict, ...]
    hardest: tuple[ScanRank, ...]
    outcomes: tuple[Outcomes, ...]
    outlook: Outlook
    choices: Mapping[RuleName, Choice | None]
    sentences: tuple[str, ...]
    caveats: tuple[str, ...]
    cells: tuple[ScoredCell, ...]


def find(
    plan: Plan, store: Store, journal: Journal, entries: Sequence[Entry], progress: Progress
) -> Findings:
    """Score every finished cell, put intervals around what follows and say what it means.

    Args:
        plan: The study, laid out.
        store: What it ran on.
        journal: Holds the cells' probabilities.
        entries: Its cells, in the plan's order.
        progress: Told (families and sizes scored, of how many).
    """
    config, families = plan.config, list(plan.families)
    splits = splits_of(plan, store)
    draws = Draws.of(config.subsets, config.seeds, config.resamples, config.seed)
    scored = score_places(plan, splits, draws, journal, entries, progress)
    by_where = {at: cells for one in scored.values() for at, cells in one.replicates.items()}
    found = curves(by_where, draws, config.level)
    parts = {place: one.parts for place, one in scored.items()}
    warned = list(few_patients(plan.task, splits["test"].target, splits["test"].patient_ids))
    metric, level, few = config.metric, config.level, bool(warned)
    pairs = differences(found, families, plan.sizes, metric, level, parts, few_patients=few)
    steps = trends(found, families, plan.sizes, metric, level, draws, few_patients=few)
    reached = reaches(
        *(found, families, plan.sizes, config.targets, metric, level), few_patients=few
    )
    taken = [one.decomposed for one in scored.values() if one.decomposed is not None]
    limits = verdicts(taken, level)
    ahead = outlook(
        found,
        families,
        metric,
        config.targets,
        train_patients=plan.train_patients,
        draws=draws,
        level=level,
        few_patients=few,
    )
    by_cell = {one.cell: one for place in scored.values() for one in place.cells}
    cells = [by_cell[entry.cell] for entry in entries if entry.failure is None]
    choices = choose_by_each(config, families, plan.sizes[-1], found, cells)
    choice = choices[config.release.rule]
    return Findings(
        curves=found,
        gaps=tuple(gaps(found, families, plan.sizes, metric, draws, level)),
        differences=tuple(pairs),
        trends=tuple(steps),
        reaches=tuple(reached),
        decomposed=tuple(taken),
        verdicts=tuple(limits),
        hardest=tuple(ranked_scans([one for one in taken if one.size == plan.sizes[-1]], HARDEST)),
        outcomes=tuple(one.outcomes for one in scored.values() if one.outcomes is not None),
        outlook=ahead,
        choices=choices,
        sentences=(
            *failure_sentences(entries),
            *warned,
            *headline(
                *(config, families, plan.sizes, found, pairs, steps, reached, choice),
                limits=list(limit_sentences(taken, limits, plan.sizes[-1])),
                forecasts=list(outlook_sentences(ahead, reached, config)),
            ),
        ),
        caveats=tuple(caveats(config, plan.sizes, plan.train_patients)),
        cells=tuple(cells),
    )
