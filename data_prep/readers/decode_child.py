"""The process that decodes: one job after another, under limits, until its parent is gone.

A job is a list of sources, answered in turn. Small answers wait for each other, so that fewer
messages are sent; where a child died, the parent asks another one to answer one by one, and so
learns which source it was. Nothing of this process reaches the parent but data (see ``wire`` and
``channel``).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from data_prep.errors import ScanError
from data_prep.memory_reuse import keep_freed_memory, spare_standing_objects
from data_prep.readers import ScanSource, read_scan
from data_prep.readers.channel import Sender
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.quiet import quiet_pydicom
from data_prep.volume import Volume

# A whole scan takes a small multiple of its files; a bomb is a small file that takes gigabytes.
_BYTES_PER_FILE_BYTE: Final = 16
# The child ends itself this long after the parent should have ended it.
_ORPHAN_S: Final = 10
# Answers wait for each other at most this long (but for the last of them), and take this much.
GATHER_S: Final = 0.25
_GATHER_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Job:
    """What to read: sent by the parent, as a pickle, which it alone may send.

    Attributes:
        root: Folder of the sources.
        sources: Scans, each answered in turn.
        transform: Pickled callable from Volume to what is to be handed over; empty for none.
        policy: How to read.
        memory_bytes: What one source may take, on top of a multiple of its files' size.
        timeout_s: What one source may take.
        released: Shared memory that the parent has done with.
        together: Answers may wait for each other; else each is sent before the next scan is read.
    """

    root: Path
    sources: tuple[ScanSource, ...]
    transform: bytes
    policy: ReadPolicy
    memory_bytes: int
    timeout_s: float
    released: tuple[int, ...] = ()
    together: bool = False


def main(descriptor: int) -> None:
    """Serve jobs from a socket until it closes."""
    connection = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    keep_freed_memory()
    spare_standing_objects()
    with connection, contextlib.suppress(ConnectionError, EOFError):
        _serve(connection, Sender(connection))


def _serve(connection: socket.socket, sender: Sender) -> None:
    limits = _Limits()
    _send_now(sender, ("ready",))
    transform: Callable[[Volume], Any] | None = None
    loaded = b""
    while True:
        data = _receive_job(connection)
        try:
            job: Job = pickle.loads(data)  # noqa: S301 - from the parent
            if job.transform != loaded:
                loaded = job.transform
                transform = pickle.loads(loaded) if loaded else None  # noqa: S301
        except Exception:
            _send_now(sender, ("failed", traceback.format_exc()))
            return
        sender.release(job.released)
        with quiet_pydicom():  # to be made so for every file is slow
            _serve_job(job, transform, limits, sender)


def _serve_job(
    job: Job, transform: Callable[[Volume], Any] | None, limits: _Limits, sender: Sender
) -> None:
    since = time.monotonic()
    for source in job.sources:
        limits.set(job, source)
        answer = _answer(job, source, transform)
        try:
            sender.add(answer)
        except TypeError as error:
            sender.add(("failed", str(error)))
        late = time.monotonic() > since + GATHER_S
        if not job.together or late or sender.waiting_bytes >= _GATHER_BYTES:
            limits.lift()
            sender.send()
            since = time.monotonic()
    limits.lift()
    sender.send()


def _send_now(sender: Sender, answer: tuple[Any, ...]) -> None:
    sender.add(answer)
    sender.send()


def send_job(connection: socket.socket, job: Job) -> None:
    """Send a job (the parent's side)."""
    data = pickle.dumps(job)
    connection.sendall(len(data).to_bytes(8, "little") + data)


def _receive_job(connection: socket.socket) -> bytes:
    connection.settimeout(None)
    with connection.makefile("rb", buffering=0) as file:
        size = int.from_bytes(_read_all(file, 8), "little")
        return _read_all(file, size)


def _read_all(file: Any, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        block = file.read(count - len(data))
        if not block:
            raise EOFError
        data += block
    return bytes(data)


def _answer(
    job: Job, source: ScanSource, transform: Callable[[Volume], Any] | None
) -> tuple[Any, ...]:
    """("scan", result), ("refused", code, message, fix) or ("failed", traceback)."""
    try:
        volume = read_scan(job.root, source, job.policy)
    except ScanError as error:
        return ("refused", error.code, error.message, error.fix)
    except BaseException as error:  # decoders written in Rust panic past Exception
        return _crash(source, error)
    if transform is None:
        return ("scan", volume)
    try:
        return ("scan", transform(volume))
    except ScanError as error:
        return ("refused", error.code, error.message, error.fix)
    except MemoryError as error:
        return _crash(source, error)
    except Exception:
        return ("failed", traceback.format_exc())


def _crash(source: ScanSource, error: BaseException) -> tuple[Any, ...]:
    what = "ran out of memory" if isinstance(error, MemoryError) else type(error).__name__
    return ("refused", "file.crashed", f"{source.paths[0]}: the decoder failed ({what})", "")


class _Limits:
    """Caps on the memory that may be added for a source, and on time, should the parent die."""

    def __init__(self) -> None:
        self._hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # macOS has no /proc, and does not enforce RLIMIT_AS either
            self._statm = -1

    def set(self, job: Job, source: ScanSource) -> None:
        """Begin with a source."""
        size = sum(file_size(job.root, path) for path in source.paths)
        budget = job.memory_bytes + _BYTES_PER_FILE_BYTE * size
        resource.setrlimit(resource.RLIMIT_AS, (self._virtual_bytes() + budget, self._hard))
        signal.setitimer(signal.ITIMER_REAL, job.timeout_s + _ORPHAN_S)

    def lift(self) -> None:
        """What follows is our own work."""
        resource.setrlimit(resource.RLIMIT_AS, (self._hard, self._hard))
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _virtual_bytes(self) -> int:
        """Address space in use."""
        if self._statm < 0:
            return 1 << 36
        pages = int(os.pread(self._statm, 64, 0).split()[0])
        return pages * os.sysconf("SC_PAGESIZE")


def file_size(root: Path, path: str) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return os.stat(os.path.join(root, path)).st_size  # noqa: PTH116, PTH118 - for every file
    except OSError:
        return 0
