"""The local engine: worker processes that compute cells, and what happens when one dies."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

from data_prep.errors import MedcurveError
from pipeline.study.errors import StudyError
from pipeline.study.grid import PlannedCell
from pipeline.study.jobs import Finished, JobQueue, Needs
from pipeline.study.spawned import spawned
from pipeline.study.worker import Answer, Job, Ready, Setup, work

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
) -> Iterator[Finished]:
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
        OSError: If a worker finds the disk full.
    """
    jobs = JobQueue(cells, needs)
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
                    if worker.job is None:
                        why = f"a worker could not start: {_epitaph(worker)}"
                        raise StudyError("study.no_worker", why)
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


def _start(setup: Setup) -> _Process:
    here, there = multiprocessing.Pipe()
    process = spawned(work, (setup, there))
    there.close()  # so that the pipe reports its end when the worker dies
    return _Process(process=process, pipe=here)


def _give(worker: _Process, jobs: JobQueue) -> None:
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
