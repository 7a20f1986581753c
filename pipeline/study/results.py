"""``results.json`` and the tables of a study: what they are called, and how they are read.

None of them holds a path or an identifier of a patient or scan: they are what the report shows and
MLflow gets. None but ``costs.csv`` holds a time: what cells cost stands there, in the journal, and
in the report's section on cost. Which scans are hardest cannot be told without naming scans, and a
scan's id is the digest of its content, by which whoever has the image finds it again. So that
table, ``hardest_scans.csv``, is the operator's own: readable by its owner only, part of
nothing that is shown or synced; and so is the picture of the most contested scans
(``pipeline.study.contested``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from data_prep.errors import StageError
from data_prep.files import digest, read_json
from pipeline.study.errors import StudyError

RESULTS: Final = "results.json"
CURVES: Final = "curves.csv"
COSTS: Final = "costs.csv"
DECOMPOSITION: Final = "decomposition.csv"
VERDICTS: Final = "verdicts.csv"
COMPARISONS: Final = "comparisons.csv"
FORECAST: Final = "forecast.csv"
RELIABILITY: Final = "reliability.csv"
CONFUSION: Final = "confusion.csv"
DIFFICULTY: Final = "difficulty.csv"
HARDEST_SCANS: Final = "hardest_scans.csv"
FORMAT: Final = "medcurve-study"
FORMAT_VERSION: Final = 3


def read_results(folder: Path) -> dict[str, Any]:
    """``results.json`` of a study, or of its interim report.

    Raises:
        StudyError: ``study.no_results`` if there is none, ``study.damaged_results`` if it cannot be
            read, ``study.foreign_results`` if it was written by another version of medcurve, or by
            hand.
    """
    path = folder / RESULTS
    if not folder.is_dir():
        raise StudyError(
            "study.no_results",
            f"{folder} does not exist: this study was never run on this cohort",
            fix="run `medcurve study` first",
        )
    if not path.is_file():
        raise StudyError(
            "study.no_results",
            f"{folder} has no {RESULTS}: the study has not finished",
            fix="run `medcurve study` first; it goes on where it stopped",
        )
    try:
        results = read_json(path)
    except StageError as error:
        raise StudyError(
            "study.damaged_results",
            error.message,
            fix="run `medcurve study` again: cells that stand are not computed again, results are "
            "written anew",
        ) from error
    found = (results.get("format"), results.get("version")) if isinstance(results, dict) else None
    if not isinstance(results, dict) or found != (FORMAT, FORMAT_VERSION):
        raise StudyError(
            "study.foreign_results",
            f"{path}: format and version are {found}; read is {(FORMAT, FORMAT_VERSION)}",
            fix="run `medcurve study` again: cells of this version stand, results are written anew",
        )
    return results


def study_identity(folder: Path, results: Mapping[str, Any]) -> str:
    """What a study is known by wherever it is shown: its cohort, store and name.

    The grid is not part of it, nor any setting, so that an extended study stays the same one. But
    a claim that is run small, or undone, is another study than the claim at full size, also where
    all of them are shown by one server.
    """
    known = [results["cohort"], results["store"], folder.resolve().name]
    mode = (results["config"].get("claim") or {}).get("mode", "full")
    return digest(known if mode == "full" else [*known, mode])
