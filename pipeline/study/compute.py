"""Compute the missing cells of a study: journal each, say what is left, stop at a signal."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from data_prep.store import Store
from pipeline.dataset import targets
from pipeline.metrics import score
from pipeline.study.costs import estimate_costs
from pipeline.study.engine import run_local
from pipeline.study.errors import StudyStoppedError
from pipeline.study.features import Preparation, preparation
from pipeline.study.grid import Plan, PlannedCell
from pipeline.study.interim import InterimReports
from pipeline.study.jobs import Engine
from pipeline.study.journal import CELLS, Entry, Failure, Journal
from pipeline.study.time_left import TimeLeft
from pipeline.study.watch import Watcher
from pipeline.study.worker import Setup

FEATURES: Final = "features"
CHECKPOINTS: Final = "checkpoints"


def compute(
    plan: Plan,
    store: Store,
    out: Path,
    missing: list[PlannedCell],
    entries: dict[str, Entry],
    workers: int,
    watcher: Watcher,
    reports: InterimReports,
    engine: Engine | None = None,
) -> None:
    """Compute the missing cells, by default on this machine; journal each as it is finished.

    How long they will take is worked out, and told, where there is more than one: it costs a few
    brief fits.

    Args:
        plan: The study, laid out.
        store: What it runs on.
        out: Its folder.
        missing: The cells to compute, in this order.
        entries: Key -> what stands in the journal; finished cells are added.
        workers: Processes.
        watcher: Told what happens.
        reports: Written now and then while there is time.
        engine: What computes the cells; None: processes on this machine.

    Raises:
        StudyStoppedError: ``study.stopped`` by SIGINT or SIGTERM.
        OSError: The disk is full, here or where a worker writes.
    """
    if not missing:
        return
    journal = Journal(out / CELLS)
    truth = targets(store.task, [row.target for row in store.rows("val")])
    left = None
    if len(missing) > 1:
        left = TimeLeft(estimate_costs(plan, store, entries, missing), missing, workers)
        watcher.expect(left.seconds)
    needs = _needs(plan)
    with _signals() as signals:
        cells = (engine or run_local)(
            _setup(plan, store, out),
            missing,
            lambda planned: needs[planned.cell.family, planned.cell.seed],
            workers=workers,
            stopped=lambda: bool(signals),
        )
        for planned, result in cells:
            now_ms = time.time_ns() // 1_000_000
            entries[planned.key] = journal.write(planned.cell, planned.key, result, now_ms)
            if not (isinstance(result, Failure) and result.passing):
                shutil.rmtree(out / CHECKPOINTS / planned.key, ignore_errors=True)
            if isinstance(result, Failure):
                watcher.event(f"{planned.cell} failed: [{result.code}] {result.message}")
                watcher.finished(planned, None)
            else:
                for note in result.notes:
                    watcher.event(f"{planned.cell}: {note}")
                scores = score(plan.task, truth, result.val)
                watcher.finished(planned, scores[plan.config.release_metric])
            if left is not None:
                left.book(planned, result)
                watcher.expect(left.seconds)
                reports.perhaps(left.seconds)
    done = sum(planned.key in entries for planned in missing)
    if signals and done < len(missing):
        raise StudyStoppedError(
            "study.stopped",
            f"stopped by {signal.Signals(signals[0]).name}; {len(entries)} of {len(plan.cells)} "
            "cells are done and stand in the journal",
            fix="run the same command again to go on; `medcurve report` shows what stands",
            signum=signals[0],
        )


def _setup(plan: Plan, store: Store, out: Path) -> Setup:
    return Setup(
        store=store.folder,
        features=out / FEATURES,
        checkpoints=out / CHECKPOINTS,
        families=plan.families,
        threads=plan.config.threads,
        conditions=plan.config.conditions,
        probes=plan.config.probes,
    )


def _needs(plan: Plan) -> Mapping[tuple[str, int], Preparation | None]:
    return {
        (name, seed): preparation(
            *(name, config, seed, plan.store_digest, plan.arithmetic), plan.config.conditions
        )
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
