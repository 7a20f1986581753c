"""Decoding in child processes: a crash, a hang or a bomb costs one file, and reading is parallel.

One thread of the parent waits for each child. Results come in the order of the sources, and only
a few are held before their turn, so that memory stays flat.
"""

from __future__ import annotations

import itertools
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar, overload

from data_prep.errors import ScanError
from data_prep.readers.child_process import ChildProcess, DecodeChild, DecodeError
from data_prep.readers.decode_child import Job
from data_prep.readers.policy import DEFAULT_POLICY, ReadPolicy
from data_prep.readers.source import ScanSource
from data_prep.volume import Volume

__all__ = ["DecodeError", "DecodePool", "NewChild"]

T = TypeVar("T")
NewChild = Callable[[], DecodeChild]

MEMORY_BYTES: Final = 3 << 29  # 1.5 GiB
TIMEOUT_S: Final = 60.0
# Small files go to a child several at a time, so that the way there and back weighs little.
_CHUNK_FILES: Final = 32
_CHUNK_BYTES: Final = 1 << 23
_CHUNKS_AHEAD: Final = 3  # for each child: what it does while results are taken in batches
# Results that were read before their turn may hold this much.
_HELD_BYTES: Final = 1 << 28


class DecodePool:
    """Child processes that read scans; a context manager, which ends them.

    Args:
        root: Folder that the sources' paths are relative to.
        workers: Number of children.
        memory_bytes: What one scan may take in a child, on top of 16 times its files' size.
        timeout_s: What one scan may take.
        policy: How to read.
        new_child: Starts a child: a process on this machine, or something that behaves as one.
    """

    def __init__(
        self,
        root: Path,
        workers: int = 1,
        memory_bytes: int = MEMORY_BYTES,
        timeout_s: float = TIMEOUT_S,
        policy: ReadPolicy = DEFAULT_POLICY,
        new_child: NewChild = ChildProcess,
    ) -> None:
        self._job = Job(root.absolute(), (), b"", policy, memory_bytes, timeout_s)
        self._workers = max(1, workers)
        self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        self._lock = threading.Lock()
        self._new_child = new_child
        self._alive: set[DecodeChild] = set()
        self._idle: list[DecodeChild] = []
        self._closed = False

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all children; reading that is under way breaks off."""
        with self._lock:
            self._closed = True
            alive = tuple(self._alive)
        for child in alive:
            child.end()
        self._threads.shutdown(wait=True, cancel_futures=True)

    @overload
    def read(
        self, sources: Iterable[ScanSource], transform: None = None
    ) -> Iterator[tuple[ScanSource, Volume | ScanError]]: ...

    @overload
    def read(
        self, sources: Iterable[ScanSource], transform: Callable[[Volume], T] | None
    ) -> Iterator[tuple[ScanSource, T | ScanError]]: ...

    def read(
        self, sources: Iterable[ScanSource], transform: Callable[[Volume], Any] | None = None
    ) -> Iterator[tuple[ScanSource, Any]]:
        """Read scans, in order; a scan that cannot be read gives its ScanError.

        Args:
            sources: What to read; taken a few at a time.
            transform: Applied in the child; must pickle, and return numbers, text, lists, tuples,
                dicts, arrays or dataclasses of them. A ScanError it raises is that scan's result.

        Raises:
            DecodeError: ``decode.no_child`` if children cannot be started, ``decode.failed`` if
                the transform raises anything but a ScanError.
        """
        job = replace(self._job, transform=pickle.dumps(transform) if transform else b"")
        held = _Held()
        ahead: deque[list[_Task]] = deque()
        numbers = itertools.count()
        try:
            for chunk in _chunks(job.root, sources):
                tasks = [_Task(source, next(numbers)) for source in chunk]
                ahead.append(tasks)
                self._threads.submit(self._serve, job, deque(tasks), held)
                if len(ahead) > self._workers * _CHUNKS_AHEAD:
                    yield from _take(ahead.popleft(), held)
            while ahead:
                yield from _take(ahead.popleft(), held)
        finally:
            held.abandon()

    def _serve(self, job: Job, tasks: deque[_Task], held: _Held) -> None:
        """Have one child read a chunk.

        A source that ends the child, or outlasts it, is refused; the others go on in a new child.
        Which one it was shows when those without an answer are read again one by one.
        """
        child: DecodeChild | None = None
        together = len(tasks) > 1
        try:
            while tasks and not held.abandoned:
                child = self._borrow()
                sources = tuple(task.source for task in tasks)
                if not child.send(replace(job, sources=sources, together=together)):
                    self._discard(child)  # it died while idle: nobody's fault
                    continue
                while tasks:
                    held.wait_for_room(tasks[0].number)
                    if together:
                        answers = child.answers(len(tasks), job.timeout_s)
                    else:
                        answers = [child.answer(tasks[0].source, job.timeout_s)]
                    for answer, size in answers:
                        tasks.popleft().settle(answer, size, held)
                    if child.ended or held.abandoned:
                        break
                together = together and not child.ended
                self._give_back(child, reusable=not tasks)
        except BaseException as error:
            if child is not None:
                self._discard(child)
            for task in tasks:
                task.outcome.set_exception(error)

    def _borrow(self) -> DecodeChild:
        with self._lock:
            if self._closed:
                raise DecodeError("decode.closed", "the decode pool was closed while it read")
            child = self._idle.pop() if self._idle else self._new_child()
            self._alive.add(child)
        child.wait_until_ready()
        return child

    def _give_back(self, child: DecodeChild, *, reusable: bool) -> None:
        if not reusable or child.ended:
            self._discard(child)
            return
        with self._lock:
            self._idle.append(child)

    def _discard(self, child: DecodeChild) -> None:
        child.end()
        with self._lock:
            self._alive.discard(child)


@dataclass(eq=False)
class _Task:
    source: ScanSource
    number: int
    outcome: Future[Any] = field(default_factory=Future)
    size: int = 0

    def settle(self, answer: Any, size: int, held: _Held) -> None:
        self.size = size
        held.add(size)
        if isinstance(answer, DecodeError):
            self.outcome.set_exception(answer)
        else:
            self.outcome.set_result(answer)


class _Held:
    """Counts the bytes of results that wait for their turn, and makes threads wait for room."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = 0
        self._next = 0
        self.abandoned = False

    def wait_for_room(self, number: int) -> None:
        """Wait until there is room for result ``number``, or it is the one that is asked for."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.abandoned or self._bytes < _HELD_BYTES or number <= self._next
            )

    def add(self, size: int) -> None:
        with self._changed:
            self._bytes += size

    def take(self, number: int, size: int) -> None:
        """Result ``number`` was handed on."""
        with self._changed:
            self._bytes -= size
            self._next = number + 1
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nobody takes results any more."""
        with self._changed:
            self.abandoned = True
            self._changed.notify_all()


def _take(tasks: list[_Task], held: _Held) -> Iterator[tuple[ScanSource, Any]]:
    tasks.reverse()
    while tasks:  # popped one by one, so that a result is freed when the caller is done with it
        task = tasks.pop()
        result = task.outcome.result()
        held.take(task.number, task.size)
        yield task.source, result


def _chunks(root: Path, sources: Iterable[ScanSource]) -> Iterator[list[ScanSource]]:
    """Cut sources into chunks; a series of many files is a chunk of its own."""
    chunk: list[ScanSource] = []
    size = 0
    for source in sources:
        chunk.append(source)
        size += _CHUNK_BYTES if len(source.paths) > 1 else _file_size(root / source.paths[0])
        if size >= _CHUNK_BYTES or len(chunk) == _CHUNK_FILES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
