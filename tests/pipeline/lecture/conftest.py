"""Claims put to the test quickly, in this process: how workers are started is tested elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.lecture.outcome import ClaimRun
from pipeline.lecture.run import Mode, run_claim
from pipeline.study import compute
from pipeline.study.grid import PlannedCell
from pipeline.study.jobs import Finished, JobQueue, Needs
from pipeline.study.worker import Setup, Worker
from pipeline.study_stages import read_study

RunQuickly = Callable[[str, bool], ClaimRun]


def run_here(
    setup: Setup,
    cells: Sequence[PlannedCell],
    needs: Needs,
    *,
    workers: int,
    stopped: Callable[[], bool],
) -> Iterator[Finished]:
    """An engine of this process alone."""
    del workers, stopped
    jobs, worker = JobQueue(cells, needs), Worker.open(setup)
    while (job := jobs.take()) is not None:
        yield from jobs.answered(job, worker.answer(job))


@pytest.fixture(scope="session")
def lecture_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all claims' runs: what a flip leaves as it was is not computed again."""
    return tmp_path_factory.mktemp("lecture_runs")


@pytest.fixture(scope="session")
def run_quickly(lecture_runs: Path) -> Iterator[RunQuickly]:
    """Runs a claim's small version; the second argument undoes its mechanism."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "run_local", run_here)

        def run(name: str, flip: bool) -> ClaimRun:
            mode = Mode(quick=True, flip=flip)
            return run_claim(name, read_study(name), lecture_runs, 1, None, mode)

        yield run
