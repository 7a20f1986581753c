"""The Ray engine: a study's cells on the nodes of a Ray cluster.

Everything that a node needs travels through Ray's object store, whose arrays all workers of a node
share: the scans once, prepared features once. So no disk has to be shared, and whatever the death
of a node could take away lies with the driver, which alone writes the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_prep.task import Task
from pipeline.study.cell import Inputs, Splits
from pipeline.study.errors import StudyError
from pipeline.study.features import Preparation
from pipeline.study.grid import PlannedCell
from pipeline.study.identity import identity
from pipeline.study.jobs import Finished, JobQueue, Needs
from pipeline.study.journal import CellResult, Failure
from pipeline.study.ray_cluster import Node, differences, last_line, nodes
from pipeline.study.worker import Job, Prepared, Setup, Worker, attempt

_POLL_SECONDS: Final = 0.2  # how long a signal may go unnoticed
_LOOK_SECONDS: Final = 2.0  # between two looks at which nodes there are
_PATIENCE_SECONDS: Final = 30.0  # until a user is told that no worker has begun

Say = Callable[[str], None]


def run_ray(
    setup: Setup,
    cells: Sequence[PlannedCell],
    needs: Needs,
    *,
    workers: int,
    stopped: Callable[[], bool],
    say: Say = lambda _: None,
) -> Iterator[Finished]:
    """Compute cells on the nodes of the connected cluster and yield each as it is finished.

    The contract is that of ``pipeline.study.engine.run_local``: cells are begun in the given
    order, and a worker or a node that dies costs only the cells that it had in hand, each of which
    is tried once more. A node that joins, or comes back, is used. A node that would give other
    bits than this machine, or cannot run medcurve, is left out, and ``say`` is told why.

    Args:
        setup: The store and the folders of features and checkpoints, as this machine sees them;
            where a node does not see the folder of checkpoints, a cell begins anew.
        cells: What to compute.
        needs: The prepared scans that a cell takes, if any.
        workers: Number of cells computed at once, if the cluster has room for them.
        stopped: Asked several times a second whether to stop; then the iterator ends early.
        say: Told in words what a user should know.

    Raises:
        StudyError: ``study.no_node`` if no node can compute the cells.
        StageError: If the store cannot be read.
        OSError: If a worker finds the disk full.
    """
    jobs = JobQueue(cells, needs)
    crew = _Crew(setup, max(1, min(workers, len(cells))), say)
    try:
        while jobs.left() and not stopped():
            crew.fill()
            crew.give(jobs)
            yield from crew.collect(jobs)
    finally:
        crew.dismiss()


@dataclass
class _Member:
    """A worker process on a node, the call that it has to answer and the job that it has in hand.

    Its first call, before it is ``ready``, asks for its identity.
    """

    actor: Any
    node: Node
    call: Any
    ready: bool = False
    job: Job | None = None


class _Crew:
    """The workers of one study, as many as are wanted and the nodes have room for."""

    def __init__(self, setup: Setup, wanted: int, say: Say) -> None:
        self._setup, self._wanted, self._say = setup, wanted, say
        self._identity = identity(setup.threads)
        worker = Worker.open(setup)
        if setup.checkpoints is not None:
            setup.checkpoints.mkdir(parents=True, exist_ok=True)  # how nodes know that they see it
        bare = worker.raw.with_inputs({split: np.empty(0) for split in worker.raw.by_name()})
        self._arguments = ray.put((setup, worker.task, bare)), ray.put(worker.raw.inputs())
        self._features: dict[str, Any] = {}
        self._members: list[_Member] = []
        self._refused: dict[str, str] = {}
        self._next_look = 0.0
        self._patient_until: float | None = time.monotonic() + _PATIENCE_SECONDS

    def fill(self) -> None:
        """Start workers where there is room, one a node in turn.

        Raises:
            StudyError: ``study.no_node`` if there is neither a worker nor room for one.
        """
        missing = self._wanted - len(self._members)
        if missing == 0 or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        alive = nodes(self._setup.threads, gpu=self._identity["device"] != "cpu")
        places = [node for node in alive if node.id not in self._refused]
        held = {n.id: sum(member.node.id == n.id for member in self._members) for n in places}
        turns = max((node.slots for node in places), default=0)
        room = [n for turn in range(turns) for n in places if held[n.id] <= turn < n.slots]
        for node in room[:missing]:
            self._members.append(self._start(node))
        if not self._members:
            raise StudyError(
                "study.no_node",
                "; ".join(self._refused.values())
                or f"no node of the Ray cluster has {self._setup.threads} CPUs for a cell",
                fix="start nodes that are like the machine on which the study was begun "
                "(docs/engines.md), or use --engine local; what is computed stands",
            )

    def give(self, jobs: JobQueue) -> None:
        """Hand jobs to the workers that have none."""
        for member in self._members:
            while member.ready and member.job is None and (job := jobs.take()):
                self._hand(member, job, jobs)

    def collect(self, jobs: JobQueue) -> list[Finished]:
        """Wait a moment for an answer; returns the cells that it finishes."""
        waiting = {member.call: member for member in self._members if member.call is not None}
        self._say_if_none_begins()
        if not waiting:
            time.sleep(_POLL_SECONDS)
            return []
        answered, _ = ray.wait(list(waiting), timeout=_POLL_SECONDS)
        finished = []
        for call in answered:
            finished += self._book(waiting[call], jobs)
        return finished

    def dismiss(self) -> None:
        """End all workers at once."""
        while self._members:
            self._end(self._members[0])

    def _start(self, node: Node) -> _Member:
        actor = _CellWorker.options(  # type: ignore[attr-defined]
            num_cpus=self._setup.threads,
            num_gpus=node.gpu,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote(*self._arguments)
        return _Member(actor, node, actor.identity.remote())

    def _hand(self, member: _Member, job: Job, jobs: JobQueue) -> None:
        if job.planned is not None:
            inputs = self._features[job.needs.key] if job.needs else None
            member.job, member.call = job, member.actor.fit.remote(job.planned, inputs)
            return
        assert job.needs is not None
        standing = job.needs.load(self._setup.features)
        if standing is None:
            member.job, member.call = job, member.actor.prepare.remote(job.needs)
        else:
            self._share(job.needs, standing)
            jobs.answered(job, Prepared())

    def _share(self, needs: Preparation, inputs: Inputs) -> None:
        # np.asarray: Ray would pickle a memory map, in place of sharing what is in it
        self._features[needs.key] = ray.put({k: np.asarray(x) for k, x in inputs.items()})

    def _book(self, member: _Member, jobs: JobQueue) -> list[Finished]:
        job = member.job
        try:
            answer = ray.get(member.call)
        except RayError as error:
            self._end(member)
            if job is not None:
                return jobs.lost(job, f"its worker on node {member.node.name} ended")
            self._refuse(member.node, f"cannot run medcurve: {last_line(error)}")
            return []
        member.call = member.job = None
        if job is None:
            other = differences(self._identity, answer)
            member.ready = not other
            if other:
                self._end(member)
                self._refuse(member.node, f"would give other bits: {other}")
            return []
        if job.planned is None and not isinstance(answer, Failure | OSError):
            assert job.needs is not None
            job.needs.save(self._setup.features, answer)
            self._share(job.needs, answer)
            answer = Prepared()
        return jobs.answered(job, answer)

    def _end(self, member: _Member) -> None:
        self._members.remove(member)
        ray.kill(member.actor)

    def _say_if_none_begins(self) -> None:
        if self._patient_until is None:
            return
        if any(member.ready for member in self._members):
            self._patient_until = None
        elif time.monotonic() > self._patient_until:
            self._patient_until = None
            places = ", ".join(sorted({member.node.name for member in self._members}))
            self._say(f"no worker has begun yet on {places}: others may be using the CPUs there")

    def _refuse(self, node: Node, why: str) -> None:
        if node.id not in self._refused and any(n.id == node.id for n in nodes(1, gpu=False)):
            self._refused[node.id] = f"node {node.name} is left out: it {why}"
            self._say(self._refused[node.id])


@ray.remote
class _CellWorker:
    """The process on a node that computes cells, one at a time."""

    def __init__(self, told: tuple[Setup, Task, Splits], inputs: Inputs) -> None:
        setup, task, bare = told
        self._worker = Worker(as_seen_here(setup), bare.with_inputs(inputs), task)

    def identity(self) -> dict[str, str]:
        """What this process is, to be compared with the driver's."""
        return identity(self._worker.setup.threads)

    def prepare(self, needs: Preparation) -> Inputs | Failure | OSError:
        """Prepared ``x`` of all splits."""
        return attempt(lambda: self._worker.prepare(needs).inputs())

    def fit(self, planned: PlannedCell, inputs: Inputs | None) -> CellResult | Failure | OSError:
        """A cell, fitted on these ``x`` or on the store's own."""
        raw = self._worker.raw
        splits = raw if inputs is None else raw.with_inputs(inputs)
        return attempt(lambda: self._worker.fit(planned, splits))


def as_seen_here(setup: Setup) -> Setup:
    """Without checkpoints where their folder is not seen: nobody would clear them away."""
    if setup.checkpoints is not None and not setup.checkpoints.is_dir():
        return replace(setup, checkpoints=None)
    return setup
