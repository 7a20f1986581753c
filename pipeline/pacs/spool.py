"""Studies as they come in, on disk: bounded, safe from a kill, handed out when they are quiet."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from pipeline.pacs.arrival import ArrivalError, ObjectKeys, take_in

_INCOMING, _SCORING = "incoming", "scoring"
# The disk is never filled up: tables, logs and others' files need some of it.
LEAST_FREE_BYTES: Final = 1 << 30


@dataclass
class Held:
    """What lies on disk.

    Attributes:
        objects: Files.
        size: Their bytes.
    """

    objects: int = 0
    size: int = 0

    def add(self, other: Held) -> None:
        """Count some more."""
        self.objects += other.objects
        self.size += other.size

    def less(self, other: Held) -> None:
        """Count some less."""
        self.objects -= other.objects
        self.size -= other.size


@dataclass
class _Study:
    """One that is still coming in."""

    last: float
    held: Held = field(default_factory=Held)


@dataclass(frozen=True)
class Taken:
    """A study that was handed out to be scored; nothing more comes into its folder."""

    uid: str
    folder: Path
    held: Held


@dataclass
class Spool:
    """Received objects, by study and series; used by several threads.

    ``root/incoming`` holds what is coming in, ``root/scoring`` what was handed out. A study that
    gets more objects after it was handed out is another batch. What a killed process left is
    there again, as if it had just come.

    Attributes:
        root: Private folder; made where there is none.
        most_bytes: That it may hold.
        most_objects: That it may hold.
    """

    root: Path
    most_bytes: int
    most_objects: int = 100_000
    _studies: dict[str, _Study] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: Held = field(default_factory=Held)

    def __post_init__(self) -> None:
        for name in (_INCOMING, _SCORING):
            (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.root / _SCORING).iterdir():
            self._give_back(folder)
        for left in (self.root / _INCOMING).glob(".*.part"):
            left.unlink()
        for folder in (self.root / _INCOMING).iterdir():
            held = _held_in(folder)
            self._studies[folder.name] = _Study(time.monotonic(), held)
            self._held.add(held)

    def add(self, data: bytes, sop_class: str) -> None:
        """Take in one object, which was announced as one of ``sop_class``.

        Raises:
            ArrivalError: As ``take_in``; ``pacs.other_class``; ``pacs.full`` where the spool or the
                disk has no room.
            OSError: It cannot be written.
        """
        with self._lock:
            if not self._has_room(len(data)):
                raise ArrivalError("pacs.full", "there is no room for another object now")
            arrival = take_in(self.root / _INCOMING, data, partial(_check_class, sop_class))
            if not arrival.keys.ours:
                study = self._studies.setdefault(arrival.keys.study, _Study(0.0))
                study.last = time.monotonic()
                more = Held(int(arrival.size > 0), arrival.size)
                study.held.add(more)
                self._held.add(more)

    def _has_room(self, size: int) -> bool:
        return (
            self._held.objects < self.most_objects
            and self._held.size + size <= self.most_bytes
            and shutil.disk_usage(self.root).free - size >= LEAST_FREE_BYTES
        )

    def take(self, quiet_s: float) -> Taken | None:
        """Hand out the study that has been quiet for longest, if it was for ``quiet_s``."""
        with self._lock:
            uid = min(self._studies, key=lambda name: self._studies[name].last, default=None)
            if uid is None or time.monotonic() - self._studies[uid].last < quiet_s:
                return None
            folder = self.root / _SCORING / uid
            (self.root / _INCOMING / uid).rename(folder)
            return Taken(uid, folder, self._studies.pop(uid).held)

    def done(self, taken: Taken) -> None:
        """Forget a study that was scored."""
        shutil.rmtree(taken.folder, ignore_errors=True)
        with self._lock:
            self._held.less(taken.held)

    def put_back(self, taken: Taken) -> None:
        """Keep a study that could not be scored now, for later."""
        with self._lock:
            self._give_back(taken.folder)
            study = self._studies.setdefault(taken.uid, _Study(0.0))
            study.last = time.monotonic()
            study.held.add(taken.held)

    @property
    def studies(self) -> int:
        """How many are coming in."""
        return len(self._studies)

    def _give_back(self, folder: Path) -> None:
        """Back into ``incoming``, beside what came meanwhile."""
        for path in sorted(folder.rglob("*.dcm")):
            target = self.root / _INCOMING / path.relative_to(folder.parent)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.replace(target)
        shutil.rmtree(folder)


def _check_class(announced: str, keys: ObjectKeys) -> None:
    if keys.sop_class != announced:
        raise ArrivalError("pacs.other_class", "an object is not of the class it was announced as")


def _held_in(folder: Path) -> Held:
    sizes = [path.stat().st_size for path in folder.rglob("*.dcm")]
    return Held(len(sizes), sum(sizes))
