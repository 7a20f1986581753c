"""What an engine is, and the order in which it does its jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from pipeline.study.features import Preparation
from pipeline.study.grid import PlannedCell
from pipeline.study.journal import CellResult, Failure
from pipeline.study.worker import Answer, Job, Prepared, Setup

Needs = Callable[[PlannedCell], Preparation | None]
Finished = tuple[PlannedCell, CellResult | Failure]

_TRIES: Final = 2  # a worker may be killed for want of memory by what another one did


class Engine(Protocol):
    """Computes cells and yields each as it is finished, as ``pipeline.study.engine.run_local``."""

    def __call__(
        self,
        setup: Setup,
        cells: Sequence[PlannedCell],
        needs: Needs,
        *,
        workers: int,
        stopped: Callable[[], bool],
    ) -> Iterator[Finished]:
        """Compute ``cells``, so many at once, until ``stopped`` says true."""


class JobQueue:
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

    def answered(self, job: Job, answer: Answer) -> list[Finished]:
        """Book an answer; returns the cells that it finishes.

        Raises:
            OSError: The answer is that the disk is full: all other jobs would end likewise.
        """
        if isinstance(answer, OSError):
            raise answer
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

    def lost(self, job: Job, why: str) -> list[Finished]:
        """A worker died: its job goes to the front once more, then counts as failed."""
        name = job.planned.key if job.planned else f"prepare {job.needs}"
        self._tries[name] = self._tries.get(name, 0) + 1
        if self._tries[name] < _TRIES:
            self._in_hand -= 1
            self._waiting.appendleft(job)
            return []
        message = f"{why}, {_TRIES} times; most likely it ran out of memory"
        return self.answered(job, Failure("study.worker_died", message, passing=True))
