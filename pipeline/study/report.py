"""The report: one page that stands by itself, answer first, without network or patient data."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Final

from data_prep.files import read_json, write_bytes
from data_prep.stage import PROVENANCE
from pipeline.metrics import METRICS
from pipeline.page import render
from pipeline.study.config import METRIC_WORDS
from pipeline.study.errors import StudyError
from pipeline.study.figures import cost_against_score, learning_curves
from pipeline.study.journal import CELLS, Journal
from pipeline.study.results import CURVES, RESULTS

REPORT: Final = "report.html"

Record = Mapping[str, Any]


def write_report(out: Path, results_in: Path | None = None) -> Path:
    """Write ``report.html`` from what ``run_study`` left in the folder ``out``.

    Args:
        out: Folder of the study.
        results_in: Folder of the results, if not the study's own; the report lands beside them.

    Raises:
        StudyError: ``study.no_results`` if the study has not finished.
    """
    place = results_in or out
    if not (place / RESULTS).is_file():
        raise StudyError(
            "study.no_results",
            f"{out} has no {RESULTS}: the study has not finished",
            fix="run `medcurve study` first; it goes on where it stopped",
        )
    results = read_json(place / RESULTS)
    values = {
        **_head(results),
        **_figures(out, results),
        **_tables(results),
        "made": _made(out, results),
        "curves_csv": _data_uri((place / CURVES).read_bytes()),
    }
    write_bytes(place / REPORT, render("pipeline.study", "report.html.j2", values))
    return place / REPORT


def _head(results: Record) -> dict[str, Any]:
    config = results["config"]
    return {
        "cohort": results["cohort"],
        "sentences": results["sentences"],
        "caveats": results["caveats"],
        "metric": METRIC_WORDS[config["metric"]],
        "level": f"{100 * config['level']:g} %",
        "sizes": results["sizes"],
        "families": list(results["families"]),
        "patients": results["patients"],
        "scans": results["scans"],
        "classes": results["task"]["class_names"],
        "subsets": config["subsets"],
        "seeds": config["seeds"],
        "failed": [cell for cell in results["cells"] if cell["status"] == "failed"],
        "n_cells": len(results["cells"]),
        "pending": results["pending"],
    }


def _figures(out: Path, results: Record) -> dict[str, Any]:
    families, config = list(results["families"]), results["config"]
    points, metric = results["points"], config["metric"]
    last = [
        point
        for point in points
        if point["size"] == results["sizes"][-1]
        and point["metric"] == metric
        and point["split"] == "test"
    ]
    costs = _seconds_per_fit(out, results)
    return {
        "headline_figure": learning_curves(points, families, metric, config["targets"]),
        "cost_figure": cost_against_score(costs, last, families, metric),
        "costs": {family: f"{seconds:.3g} s" for family, seconds in costs.items()},
        "other_figures": {
            METRIC_WORDS[other]: learning_curves(points, families, other)
            for other in METRICS
            if other != metric
        },
    }


def _tables(results: Record) -> dict[str, Any]:
    metric, sizes = results["config"]["metric"], results["sizes"]
    shown = {
        (point["family"], point["size"], point["metric"]): _interval(point)
        for point in results["points"]
        if point["split"] == "test"
    }
    families = list(results["families"])
    by_size = groupby(results["differences"], key=lambda pair: pair["size"])
    return {
        "score_rows": [
            (size, [shown[family, size, metric] for family in families]) for size in sizes
        ],
        "metric_names": [METRIC_WORDS[name] for name in METRICS],
        "metric_rows": [
            (family, [shown[family, sizes[-1], name] for name in METRICS]) for family in families
        ],
        "difference_rows": [
            (size, [_difference(pair) for pair in pairs]) for size, pairs in by_size
        ],
    }


def _interval(point: Record) -> tuple[str, str]:
    """Mean and ends of a point, to be set on two lines where there is little room."""
    if point["mean"] is None:
        return ("–", "")
    ends = "" if point["low"] is None else f"[{point['low']:.3f}, {point['high']:.3f}]"
    return (f"{point['mean']:.3f}", ends)


def _difference(pair: Record) -> tuple[str, str, str]:
    names = f"{pair['first']} – {pair['second']}"
    if pair["gain"] is None:
        return names, "–", "not defined"
    gain = f"{pair['gain']:+.3f} [{pair['low']:+.3f}, {pair['high']:+.3f}]"
    return names, gain, f"{pair['winner']} is better" if pair["winner"] else "within noise"


def _seconds_per_fit(out: Path, results: Record) -> dict[str, float]:
    """Median seconds of one fit at the largest size, for each family that has one."""
    journal, seconds = Journal(out / CELLS), defaultdict(list)
    for cell in results["cells"]:
        if cell["size"] == results["sizes"][-1] and cell["status"] == "done":
            entry = journal.read(cell["key"])
            if entry is not None:
                seconds[cell["family"]].append(entry.seconds["fit"])
    return {family: median(values) for family, values in seconds.items()}


def _made(out: Path, results: Record) -> Sequence[tuple[str, str]]:
    """How the study was made: pairs of a name and a value."""
    config = results["config"]
    record = read_json(out / PROVENANCE) if (out / PROVENANCE).is_file() else {}
    return [
        ("Cohort", results["cohort"]),
        ("Task", f"{results['task']['kind']}: {', '.join(results['task']['class_names'])}"),
        ("Study", results["study"][:16]),
        ("Store", results["store"][:16]),
        ("Base seed", str(config["seed"])),
        ("Validation patients", f"{config['validation']} of {results['patients']['val']}"),
        ("Bootstrap", f"{config['resamples']} resamples, level {config['level']:g}"),
        ("Release rule", f"{config['release']['rule']} (validation only)".replace("_", " ")),
        ("medcurve", record.get("medcurve", "–")),
        ("Code", (record.get("git_commit", "") or "–")[:20]),
        ("Arithmetic", ", ".join(f"{k} {v}" for k, v in results["arithmetic"].items())),
    ]


def _data_uri(data: bytes) -> str:
    return f"data:text/csv;base64,{base64.b64encode(data).decode()}"
