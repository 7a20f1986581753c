"""A report of the cells that stand so far, while the others are still being computed."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, Self

from data_prep.errors import MedcurveError
from data_prep.progress import silent
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.findings import find
from pipeline.study.journal import CELLS, Entry, Journal
from pipeline.study.plan import open_plan
from pipeline.study.report import write_report
from pipeline.study.results import write_results

INTERIM: Final = "interim"
_FIRST_AFTER_S: Final = 30.0
_GROWTH: Final = 3.0  # the next report waits this many times as long as the last: they cost time
_WORTH_S: Final = 60.0  # nearer to the end the reader may as well wait
_NICE: Final = 10


def write_interim(config: StudyConfig, store_folder: Path, out: Path, cohort: str) -> None:
    """Write results and report of the finished cells into ``interim/``; nothing if there is none.

    Raises:
        MedcurveError: As ``run_study`` before its first cell.
    """
    plan, store = open_plan(config, store_folder)
    journal = Journal(out / CELLS)
    entries: list[Entry] = []
    for planned in plan.cells:
        with suppress(StudyError):  # damaged: the study computes it again
            entry = journal.read(planned.key)
            entries += [entry] if entry is not None else []
    if any(entry.failure is None for entry in entries):
        found = find(plan, store, journal, entries, silent)
        (out / INTERIM).mkdir(exist_ok=True)
        write_results(out / INTERIM, cohort, plan, store, entries, found)
        write_report(out, out / INTERIM)


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
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_write_quietly, args=self._what, daemon=True)
        self._process.start()


def _write_quietly(config: StudyConfig, store_folder: Path, out: Path, cohort: str) -> None:
    os.nice(_NICE)
    with suppress(MedcurveError):  # the study itself will say it
        write_interim(config, store_folder, out, cohort)
