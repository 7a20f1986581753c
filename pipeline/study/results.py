"""From the journal to ``results.json`` and ``curves.csv``: the same bytes for the same cells.

Neither holds a time, a path or an identifier of a patient or scan; what cells cost stands in the
journal and in ``costs.csv``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_prep.files import write_csv, write_json
from data_prep.progress import Progress
from data_prep.store import Store
from pipeline.dataset import targets
from pipeline.metrics import METRICS, resample, score
from pipeline.study.comparison import Difference, Trend, differences, trends
from pipeline.study.grid import Plan
from pipeline.study.journal import Entry, Floats, Journal, finite
from pipeline.study.learning_curve import (
    Curves,
    Draws,
    Replicates,
    Where,
    curves,
    places,
)
from pipeline.study.selection import Choice, ScoredCell, choose
from pipeline.study.summary import caveats, few_patients, headline

RESULTS: Final = "results.json"
CURVES: Final = "curves.csv"
COSTS: Final = "costs.csv"
FORMAT: Final = "medcurve-study"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that a study's journal says.

    Attributes:
        curves: Points with intervals.
        differences: Between families, at each size.
        trends: Last step of each curve.
        choice: What is to be released.
        sentences: In words, most important first.
        caveats: What the intervals do not cover.
    """

    curves: Curves
    differences: tuple[Difference, ...]
    trends: tuple[Trend, ...]
    choice: Choice | None
    sentences: tuple[str, ...]
    caveats: tuple[str, ...]
    cells: tuple[ScoredCell, ...]


@dataclass(frozen=True, eq=False)
class _Split:
    """Targets of one split, by which cells are scored."""

    target: Any
    patient_ids: Any


def find(
    plan: Plan, store: Store, journal: Journal, entries: Sequence[Entry], progress: Progress
) -> Findings:
    """Score every finished cell, put intervals around the means and say what they mean."""
    splits = {name: _split(store, name) for name in ("val", "test")}
    families, config = list(plan.families), plan.config
    shape = (config.subsets, config.seeds)
    values = {at: np.full(shape, np.nan) for at in places(families, plan.sizes)}
    drawn = {at: np.full((*shape, config.resamples), np.nan) for at in values}
    cells = []
    done = [entry for entry in entries if entry.failure is None]
    for number, entry in enumerate(done):
        progress(number, len(done))
        cell = entry.cell
        scores: dict[str, dict[str, float]] = {}
        for name, probability in zip(splits, journal.probabilities(entry), strict=True):
            truth = splits[name]
            scores[name] = score(plan.task, truth.target, probability)
            again = _resample(plan, truth, probability)
            for metric in METRICS:
                at = Where(cell.family, cell.size, name, metric)
                replicate = cell.subset, cell.seed - config.seed
                values[at][replicate] = scores[name][metric]
                drawn[at][replicate] = again[metric]
        cells.append(ScoredCell(cell, entry.key, scores["val"], scores["test"]))
    progress(len(done), len(done))
    draws = Draws.of(config.subsets, config.seeds, config.resamples, config.seed)
    found = curves({at: Replicates(values[at], drawn[at]) for at in values}, draws, config.level)
    pairs = differences(found, families, plan.sizes, config.metric, config.level)
    steps = trends(found, families, plan.sizes, config.metric, config.level)
    choice = choose(config, families, plan.sizes[-1], found, cells)
    return Findings(
        curves=found,
        differences=tuple(pairs),
        trends=tuple(steps),
        choice=choice,
        sentences=(
            *few_patients(plan.task, splits["test"].target, splits["test"].patient_ids),
            *headline(config, families, plan.sizes, found, pairs, steps, choice),
        ),
        caveats=tuple(caveats(config, plan.sizes, plan.train_patients)),
        cells=tuple(cells),
    )


def write_results(
    out: Path, cohort: str, plan: Plan, store: Store, entries: Sequence[Entry], found: Findings
) -> None:
    """Write ``results.json``, ``curves.csv`` and ``costs.csv``."""
    points = list(found.curves.points.values())
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "cohort": cohort,
        "study": plan.digest,
        "store": plan.store_digest,
        "task": plan.task.model_dump(mode="json"),
        "config": plan.config.model_dump(mode="json"),
        "families": {name: f.model_dump(mode="json") for name, f in plan.families.items()},
        "sizes": list(plan.sizes),
        "patients": _patients(store),
        "scans": {name: len(store.rows(name)) for name in ("train", "val", "test")},
        "arithmetic": dict(plan.arithmetic),
        "sentences": list(found.sentences),
        "caveats": list(found.caveats),
        "release": asdict(found.choice) if found.choice else None,
        "points": [_json(asdict(point)) for point in points],
        "differences": [_json({**asdict(d), "winner": d.winner}) for d in found.differences],
        "trends": [_json({**asdict(t), "verdict": t.verdict}) for t in found.trends],
        "pending": len(plan.cells) - len(entries),
        "cells": _cells(entries, found.cells),
    }
    write_json(out / RESULTS, content)
    header = list(asdict(points[0]))
    write_csv(out / CURVES, header, [[_cell(v) for v in asdict(p).values()] for p in points])
    write_csv(
        out / COSTS,
        ("family", "size", "subset", "seed", "fit_seconds", "predict_seconds"),
        [
            (*asdict(e.cell).values(), round(e.seconds["fit"], 4), round(e.seconds["predict"], 4))
            for e in entries
            if e.failure is None
        ],
    )


def _split(store: Store, name: str) -> _Split:
    rows = store.rows(name)
    return _Split(
        target=targets(store.task, [row.target for row in rows]),
        patient_ids=np.array([row.patient_id for row in rows], dtype=np.str_),
    )


def _resample(plan: Plan, truth: _Split, probability: Floats) -> dict[str, Floats]:
    return resample(
        plan.task,
        truth.target,
        probability,
        truth.patient_ids,
        resamples=plan.config.resamples,
        seed=plan.config.seed,
    )


def _patients(store: Store) -> dict[str, int]:
    return {
        name: len({row.patient_id for row in store.rows(name)}) for name in ("train", "val", "test")
    }


def _cells(entries: Sequence[Entry], scored: Sequence[ScoredCell]) -> list[dict[str, Any]]:
    by_key = {cell.key: cell for cell in scored}
    rows = []
    for entry in entries:
        row: dict[str, Any] = {**asdict(entry.cell), "key": entry.key}
        if entry.failure is not None:
            row |= {
                "status": "failed",
                "code": entry.failure.code,
                "message": entry.failure.message,
            }
        else:
            cell = by_key[entry.key]
            row |= {
                "status": "done",
                "val": _json(cell.val),
                "test": _json(cell.test),
                "chosen": dict(entry.chosen),
                "result_sha256": entry.result_sha256,
            }
        rows.append(row)
    return rows


def _json(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: finite(value) if isinstance(value, float) else value
        for name, value in content.items()
    }


def _cell(value: object) -> object:
    """A CSV cell; what is undefined is left empty."""
    return "" if isinstance(value, float) and math.isnan(value) else value
