"""What a study's folder says of the study itself: ``study.json``, and how much of it stands.

The record is written before the first cell is computed, so that whoever finds the folder later can
tell which cells are still to come, and whether ``results.json`` is of this grid or of one before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from data_prep.errors import MedcurveError, StageError
from data_prep.files import read_json, write_json
from data_prep.stage import PROVENANCE
from pipeline.families import FamilyConfig
from pipeline.study.config import StudyConfig
from pipeline.study.extension import EXTENSION
from pipeline.study.grid import Cell, Plan
from pipeline.study.journal import CELLS, Journal
from pipeline.study.plan import recorded_study
from pipeline.study.results import RESULTS, read_results

STUDY: Final = "study.json"
_FORMAT: Final = {"format": "medcurve-study-record", "version": 1}

_BEFORE: Final = (CELLS, EXTENSION)  # what a run may leave that was killed before its record
_PARTIAL: Final = re.compile(r"\.(study|extension)\.json\.\d+\.part")
_OF_JOURNAL: Final = re.compile(
    r"[0-9a-f]{64}\.(json|safetensors)|\.[0-9a-f]{64}\.(json|safetensors)\.\d+\.part"
)


@dataclass(frozen=True)
class StudyRecord:
    """A study as its folder has it.

    Attributes:
        cohort: Name of the cohort.
        store: Digest of the store.
        config: What was asked.
        families: Config of each family.
        cells: Every cell of the grid, by key.
    """

    cohort: str
    store: str
    config: StudyConfig
    families: Mapping[str, FamilyConfig]
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Standing:
    """How much of a study stands.

    Attributes:
        cells: Of its grid.
        pending: Of these, still to be computed.
        shown: Cells in ``results.json``; 0 where there is none.
        finished: True where ``results.json`` is of this very grid.
        damaged: What is wrong with entries of the journal, each in words; they are pending.
    """

    cells: int
    pending: int
    shown: int
    finished: bool
    damaged: tuple[str, ...]

    def __str__(self) -> str:
        """What is pending, and what is shown meanwhile."""
        pending = f"{self.pending} of {self.cells} cells are pending"
        if not self.pending:
            pending = f"all {self.cells} cells are computed, their results are not yet written"
        before = f"; the results are those of {self.shown} cells before" if self.shown else ""
        return f"{pending}{before}; `medcurve study` goes on"


def write_record(out: Path, cohort: str, plan: Plan) -> None:
    """Write what the study is, before any of its cells is computed."""
    families = {name: family.model_dump(mode="json") for name, family in plan.families.items()}
    content = {
        **_FORMAT,
        "cohort": cohort,
        "store": plan.store_digest,
        "config": plan.config.model_dump(mode="json"),
        "families": families,
        "cells": [{**vars(planned.cell), "key": planned.key} for planned in plan.cells],
    }
    write_json(out / STUDY, content)


def holds_study(out: Path) -> bool:
    """True where a study has written into a folder, also one that did not come to its record.

    The journal stands for a record that is gone. A kill before the record leaves nothing but what
    is written before it.
    """
    if (out / STUDY).is_file():
        return True
    names = {path.name for path in out.iterdir()}
    cells = [path.name for path in (out / CELLS).iterdir()] if CELLS in names else []
    if PROVENANCE in names or not all(map(_OF_JOURNAL.fullmatch, cells)):
        return False
    return bool(cells) or all(name in _BEFORE or _PARTIAL.fullmatch(name) for name in names)


def read_record(out: Path) -> StudyRecord | None:
    """What the study in a folder is; None where there is none, one of another version, or damaged.

    The study writes it anew when it is run.
    """
    if not (out / STUDY).is_file():
        return None
    try:
        content = read_json(out / STUDY)
        if any(content[name] != value for name, value in _FORMAT.items()):
            return None
        config, families = recorded_study(content)
        cells = {row.pop("key"): Cell(**row) for row in content["cells"]}
        return StudyRecord(content["cohort"], content["store"], config, families, cells)
    except (MedcurveError, AttributeError, KeyError, TypeError):
        return None


def read_standing(out: Path) -> Standing | None:
    """How much of the study in a folder stands; None as ``read_record``.

    Raises:
        StudyError: ``study.foreign_results`` or ``study.damaged_results``.
    """
    record = read_record(out)
    if record is None:
        return None
    there = (out / RESULTS).is_file()
    shown = {cell["key"] for cell in read_results(out)["cells"]} if there else set()
    damaged: list[str] = []
    entries = Journal(out / CELLS).standing(
        record.cells, lambda key, error: damaged.append(f"{record.cells[key]}: {error.message}")
    )
    return Standing(
        cells=len(record.cells),
        pending=len(record.cells) - len(entries),
        shown=len(shown),
        finished=shown == set(record.cells),
        damaged=tuple(damaged),
    )


def refuse_unfinished(out: Path) -> None:
    """Say how far a study has come that is not finished, and which one on another prep config is.

    A folder that is no study's is passed over: whoever reads it as a stage refuses it.

    Raises:
        StageError: ``stage.incomplete``.
        StudyError: As ``read_standing``.
    """
    if (out / PROVENANCE).is_file():
        return
    finished = [
        folder
        for folder in sorted(out.parent.glob(f"{out.name}-*"))
        if (folder / PROVENANCE).is_file()
        and (out.parent / f"store-{folder.name.removeprefix(f'{out.name}-')}").is_dir()
    ]
    standing = read_standing(out)
    if standing is None and not finished:
        return
    raise StageError(
        "stage.incomplete",
        f"{out}: {standing or 'there is no study to release from'}",
        fix=f"a finished study stands in {' and '.join(map(str, finished))}: name the prep config "
        "that it ran on by --prep"
        if finished
        else "release once it has finished",
    )


def left_out(out: Path, record: StudyRecord | None, plan: Plan) -> str:
    """What a study had computed that its grid no longer has, in words; "" where nothing."""
    if record is None:
        return ""
    now = {planned.cell for planned in plan.cells}
    gone = [
        cell
        for key, cell in record.cells.items()
        if cell not in now and (out / CELLS / f"{key}.json").is_file()
    ]
    if not gone:
        return ""
    sides = ("families", "family"), ("sizes", "size"), ("subsets", "subset"), ("seeds", "seed")
    words = [
        f"{name} {_listed(values)}"
        for name, side in sides
        if (values := _values(gone, side) - _values(now, side))
    ]
    return (
        f"{len(gone)} computed cells are not in the study's grid any more ({', '.join(words)}): "
        "its results and report leave them out; the journal keeps them"
    )


def _values(cells: Iterable[Cell], side: str) -> set[Any]:
    return {getattr(cell, side) for cell in cells}


def _listed(values: Iterable[Any]) -> str:
    return " and ".join(map(str, sorted(values)))
