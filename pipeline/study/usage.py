"""How busy the machine is while a study runs: processor and memory, kept for MLflow.

The numbers are what MLflow's own monitor logs (``mlflow.system_metrics``), under its names: of the
whole machine, other programs included. They are read from the kernel's files (proc(5)); where
there are none, nothing is kept. A machine that computes for a Ray cluster is not seen from here.
"""

from __future__ import annotations

import csv
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

USAGE: Final = "system.csv"
_EVERY_S: Final = 5.0
_LEAST_S: Final = 1.0  # the kernel counts in hundredths of a second: a shorter time says little
_STAT, _MEMINFO = Path("/proc/stat"), Path("/proc/meminfo")


@dataclass(frozen=True)
class Usage:
    """One sample; the names but ``time_ms`` are MLflow's.

    Attributes:
        time_ms: When it was taken, in milliseconds since 1970.
        cpu_utilization_percentage: Busy share of all processors since the last sample.
        system_memory_usage_megabytes: Memory (10^6 bytes) that a new process could not have.
        system_memory_usage_percentage: Its share of all memory.
    """

    time_ms: int
    cpu_utilization_percentage: float
    system_memory_usage_megabytes: float
    system_memory_usage_percentage: float


@contextmanager
def sampled(path: Path, every_s: float = _EVERY_S) -> Iterator[None]:
    """Append a sample to a CSV file every few seconds while the block runs, and one at its end."""
    done = threading.Event()
    thread = threading.Thread(target=_sample, args=(path, every_s, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def read_usage(path: Path) -> list[Usage]:
    """The samples of a study, oldest first; a line that a kill cut off is left out."""
    if not path.is_file():
        return []
    found = []
    with path.open(newline="") as file:
        for row in csv.reader(file):
            with suppress(ValueError):  # the header, or a line that is not whole
                time_ms, cpu, used, share = row
                found.append(Usage(int(time_ms), float(cpu), float(used), float(share)))
    return found


def _sample(path: Path, every_s: float, done: threading.Event) -> None:
    with suppress(OSError):  # no such files in this system, or a full disk: the study goes on
        before, since = _busy(), time.monotonic()
        ended = False
        while not ended:
            ended = done.wait(every_s)
            if ended and time.monotonic() - since < min(_LEAST_S, every_s):
                return
            now, since = _busy(), time.monotonic()
            busy, passed = now[0] - before[0], now[1] - before[1]
            before = now
            used, total = _memory()
            share = 100 * busy / passed if passed else 0.0
            sample = (round(share, 1), round(used / 1e6, 1), round(100 * used / total, 1))
            _append(path, Usage(time.time_ns() // 1_000_000, *sample))


def _busy() -> tuple[int, int]:
    """Time of all processors since boot, in the kernel's ticks: busy, and in all."""
    # user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
    ticks = [int(word) for word in _STAT.read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _memory() -> tuple[int, int]:
    """Bytes in use, and in all."""
    lines = (line.split() for line in _MEMINFO.read_text().splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines}
    total = kilobytes["MemTotal:"]
    return 1024 * (total - kilobytes["MemAvailable:"]), 1024 * total


def _append(path: Path, usage: Usage) -> None:
    """Add a line, after one that a kill may have cut off."""
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        cut_off = file.read(1) not in (b"", b"\n")
        header = "" if size else ",".join(field.name for field in fields(Usage)) + "\n"
        line = ",".join(map(str, astuple(usage)))
        begin = "\n" if cut_off else header
        file.write(f"{begin}{line}\n".encode())
