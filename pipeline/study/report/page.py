"""The page: answer first, then a section for each question, then how it was made."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from data_prep.files import read_json, write_bytes
from data_prep.stage import PROVENANCE
from pipeline.page import data_uri, render
from pipeline.study.report.comparisons import comparison_section
from pipeline.study.report.conditions import condition_section, measured_section
from pipeline.study.report.curves import cost_section, learning_curve_section, other_metrics_section
from pipeline.study.report.limits import limit_section
from pipeline.study.report.parts import Record, Section
from pipeline.study.report.scans import agreement_section, calibration_section, confusion_section
from pipeline.study.results import COSTS, read_results

REPORT: Final = "report.html"
FIGURES: Final = "figures"
_ON_TOP: Final = 6  # sentences; the rest is behind a fold


def write_report(out: Path, results_in: Path | None = None) -> Path:
    """Write ``report.html`` and ``figures/*.svg`` from what ``run_study`` left in ``out``.

    Args:
        out: Folder of the study.
        results_in: Folder of the results, if not the study's own; the report lands beside them.

    Raises:
        StudyError: As ``read_results``.
    """
    place = results_in or out
    results = read_results(place)
    sections = _sections(results, _seconds_per_fit(place / COSTS, results["sizes"][-1]))
    _write_figures(place / FIGURES, sections)
    values = {
        **_head(results),
        "sections": sections,
        "files": {
            name: data_uri((place / name).read_bytes(), "text/csv")
            for name in dict.fromkeys(name for section in sections for name in section.files)
        },
        "made": _made(out, results),
    }
    write_bytes(place / REPORT, render("pipeline.study.report", "report.html.j2", values))
    return place / REPORT


def _sections(results: Record, costs: dict[str, float]) -> list[Section]:
    made = [
        learning_curve_section(results),
        limit_section(results),
        comparison_section(results),
        calibration_section(results),
        confusion_section(results),
        cost_section(results, costs),
        agreement_section(results),
        condition_section(results),
        measured_section(results),
        other_metrics_section(results),
    ]
    return [section for section in made if section is not None]


def _write_figures(folder: Path, sections: Sequence[Section]) -> None:
    """One file for each figure; what an earlier report left is removed."""
    folder.mkdir(exist_ok=True)
    figures = [figure for section in sections for figure in section.figures]
    for figure in figures:
        write_bytes(folder / f"{figure.name}.svg", figure.whole.encode())
    for path in folder.glob("*.svg"):
        if path.stem not in {figure.name for figure in figures}:
            path.unlink()


def _head(results: Record) -> dict[str, Any]:
    return {
        "cohort": results["cohort"],
        "sentences": results["sentences"][:_ON_TOP],
        "more_sentences": results["sentences"][_ON_TOP:],
        "caveats": results["caveats"],
        "sizes": results["sizes"],
        "families": list(results["families"]),
        "patients": results["patients"],
        "scans": results["scans"],
        "failed": [cell for cell in results["cells"] if cell["status"] == "failed"],
        "n_cells": len(results["cells"]),
        "pending": results["pending"],
    }


def _seconds_per_fit(path: Path, size: int) -> dict[str, float]:
    """Median seconds of one fit at a size, for each family that has one."""
    seconds = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["size"]) == size:
                seconds[row["family"]].append(float(row["fit_seconds"]))
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
