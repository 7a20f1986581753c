"""What a study's journal says: scores with intervals, comparisons, bias and variance, forecasts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.progress import Progress
from data_prep.store import Store
from pipeline.dataset import targets
from pipeline.delong import auc_parts
from pipeline.metrics import METRICS, resample, score
from pipeline.study.comparison import Difference, Trend, differences, trends
from pipeline.study.components import (
    Decomposed,
    ScanRank,
    Truth,
    decomposed,
    patient_numbers,
    ranked_scans,
    scan_weights,
)
from pipeline.study.config import RuleName
from pipeline.study.explanation import limit_sentences, outlook_sentences
from pipeline.study.failures import failure_sentences
from pipeline.study.forecast import Outlook, outlook
from pipeline.study.grid import Plan
from pipeline.study.journal import Entry, Floats, Journal, or_nan
from pipeline.study.learning_curve import Curves, Draws, Replicates, Where, curves
from pipeline.study.outcomes import Outcomes, outcomes
from pipeline.study.quantity import MEASURED
from pipeline.study.reach import Reach, reaches
from pipeline.study.selection import Choice, ScoredCell, choose_by_each
from pipeline.study.summary import caveats, few_patients, headline
from pipeline.study.train_test_gap import Gap, gaps, on_training_scans
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


@dataclass(frozen=True, eq=False)
class _Split:
    """What one split's scans are, by which cells are scored."""

    target: NDArray[np.int64]
    patient_ids: NDArray[np.str_]
    bayes: Floats | None


@dataclass(frozen=True, eq=False)
class _Scored:
    """One family at one size."""

    replicates: Mapping[Where, Replicates]
    parts: Floats  # (D, S, P) of the AUC of each cell
    decomposed: Decomposed | None
    outcomes: Outcomes | None
    cells: tuple[ScoredCell, ...]


def find(
    plan: Plan, store: Store, journal: Journal, entries: Sequence[Entry], progress: Progress
) -> Findings:
    """Score every finished cell, put intervals around what follows and say what it means."""
    config, families = plan.config, list(plan.families)
    splits = {name: _split(store, name) for name in ("val", "test")}
    splits |= {shift.split: splits["test"] for shift in config.conditions}
    draws = Draws.of(config.subsets, config.seeds, config.resamples, config.seed)
    truth = _truth(plan, splits["test"], draws)
    done = defaultdict(list)
    for entry in entries:
        if entry.failure is None:
            done[entry.cell.family, entry.cell.size].append(entry)
    places = [(family, size) for family in families for size in plan.sizes]
    scored = {}
    for number, place in enumerate(places):
        progress(number, len(places))
        scored[place] = _score_place(plan, place, splits, truth, journal, done[place])
    progress(len(places), len(places))
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


def _score_place(
    plan: Plan,
    place: tuple[str, int],
    splits: Mapping[str, _Split],
    truth: Truth,
    journal: Journal,
    entries: Sequence[Entry],
) -> _Scored:
    """Score the finished cells of one family and size, and take their test loss apart."""
    config, test = plan.config, splits["test"]
    shape = (config.subsets, config.seeds)
    values = {
        Where(*place, split, metric): np.full(shape, np.nan)
        for split in (*splits, "train")
        for metric in METRICS
    }
    drawn = {
        where: np.full((*shape, config.resamples), np.nan)
        for where in values
        if where.split != "train"
    }
    p = np.full((*shape, len(test.target), plan.task.n_classes), np.nan)
    n_patients = len(np.unique(test.patient_ids))
    parts = np.full((*shape, n_patients), np.nan)
    cells = []
    for entry in entries:
        replicate = entry.cell.subset, entry.cell.seed - config.seed
        rows = journal.by_split(entry)
        p[replicate] = rows["test"]
        auc = auc_parts(plan.task, test.target, rows["test"], test.patient_ids)
        parts[replicate] = auc.patients
        scores: dict[str, dict[str, float]] = {}
        for name, split in splits.items():
            scores[name] = score(plan.task, split.target, rows[name])
            again = _resample(plan, split, rows[name])
            for metric in METRICS:
                where = Where(*place, name, metric)
                values[where][replicate] = scores[name][metric]
                drawn[where][replicate] = again[metric]
        scores["train"] = {name: or_nan(value) for name, value in entry.train.items()}
        for metric, value in scores["train"].items():
            values[Where(*place, "train", metric)][replicate] = value
        own = {name: scores[name] for name in ("train", "val", "test")}
        cells.append(ScoredCell(entry.cell, entry.key, **own))
    share, largest = place[1] / plan.train_patients, place[1] == plan.sizes[-1]
    return _Scored(
        replicates={
            where: Replicates(cells_at, drawn[where])
            if where in drawn
            else on_training_scans(cells_at, config.resamples)
            for where, cells_at in values.items()
        }
        | _measured(plan, place, entries),
        parts=parts,
        decomposed=decomposed(*place, p, truth, overlap=share) if cells else None,
        outcomes=outcomes(*place, p, truth) if cells and largest else None,
        cells=tuple(cells),
    )


def _measured(
    plan: Plan, place: tuple[str, int], entries: Sequence[Entry]
) -> dict[Where, Replicates]:
    """What probes measured; the test patients have no part in its spread."""
    config, values = plan.config, dict[Where, Floats]()
    shape = (config.subsets, config.seeds)
    for entry in entries:
        for name, value in entry.measured.items():
            at = values.setdefault(Where(*place, MEASURED, name), np.full(shape, np.nan))
            at[entry.cell.subset, entry.cell.seed - config.seed] = or_nan(value)
    return {
        where: Replicates(of, np.broadcast_to(of[..., None], (*shape, config.resamples)))
        for where, of in values.items()
    }


def _split(store: Store, name: str) -> _Split:
    rows = store.rows(name)
    bayes = np.array([row.bayes for row in rows], dtype=np.float64)
    return _Split(
        target=targets(store.task, [row.target for row in rows]),
        patient_ids=np.array([row.patient_id for row in rows], dtype=np.str_),
        bayes=bayes if bayes.size else None,
    )


def _truth(plan: Plan, test: _Split, draws: Draws) -> Truth:
    return Truth(
        task=plan.task,
        target=test.target,
        bayes=test.bayes,
        patients=patient_numbers(test.patient_ids),
        weights=scan_weights(test.patient_ids, plan.config.resamples, plan.config.seed),
        draws=draws,
        level=plan.config.level,
    )


def _resample(plan: Plan, split: _Split, probability: Floats) -> dict[str, Floats]:
    return resample(
        plan.task,
        split.target,
        probability,
        split.patient_ids,
        resamples=plan.config.resamples,
        seed=plan.config.seed,
    )
