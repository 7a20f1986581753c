"""Run a study: lay it out, compute the cells that are missing, say what was found."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from data_prep.files import write_json
from data_prep.progress import Progress, silent
from data_prep.stage import PROVENANCE, refuse_foreign, write_provenance
from pipeline.study.config import StudyConfig
from pipeline.study.engine import run_local
from pipeline.study.errors import StudyError, StudyStoppedError
from pipeline.study.features import Preparation, preparation
from pipeline.study.grid import Plan, PlannedCell
from pipeline.study.journal import CELLS, CellResult, Entry, Failure, Journal
from pipeline.study.plan import open_plan
from pipeline.study.results import FORMAT, FORMAT_VERSION, find, write_results
from pipeline.study.worker import Setup

STUDY: Final = "study.json"
FEATURES: Final = "features"
CHECKPOINTS: Final = "checkpoints"

Say = Callable[[str], None]


@dataclass(frozen=True)
class StudyResult:
    """What a study did and found.

    Attributes:
        out: Its folder.
        cells: Cells of the grid.
        computed: Cells that this run computed; the others stood in the journal.
        failed: Cells without a result.
        sentences: What was found, in words, most important first.
    """

    out: Path
    cells: int
    computed: int
    failed: int
    sentences: tuple[str, ...]


def _say_nothing(_: str) -> None:
    """Report events to nobody."""


def run_study(
    config: StudyConfig,
    store_folder: Path,
    out: Path,
    *,
    workers: int = 1,
    progress: Progress = silent,
    on_event: Say = _say_nothing,
    cohort: str = "",
) -> StudyResult:
    """Run a study, or go on with one that was interrupted.

    Args:
        config: What to vary.
        store_folder: What prep wrote.
        out: Folder of the study; cells that stand in its journal are not computed again.
        workers: Processes; the results do not depend on it.
        progress: Told (cells done, cells in all).
        on_event: Told, in words, what a user should know while it runs.
        cohort: Name of the cohort, for the record; else that of the store's parent folder.

    Raises:
        ConfigError: A family's config is missing or wrong.
        CohortError: A size does not fit the cohort.
        StageError: The store is missing or damaged, or ``out`` is not a study's folder.
        StudyError: Another process runs this study, or no cell could be computed.
        StudyStoppedError: A signal stopped it; running it again goes on where it stopped.
    """
    plan, store = open_plan(config, store_folder)
    cohort = cohort or store_folder.resolve().parent.name
    with _locked(out):
        _begin(out, cohort, plan)
        journal = Journal(out / CELLS)
        entries = _journaled(plan, journal, on_event)
        missing = [planned for planned in plan.cells if planned.key not in entries]
        if entries:
            on_event(f"{len(entries)} of {len(plan.cells)} cells stand in the journal")
        _compute(plan, store_folder, out, missing, entries, workers, progress, on_event)
        ordered = [entries[planned.key] for planned in plan.cells]
        _refuse_all_failed(ordered)
        found = find(plan, store, journal, ordered, silent)
        write_results(out, cohort, plan, store, ordered, found)
        for passing in (FEATURES, CHECKPOINTS):
            shutil.rmtree(out / passing, ignore_errors=True)
        write_provenance(out, "study", {"store": plan.store_digest}, _settings(plan))
    return StudyResult(
        out=out,
        cells=len(plan.cells),
        computed=len(missing),
        failed=sum(entry.failure is not None for entry in ordered),
        sentences=found.sentences,
    )


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "study": plan.config.model_dump(mode="json"),
        "families": {name: f.model_dump(mode="json") for name, f in plan.families.items()},
    }


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the study's folder for this process alone."""
    if not (out / STUDY).is_file():
        refuse_foreign(out, "study")
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(
                "study.locked",
                f"{out}: another process is running this study",
                fix="wait until it has finished, or choose another --out",
            ) from error
        yield
    finally:
        os.close(handle)


def _begin(out: Path, cohort: str, plan: Plan) -> None:
    (out / PROVENANCE).unlink(missing_ok=True)  # not complete from here on
    write_json(
        out / STUDY,
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "cohort": cohort,
            "study": plan.digest,
            "store": plan.store_digest,
            "cells": len(plan.cells),
            **_settings(plan),
        },
    )


def _journaled(plan: Plan, journal: Journal, on_event: Say) -> dict[str, Entry]:
    """Entries that stand; what is damaged or failed in passing is left out, and that is said."""
    entries = {}
    for planned in plan.cells:
        try:
            entry = journal.read(planned.key)
        except StudyError as error:
            on_event(f"{planned.cell}: {error.message}; it is computed again")
            continue
        if entry is not None and not (entry.failure and entry.failure.passing):
            entries[planned.key] = entry
    return entries


def _compute(
    plan: Plan,
    store_folder: Path,
    out: Path,
    missing: list[PlannedCell],
    entries: dict[str, Entry],
    workers: int,
    progress: Progress,
    on_event: Say,
) -> None:
    """Compute the missing cells and journal each as it is finished."""
    journal, total = Journal(out / CELLS), len(plan.cells)
    progress(len(entries), total)
    if not missing:
        return
    setup = Setup(
        store=store_folder,
        features=out / FEATURES,
        checkpoints=out / CHECKPOINTS,
        families=plan.families,
        threads=plan.config.threads,
    )
    needs = _needs(plan)
    with _signals() as signals:
        cells = run_local(
            setup,
            missing,
            lambda planned: needs[planned.cell.family, planned.cell.seed],
            workers=workers,
            stopped=lambda: bool(signals),
        )
        for planned, result in cells:
            now_ms = time.time_ns() // 1_000_000
            entries[planned.key] = journal.write(planned.cell, planned.key, result, now_ms)
            if not (isinstance(result, Failure) and result.passing):
                shutil.rmtree(setup.checkpoints / planned.key, ignore_errors=True)
            for note in result.notes if isinstance(result, CellResult) else ():
                on_event(f"{planned.cell}: {note}")
            if isinstance(result, Failure):
                on_event(f"{planned.cell} failed: [{result.code}] {result.message}")
            progress(len(entries), total)
    if signals and len(entries) < total:
        raise StudyStoppedError(
            "study.stopped",
            f"stopped by {signal.Signals(signals[0]).name}; {len(entries)} of {total} cells are "
            "done and stand in the journal",
            fix="run the same command again to go on",
            signum=signals[0],
        )


def _needs(plan: Plan) -> Mapping[tuple[str, int], Preparation | None]:
    return {
        (name, seed): preparation(name, config, seed, plan.store_digest, plan.arithmetic)
        for name, config in plan.families.items()
        for seed in plan.seeds
    }


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list in place of dying from them."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python delivers signals to the main thread only
        return
    before = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _refuse_all_failed(entries: list[Entry]) -> None:
    if all(entry.failure is not None for entry in entries):
        failure = entries[0].failure
        assert failure is not None
        raise StudyError(
            "study.all_failed",
            f"all {len(entries)} cells failed, first: [{failure.code}] {failure.message}",
            fix="mend the cause and run the study again",
        )
