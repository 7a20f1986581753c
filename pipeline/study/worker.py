"""What computes cells: it holds the store in memory and takes one job at a time."""

from __future__ import annotations

import errno
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeVar

from data_prep.errors import MedcurveError
from data_prep.store import Store
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family
from pipeline.probes import ProbeConfig
from pipeline.study.cell import BuildFamily, Splits, fit_cell
from pipeline.study.condition import Condition
from pipeline.study.features import Preparation
from pipeline.study.grid import Cell, PlannedCell
from pipeline.study.journal import CellResult, Failure


@dataclass(frozen=True)
class Setup:
    """What a worker must know before its first job.

    Attributes:
        store: Folder of the store.
        features: Folder that keeps prepared scans.
        checkpoints: Folder that keeps the way back of each cell, under its key; None: none is kept.
        families: Config of each family by name.
        threads: Threads of one cell.
        build: Makes a family from its config.
        conditions: Under which test scans are predicted once more.
        probes: Of a family by name: what is measured on its fitted cells.
    """

    store: Path
    features: Path
    checkpoints: Path | None
    families: Mapping[str, FamilyConfig]
    threads: int
    build: BuildFamily = build_family
    conditions: tuple[Condition, ...] = ()
    probes: Mapping[str, tuple[ProbeConfig, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Job:
    """A cell to fit, or (``planned`` is None) scans to prepare.

    Attributes:
        planned: The cell.
        needs: Prepared scans that the cell takes; None where it takes raw scans.
    """

    planned: PlannedCell | None
    needs: Preparation | None


@dataclass(frozen=True)
class Ready:
    """A worker's first message: the store is loaded."""


@dataclass(frozen=True)
class Prepared:
    """Answer to a job that prepares scans."""


Answer = CellResult | Failure | Prepared | OSError
_Done = TypeVar("_Done")

# What the next cell would meet as well: no disk to write to.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


@dataclass
class Worker:
    """Computes jobs on one store; the work of the process, without the process.

    Attributes:
        setup: What it was told.
        raw: The store's scans.
        task: What is predicted.
    """

    setup: Setup
    raw: Splits
    task: Task
    _prepared: dict[str, Splits] = field(default_factory=dict)

    @classmethod
    def open(cls, setup: Setup) -> Worker:
        """Load the store; its digests were checked by whoever started the workers."""
        store = Store.open(setup.store, verify=False)
        return cls(setup=setup, raw=Splits.load(store, setup.conditions), task=store.task)

    def answer(self, job: Job) -> Answer:
        """Do a job; errors are answers, as ``attempt`` has it."""
        return attempt(lambda: self._do(job))

    def fit(self, planned: PlannedCell, splits: Splits) -> CellResult:
        """Fit a cell on its patients of ``splits``, as its family takes them.

        Raises:
            FamilyError: If the family refuses these scans.
        """
        cell, key, folder = planned.cell, planned.key, self.setup.checkpoints
        return fit_cell(
            planned,
            self._build(cell.family, cell.seed),
            splits,
            self.setup.threads,
            checkpoints=Checkpoints(folder / key, key) if folder else None,
            measure=lambda family: self._measured(cell, family),
        )

    def prepare(self, needs: Preparation) -> Splits:
        """The store's scans, prepared.

        Raises:
            FamilyError: If the family cannot prepare them.
        """
        family = self._build(needs.family, needs.seed)
        return self.raw.prepared_by(family, self.setup.threads)

    def _do(self, job: Job) -> CellResult | Prepared:
        splits = self._splits(job.needs) if job.needs else self.raw
        return Prepared() if job.planned is None else self.fit(job.planned, splits)

    def _measured(self, cell: Cell, family: Family[Any]) -> dict[str, float]:
        return {
            f"{probe.probe}/{quantity}": value
            for probe in self.setup.probes.get(cell.family, ())
            for quantity, value in probe.measure(family, self.raw.test, cell.seed).items()
        }

    def _build(self, name: str, seed: int) -> Family[Any]:
        shape = self.raw.train.scan_shape
        return self.setup.build(self.setup.families[name], self.task, shape, seed)

    def _splits(self, needs: Preparation) -> Splits:
        if needs.key not in self._prepared:
            folder = self.setup.features
            inputs = needs.load(folder)
            if inputs is None:
                needs.save(folder, self.prepare(needs).inputs())
                inputs = needs.load(folder)
                assert inputs is not None
            self._prepared[needs.key] = self.raw.with_inputs(inputs)
        return self._prepared[needs.key]


def attempt(do: Callable[[], _Done]) -> _Done | Failure | OSError:
    """Do it; an error becomes a ``Failure``: a fault of one family must not end a night's study.

    A disk that is full is no family's fault: that error is returned as it is, for whoever leads the
    study to end it by.
    """
    try:
        return do()
    except MedcurveError as error:
        return Failure(error.code, "; ".join(filter(None, (error.message, error.fix))))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return error
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        message = f"{type(error).__name__} at {place}: {error}"
        return Failure("study.cell_crashed", message, passing=True)


def work(setup: Setup, pipe: Connection) -> None:
    """Entry point of a worker process: answer jobs until the pipe closes.

    The first message is ``Ready``, or the error that kept the store from being opened.
    """
    # A terminal sends Ctrl-C to every process of the group; the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        worker = Worker.open(setup)
    except MedcurveError as error:
        pipe.send(error)
        return
    pipe.send(Ready())
    while (job := pipe.recv()) is not None:
        pipe.send(worker.answer(job))


def _die_with_parent() -> None:
    """Leave no orphan behind a killed study: its cells belong to the run that resumes it."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
