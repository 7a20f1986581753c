"""From findings to ``results.json`` and CSV tables: the same bytes for the same cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_prep.files import write_csv, write_json
from data_prep.store import Store
from data_prep.task import Task
from pipeline.study.comparison import Difference
from pipeline.study.components import Component
from pipeline.study.confusion import Confusion, Difficulty, missed_by_all
from pipeline.study.contested import CONTESTED, contested, draw_contested
from pipeline.study.findings import Findings
from pipeline.study.forecast import Outlook
from pipeline.study.grid import Plan
from pipeline.study.journal import Entry, finite
from pipeline.study.learning_curve import Point
from pipeline.study.outcomes import Outcomes
from pipeline.study.reliability import ReliabilityBin
from pipeline.study.results import (
    COMPARISONS,
    CONFUSION,
    COSTS,
    CURVES,
    DECOMPOSITION,
    DIFFICULTY,
    FORECAST,
    FORMAT,
    FORMAT_VERSION,
    HARDEST_SCANS,
    RELIABILITY,
    RESULTS,
    VERDICTS,
)
from pipeline.study.selection import ScoredCell
from pipeline.study.verdict import Verdict

_FORECAST_COLUMNS: Final = (
    *("kind", "family", "other", "metric", "target", "size", "fitted_to", "status"),
    *("value", "low", "high", "measured", "asymptote", "asymptote_low", "asymptote_high"),
)
_RANKED: Final = ("family", "size", "ranked_by", "rank", "scan_id", "label", "loss", "spread")


def write_results(
    out: Path, cohort: str, plan: Plan, store: Store, entries: Sequence[Entry], found: Findings
) -> None:
    """Write ``results.json`` and every table, as ``pipeline.study.results`` names them.

    Args:
        out: The study's folder, or that of its interim report.
        cohort: The cohort's name.
        plan: The study, laid out.
        store: What it ran on.
        entries: The cells that are there, in the plan's order.
        found: What they come to.
    """
    points = list(found.curves.points.values())
    pictured = contested(found.decomposed)
    choices = {rule: asdict(one) if one else None for rule, one in found.choices.items()}
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
        "release": choices[plan.config.release.rule],
        "choices": choices,
        "gaps": [_json(asdict(gap)) for gap in found.gaps],
        "points": [_json(asdict(point)) for point in points],
        "differences": [_json({**asdict(d), "winner": d.winner}) for d in found.differences],
        "trends": [_json({**asdict(t), "verdict": t.verdict}) for t in found.trends],
        "reaches": [_json({**asdict(one), "verdict": one.verdict}) for one in found.reaches],
        "decomposition": [_json(asdict(c)) for one in found.decomposed for c in one.components],
        "verdicts": [asdict(verdict) for verdict in found.verdicts],
        **_outlook(found.outlook),
        **_outcomes(found.outcomes),
        "contested": sum(len(one.scans) for one in pictured),
        "pending": len(plan.cells) - len(entries),
        "cells": _cells(entries, found.cells),
    }
    write_json(out / RESULTS, content)
    _write_tables(out, found)
    _write_hardest(out, plan, store, found)
    draw_contested(out / CONTESTED, plan.task, store, pictured)
    write_csv(
        out / COSTS,
        ("family", "size", "subset", "seed", "fit_seconds", "predict_seconds"),
        [
            (*asdict(e.cell).values(), round(e.seconds["fit"], 4), round(e.seconds["predict"], 4))
            for e in entries
            if e.failure is None
        ],
    )


def _outcomes(found: Sequence[Outcomes]) -> dict[str, Any]:
    """What the fits of the largest size do on the test scans, all families in one list."""
    return {
        "reliability": [_json(asdict(one)) for each in found for one in each.bins],
        "calibration": [_json(asdict(each.calibration)) for each in found],
        "confusion": [_json(asdict(one)) for each in found for one in each.confusion],
        "difficulty": [_json(asdict(one)) for each in found for one in each.difficulty],
        "missed_by_all": missed_by_all([each.missed for each in found]),
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    """Laws and what follows; what is infinite or not known is null."""
    laws = [
        {
            "family": name,
            "sizes": list(law.sizes),
            **_json({part: float(values[0]) for part, values in vars(law.laws).items()}),
        }
        for name, law in outlook.fitted.items()
    ]
    return {
        "laws": laws,
        "forecasts": [_json(asdict(one)) for one in outlook.forecasts],
        "ahead": [_json(asdict(one)) for one in outlook.ahead],
        "band": [_json(asdict(one)) for one in outlook.band],
        "backtest": [_json({**asdict(one), "covered": one.covered}) for one in outlook.backtest],
        "crossings": [_json(asdict(one)) for one in outlook.crossings],
    }


def _write_tables(out: Path, found: Findings) -> None:
    components = [c for one in found.decomposed for c in one.components]
    winners = [{**asdict(pair), "winner": pair.winner} for pair in found.differences]
    _write_rows(out / CURVES, _names(Point), map(asdict, found.curves.points.values()))
    _write_rows(out / DECOMPOSITION, _names(Component), map(asdict, components))
    _write_rows(out / VERDICTS, _names(Verdict), map(asdict, found.verdicts))
    _write_rows(out / COMPARISONS, (*_names(Difference), "winner"), winners)
    _write_rows(out / FORECAST, _FORECAST_COLUMNS, _forecast_rows(found.outlook))
    for name, kind, rows in (
        (RELIABILITY, ReliabilityBin, [row for one in found.outcomes for row in one.bins]),
        (CONFUSION, Confusion, [row for one in found.outcomes for row in one.confusion]),
        (DIFFICULTY, Difficulty, [row for one in found.outcomes for row in one.difficulty]),
    ):
        _write_rows(out / name, _names(kind), map(asdict, rows))


def _forecast_rows(outlook: Outlook) -> Iterator[dict[str, Any]]:
    """Every forecast as one kind of row.

    ``target``: patients for a target score, and the score that the family levels off at;
    ``size``: a score at a number of patients beyond the study, or, with ``measured``, in the
    back-test; ``band``: scores from the largest size on to there; ``crossing``: patients at which
    ``family`` is overtaken by ``other``. What is not identifiable has no value.
    """
    for one in outlook.forecasts:
        yield {"kind": "target", **asdict(one), "value": one.patients}
    for told in (*outlook.ahead, *outlook.backtest):
        agrees = "covered" if told.covered else "missed"
        status = "" if math.isnan(told.measured) else agrees
        yield {"kind": "size", **asdict(told), "status": status}
    for between in outlook.band:
        yield {"kind": "band", **asdict(between)}
    for met in outlook.crossings:
        row = {"kind": "crossing", "family": met.leader, "other": met.follower}
        row |= {"metric": met.metric}
        if met.settled:
            at = {"value": met.patients, "low": met.low, "high": met.high}
            yield {**row, **at, "status": "settled"}
        else:
            yield {**row, "status": "not identifiable"}


def _write_hardest(out: Path, plan: Plan, store: Store, found: Findings) -> None:
    """Name the hardest scans, for the operator's eyes only."""
    tests = store.rows("test")
    rows = [
        {
            **asdict(rank),
            "scan_id": tests[rank.scan].scan_id,
            "label": _label(plan.task, tests[rank.scan].target),
        }
        for rank in found.hardest
    ]
    _write_rows(out / HARDEST_SCANS, _RANKED, rows)
    (out / HARDEST_SCANS).chmod(0o600)


def _label(task: Task, target: tuple[int, ...]) -> str:
    """The class of a scan, or all of its labels."""
    row = task.one_hot(np.array([target if task.is_multi_label else target[0]]))[0]
    return ", ".join(name for name, has in zip(task.class_names, row, strict=True) if has)


def _write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    write_csv(path, columns, [[_cell(row.get(name, "")) for name in columns] for row in rows])


def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


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
                "train": _json(cell.train),
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
