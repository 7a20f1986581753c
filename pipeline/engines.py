"""Where work is done: processes on this machine, or a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from data_prep.readers.child_process import ChildProcess, DecodeChild
from data_prep.readers.sandbox import NewChild
from pipeline.console import say
from pipeline.study.errors import StudyError

if TYPE_CHECKING:
    from pipeline.study.jobs import Engine


def workers(asked: int | None) -> int:
    """The number asked for, else one process for each core that this process may use."""
    return asked or len(os.sched_getaffinity(0))


@contextmanager
def study_engine(
    ray: str | None, processes: int | None, threads: int
) -> Iterator[tuple[Engine | None, int]]:
    """What computes the cells of a study, and how many at once: all that there is room for, unless
    a number of processes is asked for.

    Raises:
        StudyError: ``study.no_ray`` or ``study.no_cluster``.
    """
    if ray is None:
        yield None, workers(processes)
        return
    with _cluster(ray, workers(processes) * threads):
        from pipeline.study.ray_cluster import slots
        from pipeline.study.ray_engine import run_ray

        yield partial(run_ray, say=say), processes or max(1, slots(threads))


@contextmanager
def decoding(ray: str | None, processes: int | None) -> Iterator[tuple[NewChild, int]]:
    """What starts a process that reads scans, and how many are to be started: one for each CPU,
    unless a number is asked for.

    Raises:
        StudyError: ``study.no_ray`` or ``study.no_cluster``.
    """
    if ray is None:
        yield ChildProcess, workers(processes)
        return
    with _cluster(ray, workers(processes)):
        from pipeline.ray_decode import RayReaders
        from pipeline.study.ray_cluster import slots

        yield RayReaders(say), processes or max(1, slots(1))


@contextmanager
def started(new_child: NewChild, count: int) -> Iterator[NewChild]:
    """Processes that read scans, begun now: they get ready while this one imports and looks around.

    What is yielded gives them out one by one, and then starts others.
    """
    waiting = [new_child() for _ in range(count)]

    def give() -> DecodeChild:
        try:
            return waiting.pop()
        except IndexError:
            return new_child()

    try:
        yield give
    finally:
        for child in waiting:
            child.end()


@contextmanager
def _cluster(address: str, cpus: int) -> Iterator[None]:
    """Be connected to the Ray cluster of that address."""
    try:
        from pipeline.study.ray_cluster import connect
    except ModuleNotFoundError as error:
        raise StudyError(
            "study.no_ray",
            f"--engine ray needs the Python package Ray, which is not installed ({error})",
            fix="install it with: pip install -c constraints.txt -e '.[ray]'",
        ) from error
    with connect(address, cpus):
        yield
