"""Decode children on the nodes of a Ray cluster, for ingest, prep and predict.

Each is served by an actor, and the pool that reads scans cannot tell it from a process on this
machine. Scans are read where the actor runs, so nodes must see their folder under the same path.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_prep.errors import ScanError
from data_prep.readers.child_process import DecodeError
from data_prep.readers.decode_child import Job
from data_prep.readers.source import ScanSource
from pipeline.node_reader import NodeReader, reading_identity, seen_sizes, unpack
from pipeline.study.ray_cluster import Node, differences, last_line, nodes

# A node may die of itself: a scan is to blame only where several workers end while they read it.
_TRIES: Final = 3
# To begin with: an actor starts a process and imports what it needs.
_START_S: Final = 180.0

Say = Callable[[str], None]
_Answers = list[tuple[Any, int]]
_Actor: Final[Any] = ray.remote(NodeReader)


class RayReaders:
    """Starts decode children on the nodes of the connected cluster, evenly.

    A node that cannot run medcurve, or would give other bits than this machine, is left out.

    Args:
        say: Told in words which node is left out, and why.
    """

    def __init__(self, say: Say = lambda _: None) -> None:
        self._say = say
        self._mine = reading_identity()
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._refused: dict[str, str] = {}

    def __call__(self) -> RayChild:
        """A new child; it takes a worker when it is waited for."""
        return RayChild(self)

    def start(self) -> _Worker:
        """A new worker, on the node with the fewest for its CPUs.

        Raises:
            DecodeError: ``decode.no_node`` if no node is left.
        """
        alive = nodes(1, gpu=False)
        with self._lock:
            places = [node for node in alive if node.id not in self._refused]
            if not places:
                raise DecodeError(
                    "decode.no_node",
                    "; ".join(self._refused.values())
                    or "no node of the Ray cluster has a CPU to read scans with",
                    fix="start nodes that are like the machine on which the command runs "
                    "(docs/engines.md), or use --engine local",
                )
            held = Counter(worker.node.id for worker in self._workers)
            node = min(places, key=lambda node: (held[node.id] + 1) / node.slots)
            # It reserves no CPU: one that takes a lost one's place would wait for the others to
            # end, and they for it. How many there are, the pool decides.
            actor = _Actor.options(
                num_cpus=0,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
            ).remote()
            worker = _Worker(actor, node)
            self._workers.add(worker)
            return worker

    def end(self, worker: _Worker) -> None:
        """End a worker, its process and what it reads; any thread may, and more than once."""
        with self._lock:
            self._workers.discard(worker)
        ray.kill(worker.actor)

    def look_at(self, node: Node, found: dict[str, str] | Exception) -> bool:
        """Whether a node may be used, by what a worker says of itself, or why it says nothing."""
        if isinstance(found, Exception):
            if all(node.id != other.id for other in nodes(1, gpu=False)):
                return False  # it is gone, and may come back
            reason = f"cannot run medcurve: {last_line(found)}"
        elif other := differences(self._mine, found):
            reason = f"would give other bits: {other}"
        else:
            return True
        with self._lock:
            known = node.id in self._refused
            self._refused[node.id] = f"node {node.name} is left out: it {reason}"
        if not known:
            self._say(self._refused[node.id])
        return False


class RayChild:
    """A decode child on the nodes: a ``DecodeChild``, served by one worker after another.

    Attributes:
        ended: It was ended, or its workers were lost with answers due.
    """

    def __init__(self, readers: RayReaders) -> None:
        self.ended = False
        self._readers = readers
        self._worker: _Worker | None = None
        self._job: Job | None = None
        self._call: Any = None
        self._waiting: deque[tuple[Any, int]] = deque()

    def wait_until_ready(self) -> None:
        """Wait for a worker on a node that may be used.

        Raises:
            DecodeError: ``decode.no_node`` if there is none; ``decode.closed`` if the child was
                ended meanwhile.
        """
        while self._worker is None and not self.ended:
            worker = self._worker = self._readers.start()
            found: dict[str, str] | Exception
            try:
                found = ray.get(worker.actor.identity.remote(), timeout=_START_S)
            except (RayError, TimeoutError) as error:
                found = error
            if not self.ended and not self._readers.look_at(worker.node, found):
                self._drop_worker()
        if self.ended:
            self._drop_worker()
            raise DecodeError("decode.closed", "the decode pool was closed while it read")

    def send(self, job: Job) -> bool:
        """Send a job; False if the child was ended."""
        worker = self._worker
        if self.ended or worker is None:
            return False
        self._job, self._waiting = job, deque()
        self._call = worker.actor.read.remote(job, seen_sizes(job))
        return True

    def answers(self, most: int, timeout_s: float) -> _Answers:
        """What became of all sources of the job; none if the worker, or its node, was lost."""
        found = self._receive(most, timeout_s)
        if not found:
            self.end()
        return found

    def answer(self, source: ScanSource, timeout_s: float) -> tuple[Any, int]:
        """What became of the next source; where a worker was lost, others are asked for it."""
        assert self._job is not None
        left = self._job.sources[self._job.sources.index(source) :]
        for attempt in range(_TRIES):
            if attempt:
                self._drop_worker()
                self.wait_until_ready()
                self.send(replace(self._job, sources=left))
            if not self._waiting:
                self._waiting.extend(self._receive(len(left), timeout_s))
            if self._waiting:
                return self._waiting.popleft()
        self.end()
        reason = f"{source.paths[0]}: {_TRIES} Ray workers ended while they read it"
        return ScanError("file.crashed", reason), 0

    def end(self) -> None:
        """End the worker, and the process that it reads with."""
        self.ended = True
        self._drop_worker()

    def _drop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            self._readers.end(worker)

    def _receive(self, count: int, timeout_s: float) -> _Answers:
        """The answers to the job in hand; none if the worker, or its node, was lost."""
        try:
            text, memory = ray.get(self._call, timeout=_START_S + count * timeout_s)
        except RayTaskError as error:
            failed = DecodeError("decode.failed", f"a Ray worker failed: {last_line(error)}")
            return [(failed, 0)] * count
        except (RayError, TimeoutError):
            return []
        # A copy can be written to, as what is read here can, and keeps nothing in Ray's memory.
        return [(answer, memory.nbytes // count) for answer in unpack(text, np.array(memory))]


@dataclass(frozen=True, eq=False)
class _Worker:
    """An actor, and the node that it is on."""

    actor: Any
    node: Node
