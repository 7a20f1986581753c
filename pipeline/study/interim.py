"""A report of the cells that stand so far, while the others are still being computed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, Self

from data_prep.errors import MedcurveError
from data_prep.progress import silent
from data_prep.stage import stage_digest
from data_prep.store import Store
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.findings import find
from pipeline.study.grid import Plan
from pipeline.study.journal import CELLS, Entry, Journal
from pipeline.study.plan import lay_out, open_plan
from pipeline.study.record import read_record
from pipeline.study.report import REPORT, write_report
from pipeline.study.results_writer import write_results
from pipeline.study.spawned import spawned

INTERIM: Final = "interim"
_FIRST_AFTER_S: Final = 30.0
_GROWTH: Final = 3.0  # the next report waits this many times as long as the last: they cost time
_WORTH_S: Final = 60.0  # nearer to the end the reader may as well wait
_NICE: Final = 10


@contextmanager
def shown_by_one(out: Path) -> Iterator[None]:
    """Hold what a study shows, apart from its journal, for this process alone; wait for others.

    A report that is asked for while the study runs must not be written while the study removes
    ``interim/``. The lock lies on the journal's folder, and is no study's whose folder has none.
    """
    if not (out / CELLS).is_dir():
        yield
        return
    handle = os.open(out / CELLS, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_interim(
    plan: Plan, store: Store, out: Path, cohort: str, entries: Mapping[str, Entry]
) -> bool:
    """Write results and report of the finished cells into ``interim/``; False if there is none.

    To be called within ``shown_by_one``.
    """
    ordered = [entries[planned.key] for planned in plan.cells if planned.key in entries]
    if all(entry.failure is not None for entry in ordered):
        return False
    found = find(plan, store, Journal(out / CELLS), ordered, silent)
    (out / INTERIM).mkdir(exist_ok=True)
    write_results(out / INTERIM, cohort, plan, store, ordered, found)
    write_report(out, out / INTERIM)
    return True


def report_so_far(out: Path, store_folder: Path) -> Path:
    """Write the interim report of a study that was stopped, from its folder alone.

    To be called within ``shown_by_one``, as ``write_interim``.

    Raises:
        StudyError: ``study.no_results`` if no cell stands, ``study.other_store`` if the store is
            not the one that the study was run on.
        MedcurveError: As ``run_study`` before its first cell.
    """
    record = read_record(out)
    if record is None:
        raise StudyError(
            "study.no_results", f"{out} holds no study", fix="run `medcurve study` first"
        )
    if (found := stage_digest(store_folder)) != record.store:
        raise StudyError(
            "study.other_store",
            f"{out}: the study was run on the store {record.store[:12]}; {store_folder.name} is "
            f"{found[:12]} by now",
            fix="run `medcurve study` again: it computes its cells on the store that stands",
        )
    plan, store = lay_out(record.config, record.families, store_folder)
    entries = Journal(out / CELLS).standing(plan.by_key)
    if not write_interim(plan, store, out, record.cohort, entries):
        raise StudyError(
            "study.no_results",
            f"{out}: none of its {len(plan.cells)} cells is computed yet by this version on this "
            "kind of machine",
            fix="run `medcurve study`; it goes on where it stopped",
        )
    return out / INTERIM / REPORT


class InterimReports:
    """Writes an interim report now and then, in a process of low priority beside the workers."""

    def __init__(self, config: StudyConfig, store_folder: Path, out: Path, cohort: str) -> None:
        self._what = (config, store_folder, out, cohort)
        self._process: BaseProcess | None = None
        self._begun = self._due = 0.0

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self._due = self._begun + _FIRST_AFTER_S
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join()

    def perhaps(self, left_s: float) -> None:
        """Begin a report if one is due, and the study goes on for a while (``left_s``)."""
        now = time.monotonic()
        busy = self._process is not None and self._process.is_alive()
        if busy or now < self._due or left_s < _WORTH_S:
            return
        self._due = self._begun + _GROWTH * (now - self._begun)
        self._process = spawned(_write_quietly, self._what)


def _write_quietly(config: StudyConfig, store_folder: Path, out: Path, cohort: str) -> None:
    os.nice(_NICE)
    with suppress(MedcurveError, OSError):  # the study itself will say it
        plan, store = open_plan(config, store_folder)
        with shown_by_one(out):
            entries = Journal(out / CELLS).standing(plan.by_key)
            write_interim(plan, store, out, cohort, entries)
