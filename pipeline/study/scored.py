"""Scores of a study's finished cells, family by family and size by size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.progress import Progress
from data_prep.store import Store
from pipeline.dataset import targets
from pipeline.delong import auc_parts
from pipeline.metrics import METRICS, resample, score
from pipeline.study.components import Decomposed, Truth, decomposed, patient_numbers, scan_weights
from pipeline.study.grid import Plan
from pipeline.study.journal import Entry, Floats, Journal, or_nan
from pipeline.study.learning_curve import Draws, Replicates, Where
from pipeline.study.outcomes import Outcomes, outcomes
from pipeline.study.quantity import MEASURED
from pipeline.study.selection import ScoredCell
from pipeline.study.train_test_gap import on_training_scans

Place = tuple[str, int]  # family, size


@dataclass(frozen=True, eq=False)
class Split:
    """What one split's scans are, by which cells are scored."""

    target: NDArray[np.int64]
    patient_ids: NDArray[np.str_]
    bayes: Floats | None


@dataclass(frozen=True, eq=False)
class Scored:
    """One family at one size.

    Attributes:
        replicates: Every metric of every split, cell by cell and resample by resample.
        parts: (D, S, P) share of each test patient in the AUC of each cell.
        decomposed: Bias and variance; None where no cell has finished.
        outcomes: What its fits do on the test scans; None but at the largest size.
        cells: The finished ones.
    """

    replicates: Mapping[Where, Replicates]
    parts: Floats
    decomposed: Decomposed | None
    outcomes: Outcomes | None
    cells: tuple[ScoredCell, ...]


def splits_of(plan: Plan, store: Store) -> dict[str, Split]:
    """The splits that cells are scored on; those of conditions are the test scans, changed."""
    splits = {name: _split(store, name) for name in ("val", "test")}
    return splits | {shift.split: splits["test"] for shift in plan.config.conditions}


def score_places(
    plan: Plan,
    splits: Mapping[str, Split],
    draws: Draws,
    journal: Journal,
    entries: Sequence[Entry],
    progress: Progress,
) -> dict[Place, Scored]:
    """Score every finished cell.

    Args:
        plan: The study, laid out.
        splits: Of ``splits_of``.
        draws: What decides each bootstrap resample.
        journal: Holds the cells' probabilities.
        entries: Its cells.
        progress: Told (families and sizes done, of how many).

    Returns:
        (family, size) -> its scores, families in the study's order; also of those without a
        finished cell.
    """
    truth = _truth(plan, splits["test"], draws)
    done = defaultdict(list)
    for entry in entries:
        if entry.failure is None:
            done[entry.cell.family, entry.cell.size].append(entry)
    places = [(family, size) for family in plan.families for size in plan.sizes]
    scored = {}
    for number, place in enumerate(places):
        progress(number, len(places))
        scored[place] = _score_place(plan, place, splits, truth, journal, done[place])
    progress(len(places), len(places))
    return scored


def _score_place(
    plan: Plan,
    place: Place,
    splits: Mapping[str, Split],
    truth: Truth,
    journal: Journal,
    entries: Sequence[Entry],
) -> Scored:
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
        scores, again = _scores(plan, splits, entry, rows)
        for split, metrics in scores.items():
            for metric, value in metrics.items():
                values[Where(*place, split, metric)][replicate] = value
        for split, resampled in again.items():
            for metric, of in resampled.items():
                drawn[Where(*place, split, metric)][replicate] = of
        own = {name: scores[name] for name in ("train", "val", "test")}
        cells.append(ScoredCell(entry.cell, entry.key, **own))
    share, largest = place[1] / plan.train_patients, place[1] == plan.sizes[-1]
    return Scored(
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


def _scores(
    plan: Plan, splits: Mapping[str, Split], entry: Entry, rows: Mapping[str, Floats]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Floats]]]:
    """Split -> metric -> a cell's score, and the same (R,) in each resample of the patients."""
    scores = {n: score(plan.task, split.target, rows[n]) for n, split in splits.items()}
    scores["train"] = {name: or_nan(value) for name, value in entry.train.items()}
    return scores, {n: _resample(plan, split, rows[n]) for n, split in splits.items()}


def _measured(plan: Plan, place: Place, entries: Sequence[Entry]) -> dict[Where, Replicates]:
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


def _split(store: Store, name: str) -> Split:
    rows = store.rows(name)
    bayes = np.array([row.bayes for row in rows], dtype=np.float64)
    return Split(
        target=targets(store.task, [row.target for row in rows]),
        patient_ids=np.array([row.patient_id for row in rows], dtype=np.str_),
        bayes=bayes if bayes.size else None,
    )


def _truth(plan: Plan, test: Split, draws: Draws) -> Truth:
    return Truth(
        task=plan.task,
        target=test.target,
        bayes=test.bayes,
        patients=patient_numbers(test.patient_ids),
        weights=scan_weights(test.patient_ids, plan.config.resamples, plan.config.seed),
        draws=draws,
        level=plan.config.level,
    )


def _resample(plan: Plan, split: Split, probability: Floats) -> dict[str, Floats]:
    return resample(
        plan.task,
        split.target,
        probability,
        split.patient_ids,
        resamples=plan.config.resamples,
        seed=plan.config.seed,
    )
