"""A finished study as runs for MLflow: study > families > cells.

Never a patient's or a scan's id, never a path: everything is taken from ``results.json`` and the
journal, which hold none, and tags are taken from a list of allowed names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from data_prep.config import dotted
from data_prep.errors import MedcurveError
from data_prep.files import digest, read_json
from pipeline.study.errors import StudyError
from pipeline.study.quantity import MEASURED
from pipeline.study.results import read_results, study_identity
from pipeline.study.usage import USAGE, read_usage
from pipeline.tracking.client import TrackingError
from pipeline.tracking.records import (
    ARM,
    CELL,
    CLAIM,
    CLAIM_MODE,
    CODE,
    GRID,
    KIND,
    NOTE,
    STUDY,
    TAGS,
    MetricPoint,
    RunRecord,
)

# Never hardest_scans.csv, which names scans.
ARTIFACTS: Final = (
    *("report.html", "results.json", "study.json", "curves.csv", "costs.csv"),
    *("decomposition.csv", "verdicts.csv", "comparisons.csv", "forecast.csv"),
    *("reliability.csv", "confusion.csv", "difficulty.csv"),
)
FIGURES: Final = "figures"  # folder of files that end in:
DRAWN: Final = (".svg", ".png")
_TERMS: Final = ("noise", "bias2", "variance_data", "variance_seed", "variance", "total")
_SAMPLES_SHOWN: Final = 500  # each for itself, the later ones as means:
_SAMPLES_A_MEAN: Final = 12  # of a minute
_MAX_PARAM: Final = 6000  # characters, MLflow's limit; a tag's is higher


def read_study(folder: Path) -> tuple[Mapping[str, Any], RunRecord]:
    """``results.json`` of a finished study, and its runs: study > families > cells.

    Raises:
        TrackingError: ``tracking.no_results`` if the study has not finished, or its results are
            not of this version; ``tracking.damaged_journal``.
    """
    try:
        results = read_results(folder)
    except StudyError as error:
        raise TrackingError("tracking.no_results", error.message, fix=error.fix) from error
    journal = {cell["key"]: _journal_entry(folder, cell["key"]) for cell in results["cells"]}
    identity = study_identity(folder, results)
    families = tuple(_family_run(results, identity, journal, name) for name in results["families"])
    config, patients = results["config"], results["patients"]
    settings = {name: value for name, value in config.items() if name not in GRID}
    params = {
        **_flat(settings),
        "task": results["task"]["kind"],
        "classes": ", ".join(results["task"]["class_names"]),
        "store": results["store"][:16],
        **{f"patients.{split}": str(count) for split, count in patients.items()},
        **_flat(results["arithmetic"], "arithmetic."),
    }
    grid = _flat({tag: config[name] for name, tag in GRID.items()})
    sentences = "\n".join(f"- {sentence}" for sentence in results["sentences"])
    study = RunRecord(
        key=identity,
        name=folder.resolve().name,
        tags=_tags(identity, "study", {NOTE: sentences, **_claim(results), **_short(grid)}),
        params=_short(params),
        metrics=(*_state(results, journal), *_system(folder)),
        failed=False,
        start_ms=min(run.start_ms for run in families),
        end_ms=max(run.end_ms for run in families),
        children=families,
        grows=True,
    )
    return results, study


def experiment_of(results: Mapping[str, Any]) -> str:
    """One experiment for each cohort, or for each claim: its cohorts are arms of it."""
    claim = results["config"].get("claim")
    return f"claim {claim['number']:02d}: {claim['title']}" if claim else str(results["cohort"])


def _state(
    results: Mapping[str, Any], journal: Mapping[str, Mapping[str, Any]]
) -> Iterator[MetricPoint]:
    """Where the study stands with so many cells: their number is the step.

    MLflow never forgets a point. So the study's own run, which an extension leaves standing, has
    no curve that would be drawn anew, but what each state of the study came to.
    """
    cells, metric, size = len(results["cells"]), results["config"]["metric"], results["sizes"][-1]
    spent = sum(sum(entry.get("seconds", {}).values()) for entry in journal.values())
    failed = sum(cell["status"] == "failed" for cell in results["cells"])
    yield MetricPoint("cells", float(cells), cells)
    yield MetricPoint("cells_failed", float(failed), cells)
    yield MetricPoint("compute_seconds", spent, cells)
    for point in results["points"]:
        where = point["metric"], point["split"], point["size"]
        if where == (metric, "test", size) and point["mean"] is not None:
            yield MetricPoint(f"test_{metric}/{point['family']}", point["mean"], cells)


def _system(folder: Path) -> Iterator[MetricPoint]:
    """What the machine was like while the study ran, under MLflow's own names.

    The first samples are shown each, later ones as means of whole minutes: no chart can show more,
    and no point changes when the study goes on.
    """
    samples = read_usage(folder / USAGE)
    later = samples[_SAMPLES_SHOWN:]
    minutes = [later[n : n + _SAMPLES_A_MEAN] for n in range(0, len(later), _SAMPLES_A_MEAN)]
    whole = [minute for minute in minutes if len(minute) == _SAMPLES_A_MEAN]
    for step, some in enumerate([*([one] for one in samples[:_SAMPLES_SHOWN]), *whole]):
        rows = [asdict(sample) for sample in some]
        for name in rows[0]:
            if name != "time_ms":
                value = round(fmean(row[name] for row in rows), 1)
                yield MetricPoint(f"system/{name}", value, step, rows[-1]["time_ms"])


def _family_run(
    results: Mapping[str, Any],
    identity: str,
    journal: Mapping[str, Mapping[str, Any]],
    family: str,
) -> RunRecord:
    """A family's learning curves: every metric with step = number of training patients."""
    mine = [cell for cell in results["cells"] if cell["family"] == family]
    cells = tuple(_cell_run(identity, cell, journal[cell["key"]]) for cell in mine)
    metrics = list(_tradeoff(results, family))  # the UI's table keeps this order
    for point in sorted(results["points"], key=lambda point: point["split"]):
        if point["family"] == family:
            name = _metric_name(point["split"], point["metric"])
            metrics += _with_ends(name, point, "mean")
    fits = defaultdict(list)
    for cell in mine:
        if cell["status"] == "done":
            fits[cell["size"]].append(journal[cell["key"]]["seconds"]["fit"])
    metrics += [MetricPoint("fit_seconds", median(fits[size]), size) for size in sorted(fits)]
    return RunRecord(
        key=digest([identity, "family", family]),
        name=family,
        tags=_tags(identity, "family", _arm(results, family)),
        params=_short(_flat(results["families"][family])),
        metrics=tuple(metrics),
        failed=all(cell.failed for cell in cells),
        start_ms=min(cell.start_ms for cell in cells),
        end_ms=max(cell.end_ms for cell in cells),
        children=cells,
    )


