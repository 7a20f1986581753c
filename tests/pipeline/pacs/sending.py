"""Builders: a listener in another thread, and senders that talk to it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom", reason="the extra 'pacs' is not installed")
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from pipeline.pacs.listen import listen
from pipeline.pacs.settings import Address, ListenConfig
from pipeline.serving.predictions import PredictionSummary

STUDY, SERIES = "1.2.3", "1.2.3.4"
VERIFICATION = "1.2.840.10008.1.1"
NOTHING = PredictionSummary(1, 1, 0, 0, 1, {}, {}, {}, {}, {}, 0.1)


@dataclass
class Scored:
    """Scores nothing; remembers what it was given."""

    studies: list[tuple[str, int]] = field(default_factory=list)
    raises: list[Exception] = field(default_factory=list)

    def __call__(self, folder: Path, target: Path) -> PredictionSummary:
        if self.raises:
            raise self.raises.pop()
        self.studies.append((target.name, len(list(folder.rglob("*.dcm")))))
        target.mkdir()
        return NOTHING


@dataclass
class Running:
    """A listener in another thread."""

    port: int
    said: list[str]
    stop: threading.Event
    thread: threading.Thread

    def end(self) -> str:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.said[-1]


@contextmanager
def running(
    out: Path, score: Callable[[Path, Path], PredictionSummary], quiet_s: float = 0.2, **address
) -> Iterator[Running]:
    limits = {name: address.pop(name) for name in ("most_bytes", "most_objects") if name in address}
    config = ListenConfig(Address(port=0, **address), quiet_s, grace_s=1.0, **limits)
    stop, said, port, ready = threading.Event(), [], [], threading.Event()

    def started(number: int) -> None:
        port.append(number)
        ready.set()

    work = threading.Thread(
        target=listen, args=(out, config, score, stop, said.append, started), daemon=True
    )
    work.start()
    assert ready.wait(20)
    found = Running(port[0], said, stop, work)
    try:
        yield found
    finally:
        found.end()


@contextmanager
def association(port: int, caller: str = "SCANNER", called: str = "MEDCURVE", tls=None):
    """A sender; ``tls``: its ssl context."""
    entity = AE(ae_title=caller)
    entity.add_requested_context(VERIFICATION)
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", ExplicitVRLittleEndian)
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.4", ExplicitVRLittleEndian)
    found = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls and (tls, "listener"))
    try:
        yield found
    finally:
        if found.is_established:
            found.release()


def send(port: int, objects: list[Dataset]) -> list[int]:
    """Statuses of C-STORE."""
    with association(port) as to:
        assert to.is_established
        return [to.send_c_store(ds).Status for ds in objects]


def held(out: Path) -> int:
    """Objects in the spool, which may vanish as they are counted."""
    return sum(name.endswith(".dcm") for *_, names in os.walk(out / "spool") for name in names)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
