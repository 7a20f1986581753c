"""The local engine: worker processes that compute cells, and what happens when one dies."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

from data_prep.errors import MedcurveError
from pipeline.study.errors import StudyError
from pipeline.study.features import Preparation
from pipeline.study.grid import PlannedCell
from pipeline.study.journal import CellResult, Failure
from pipeline.study.worker import Answer, Job, Prepared, Ready, Setup, work

Needs = Callable[[PlannedCell], Preparation | None]

_TRIES: Final = 2  # a worker may be killed for want of memory by what another one did
_POLL_SECONDS: Final = 0.2  # how long a signal may go unnoticed
_JOIN_SECONDS: Final = 2.0


@dataclass
class _Process:
    """A worker process, the pipe to it and the job that it has in hand."""

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    job: Job | None = None


def run_local(
    setup: Setup,
    cells: Sequence[PlannedCell],
    needs: Needs,
    *,
    workers: int,
    stopped: Callable[[], bool],
) -> Iterator[tuple[PlannedCell, CellResult | Failure]]:
    """Compute cells in ``workers`` processes and yield each as it is finished.

    Cells are begun in the given order, but for those that wait for prepared scans. A worker that
    dies costs its cell only: it is tried once more, then it has failed. Closing the iterator, or
    ``stopped`` becoming true, ends all workers at once.

    Args:
        setup: What each worker loads.
        cells: What to compute.
        needs: The prepared scans that a cell takes, if any.
        workers: Number of processes.
        stopped: Asked several times a second whether to stop; then the iterator ends early.

    Raises:
        StudyError: ``study.no_worker`` if a worker cannot start.
        StageError: If the store cannot be read.
    """
    jobs = _Queue(cells, needs)
    pool = [_start(setup) for _ in range(max(1, min(workers, len(cells))))]
    try:
        while jobs.left() and not stopped():
            for worker in pool:
                if worker.ready and worker.job is None:
                    _give(worker, jobs)
            talking = connection.wait([worker.pipe for worker in pool], _POLL_SECONDS)
            for position, worker in enumerate(pool):
                if worker.pipe not in talking:
                    continue
                message = _receive(worker)
                if message is None:  # the process died
                    finished = jobs.lost(worker.job, _epitaph(worker))
                    worker.pipe.close()
                    pool[position] = _start(setup)
                elif worker.job is None or isinstance(message, Ready):
                    worker.ready = True
                    continue
                else:
                    finished = jobs.answered(worker.job, message)
                    worker.job = None
                yield from finished
    finally:
        _end(pool)


class _Queue:
    """What is still to be done, and in which order it may be done.

    A cell that needs prepared scans waits until they are there; the job that prepares them stands
    before the first cell that needs it.
    """

    def __init__(self, cells: Sequence[PlannedCell], needs: Needs) -> None:
        self._waiting: deque[Job] = deque()
        self._in_hand = 0
        self._tries: dict[str, int] = {}
        self._prepared: dict[str, Failure | None] = {}
        seen = set()
        for cell in cells:
            preparation = needs(cell)
            if preparation and preparation.key not in seen:
                seen.add(preparation.key)
                self._waiting.append(Job(None, preparation))
            self._waiting.append(Job(cell, preparation))

    def left(self) -> bool:
        """True while a job waits or is in hand."""
        return bool(self._waiting) or self._in_hand > 0

    def take(self) -> Job | None:
        """The first job that can be done now."""
        for job in self._waiting:
            if job.planned is None or job.needs is None or job.needs.key in self._prepared:
                self._waiting.remove(job)
                self._in_hand += 1
                return job
        return None

    def answered(self, job: Job, answer: Answer) -> list[tuple[PlannedCell, CellResult | Failure]]:
        """Book an answer; returns the cells that it finishes."""
        self._in_hand -= 1
        if job.planned is not None:
            assert not isinstance(answer, Prepared)
            return [(job.planned, answer)]
        assert job.needs is not None
        if not isinstance(answer, Failure):
            self._prepared[job.needs.key] = None
            return []
        spoilt = [j for j in self._waiting if j.needs and j.needs.key == job.needs.key]
        for waiting in spoilt:
            self._waiting.remove(waiting)
        return [(j.planned, answer) for j in spoilt if j.planned is not None]

    def lost(self, job: Job | None, why: str) -> list[tuple[PlannedCell, CellResult | Failure]]:
        """A worker died: its job goes to the front once more, then counts as failed.

        Raises:
            StudyError: ``study.no_worker`` if it died before it had a job.
        """
        if job is None:
            raise StudyError("study.no_worker", f"a worker could not start: {why}")
        name = job.planned.key if job.planned else f"prepare {job.needs}"
        self._tries[name] = self._tries.get(name, 0) + 1
        if self._tries[name] < _TRIES:
            self._in_hand -= 1
            self._waiting.appendleft(job)
            return []
        message = f"{why}, {_TRIES} times; most likely it ran out of memory"
        return self.answered(job, Failure("study.worker_died", message, passing=True))


def _start(setup: Setup) -> _Process:
    # "spawn": a fork of a process that has used torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(setup, there), daemon=True)
    process.start()
    there.close()  # so that the pipe reports its end when the worker dies
    return _Process(process=process, pipe=here)


def _give(worker: _Process, jobs: _Queue) -> None:
    worker.job = jobs.take()
    if worker.job is not None:
        with suppress(OSError):  # it died while idle; the pipe reports that next
            worker.pipe.send(worker.job)


def _receive(worker: _Process) -> Answer | Ready | None:
    """The next message of a worker; None if it died.

    Raises:
        MedcurveError: What kept the worker from starting.
    """
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):
        return None
    if isinstance(message, MedcurveError):
        raise message
    answer: Answer | Ready = message
    return answer


def _epitaph(worker: _Process) -> str:
    worker.process.join(_JOIN_SECONDS)
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"the process was killed by signal {-code}"
    return f"the process ended with status {code}"


def _end(pool: Sequence[_Process]) -> None:
    """Let idle workers leave by themselves and end the busy ones."""
    for worker in pool:
        if worker.ready and worker.job is None:
            with suppress(OSError):
                worker.pipe.send(None)
        else:
            worker.process.terminate()
    for worker in pool:
        worker.process.join(_JOIN_SECONDS)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