def _tradeoff(results: Mapping[str, Any], family: str) -> Iterator[MetricPoint]:
    """Bias and variance of the expected squared loss, and the gap from training to test scans.

    Where one subset takes every patient, what is left of the variance is the seed's alone: it is
    drawn as that, and not as a fall of the variance.
    """
    parts = [
        part
        for part in results["decomposition"]
        if (part["family"], part["loss"], part["class_name"]) == (family, "squared", "")
        and part["term"] in _TERMS
    ]
    whole = {
        part["size"]
        for part in parts
        if part["term"] == "variance_data" and part["value"] is not None
    }
    terms = [
        (part["term"], part)
        for part in parts
        if part["term"] != "variance" or part["size"] in whole
    ]
    gaps = [("train_test_gap", gap) for gap in results["gaps"] if gap["family"] == family]
    for name, found in (*terms, *gaps):
        yield from _with_ends(name, found, "value")


def _with_ends(name: str, found: Mapping[str, Any], value: str) -> Iterator[MetricPoint]:
    """A value with its interval and spread; what is undefined is left out.

    All without a section (``section/name``): MLflow draws sections before what has none.
    """
    ends = ("low", "high", "sd_subsets")
    for metric, key in {name: value, **{f"{name}_{end}": end for end in ends}}.items():
        if found.get(key) is not None:
            yield MetricPoint(metric, found[key], found["size"])


def _metric_name(split: str, metric: str) -> str:
    """``test_auc``, ``test/shift 4 px_auc``, ``measured/position_r2``: MLflow takes no comma."""
    if split == MEASURED:
        return f"{MEASURED}/{metric.replace('/', '_')}".replace(",", "")
    return f"{split}_{metric}".replace(",", "")


def _cell_run(identity: str, cell: Mapping[str, Any], entry: Mapping[str, Any]) -> RunRecord:
    size, done = cell["size"], cell["status"] == "done"
    values: dict[str, float | None] = {}
    if done:
        for split in ("test", "val", "train"):
            values |= {f"{split}_{metric}": value for metric, value in cell[split].items()}
        values |= {f"{name}_seconds": value for name, value in entry["seconds"].items()}
        values |= {f"chosen_{name}": value for name, value in cell["chosen"].items()}
    metrics = [MetricPoint(name, v, size) for name, v in values.items() if v is not None]
    for name, epochs in entry.get("history", {}).items():
        metrics += [
            MetricPoint(f"history/{name}", value, epoch)
            for epoch, value in enumerate(epochs, start=1)
            if value is not None
        ]
    seconds = sum(entry["seconds"].values()) if done else 0.0
    place = {name: str(cell[name]) for name in ("family", "size", "subset", "seed")}
    return RunRecord(
        key=digest([identity, "cell", cell["key"]]),
        name=f"{cell['family']}-{size}-subset{cell['subset']}-seed{cell['seed']}",
        tags=_tags(identity, "cell", {CELL: cell["key"]} | ({} if done else {CODE: cell["code"]})),
        params=place,
        metrics=tuple(metrics),
        failed=not done,
        start_ms=entry["finished_ms"] - round(1000 * seconds),
        end_ms=entry["finished_ms"],
    )


def _journal_entry(folder: Path, key: str) -> Mapping[str, Any]:
    try:
        entry: dict[str, Any] = read_json(folder / "cells" / f"{key}.json")
        return entry
    except MedcurveError as error:
        raise TrackingError(
            "tracking.damaged_journal", error.message, fix="run the study again: it is mended"
        ) from error


def _tags(identity: str, kind: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    tags = {KIND: kind, STUDY: identity, **(more or {})}
    assert tags.keys() <= TAGS
    return tags


def _claim(results: Mapping[str, Any]) -> dict[str, str]:
    """Which claim the study puts to the test, and how; results of before may not say how."""
    claim = results["config"].get("claim")
    if not claim:
        return {}
    mode = {CLAIM_MODE: claim["mode"]} if "mode" in claim else {}
    return {CLAIM: str(claim["number"]), **mode}


def _arm(results: Mapping[str, Any], family: str) -> dict[str, str]:
    claim = _claim(results)
    return claim and {**claim, ARM: f"{family} on {results['cohort']}"}


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names with text values."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in dotted(content, prefix).items()
    }


def _short(params: Mapping[str, str]) -> dict[str, str]:
    return {name: value[:_MAX_PARAM] for name, value in params.items()}
