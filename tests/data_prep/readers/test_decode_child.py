"""The child's own loop, run here: what it answers to jobs, and the limits it sets."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import child_work
import pytest
from scan_files import write_nifti

from data_prep.errors import ScanError
from data_prep.readers import ReadPolicy, ScanSource, decode_child
from data_prep.readers.channel import Receiver
from data_prep.readers.decode_child import Job, send_job
from data_prep.volume import Volume

GOOD = ScanSource("nifti", ("good.nii",))
MISSING = ScanSource("nifti", ("missing.nii",))


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Signals as they were; the loop's memory limit is lifted by itself."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
    limit = resource.getrlimit(resource.RLIMIT_AS)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert resource.getrlimit(resource.RLIMIT_AS) == limit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "good.nii")
    return tmp_path


def job(
    root: Path,
    *sources: ScanSource,
    transform: Callable[[Volume], Any] | None = None,
    together: bool = False,
) -> Job:
    pickled = pickle.dumps(transform) if transform else b""
    return Job(root, sources, pickled, ReadPolicy(), 1 << 30, 60.0, together=together)


def answers(jobs: list[Job | bytes], count: int) -> list[Any]:
    """Run the loop in this thread; another one sends jobs and receives ``count`` answers."""
    ours, theirs = socket.socketpair()
    found: list[Any] = []

    def parent() -> None:
        with ours:
            receiver = Receiver(ours)
            assert receiver.receive()[0] == [("ready",)]
            for entry in jobs:
                if isinstance(entry, bytes):
                    ours.sendall(entry)
                else:
                    send_job(ours, entry)
            while len(found) < count:
                found.extend(receiver.receive()[0])

    thread = threading.Thread(target=parent)
    thread.start()
    decode_child.main(theirs.detach())
    thread.join()
    return found


def test_scans_and_refusals(root: Path) -> None:
    scan, refusal = answers([job(root, GOOD, MISSING)], 2)
    assert scan[0] == "scan"
    assert scan[1].array.shape == (1, 4, 5, 6)
    assert refusal[:2] == ("refused", "file.unreadable")


def test_transforms(root: Path) -> None:
    jobs = [
        job(root, GOOD, transform=child_work.first_voxel),
        job(root, GOOD, transform=child_work.refuse),
        job(root, GOOD, transform=child_work.defect),
        job(root, GOOD, transform=child_work.bad_object),
        job(root, GOOD, transform=child_work.Misbehave(0, "memory")),
        job(root, GOOD),
    ]
    plain, refused, defect, strange, bomb, scan = answers(list(jobs), 6)
    assert plain == ("scan", 0)
    assert refused == ("refused", "volume.wrong_ndim", "not this one", "take another")
    assert defect[0] == "failed"
    assert "a defect" in defect[1]
    assert strange[0] == "failed"
    assert "hand over object" in strange[1]
    assert bomb[:2] == ("refused", "file.crashed")
    assert "memory" in bomb[2]
    assert scan[0] == "scan"


@pytest.mark.parametrize("error", [MemoryError(), ValueError("untyped"), child_work.PanicError()])
def test_whatever_a_reader_raises_is_an_answer(
    root: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> Volume:
        raise error

    monkeypatch.setattr(decode_child, "read_scan", fail)
    ((kind, code, message, _),) = answers([job(root, GOOD)], 1)
    assert (kind, code) == ("refused", "file.crashed")
    assert "good.nii" in message


def test_a_job_that_cannot_be_loaded_ends_the_loop(root: Path) -> None:
    bad = b"no pickle"
    ((kind, trace),) = answers([struct.pack("<Q", len(bad)) + bad], 1)
    assert kind == "failed"
    assert "Unpickling" in trace or "pickle" in trace


def test_a_parent_that_is_gone_ends_the_loop(root: Path) -> None:
    assert answers([job(root, GOOD, GOOD)], 0) == []
    assert answers([struct.pack("<Q", 99) + b"half"], 0) == []


def test_the_clock_and_the_memory_are_limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, int]] = []

    def look(*arguments: object) -> Volume:
        timer = signal.getitimer(signal.ITIMER_REAL)[0]
        seen.append((timer, resource.getrlimit(resource.RLIMIT_AS)[0]))
        raise ScanError("file.empty", "looked")

    monkeypatch.setattr(decode_child, "read_scan", look)
    answers([job(root, GOOD)], 1)
    ((timer, limit),) = seen
    assert 60 < timer <= 70
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    taken = pages * resource.getpagesize()
    assert taken < limit < taken + (3 << 30)


def test_without_proc_the_limit_is_wide(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", refuse)
    limits = decode_child._Limits()
    limits.set(job(root), GOOD)
    assert resource.getrlimit(resource.RLIMIT_AS)[0] > 1 << 36
    limits.lift()


@pytest.mark.parametrize(
    ("together", "gather_bytes", "gather_s", "expected"),
    [
        (False, 1 << 20, 60.0, [1] * 5),
        (True, 1 << 20, 60.0, [5]),
        (True, 1000, 60.0, [3, 2]),  # a scan takes 256 bytes and its affine 128
        (True, 1 << 20, 0.0, [1] * 5),
    ],
)
def test_answers_wait_for_each_other_up_to_limits(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    together: bool,
    gather_bytes: int,
    gather_s: float,
    expected: list[int],
) -> None:
    monkeypatch.setattr(decode_child, "_GATHER_BYTES", gather_bytes)
    monkeypatch.setattr(decode_child, "GATHER_S", gather_s)
    ours, theirs = socket.socketpair()
    counts: list[int] = []

    def parent() -> None:
        with ours:
            receiver = Receiver(ours)
            receiver.receive()
            send_job(ours, job(root, *[GOOD] * 5, together=together))
            while sum(counts) < 5:
                counts.append(len(receiver.receive()[0]))

    thread = threading.Thread(target=parent)
    thread.start()
    decode_child.main(theirs.detach())
    thread.join()
    assert counts == expected
