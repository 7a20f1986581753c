"""What the study engine, its journal and MLflow add to the computing itself.

    OMP_NUM_THREADS=1 python benchmarks/study_overhead.py [SECONDS_OF_A_CELL]

First 1,000 cells that sleep for a second each, in two processes; overhead is the processes' time
from the first cell to the last run in MLflow, less what the cells slept, as a share of that. Then
1,000, 3,000 and 10,000 cells that do nothing: how many are computed, journaled and synced a second,
which should not fall as there are more. Twenty test scans; SQLite on this disk.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_prep.progress import Progress, silent
from data_prep.stage import new_stage
from data_prep.store import IndexRow, Store, write_index, write_shard
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig
from pipeline.families.base import Family, FamilyParams, Fit, State
from pipeline.study.cell import arithmetic
from pipeline.study.config import StudyConfig
from pipeline.study.engine import run_local
from pipeline.study.findings import find
from pipeline.study.grid import make_plan
from pipeline.study.journal import CELLS, Journal
from pipeline.study.results_writer import write_results
from pipeline.study.worker import Setup
from pipeline.tracking import sync_study

WORKERS = 2
TASK = Task(kind="binary", class_names=("a", "b"))


class SleeperParams(FamilyParams):
    """How long a fit takes."""

    seconds: float = 0.0


class Sleeper(Family[SleeperParams]):
    """Sleeps in place of learning; says that both classes are as likely."""

    name: ClassVar[str] = "sleeper"
    Params: ClassVar[type[FamilyParams]] = SleeperParams

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        time.sleep(self.params.seconds)
        return Fit()

    def predict_proba(self, x: Tensor) -> NDArray[np.float64]:
        return np.full((len(x), 2), 0.5)

    def state(self) -> State:
        return {}

    def load_state(self, state: State) -> None:
        pass


def build(config: FamilyConfig, task: Task, shape: tuple[int, ...], seed: int) -> Family[Any]:
    """A sleeper, whatever is asked for."""
    assert isinstance(config.params, SleeperParams)
    return Sleeper(config.params, task, shape, seed)


def write_store(folder: Path) -> Store:
    """Forty training, ten validation and twenty test scans of four pixels."""
    counts = {"train": 40, "val": 10, "test": 20}
    rows = [
        IndexRow(f"{split}{n}", f"{split}{n}", split, (n % 2,), 0, 0, ())
        for split, count in counts.items()
        for n in range(count)
    ]
    scans = np.zeros((1, 1, 2, 2), dtype=np.float32)
    with new_stage(folder, "prep", {}, {}) as partial:
        write_index(partial, rows, [write_shard(partial, 0, scans)], TASK)
    return Store.open(folder)


def study(place: Path, cells: int, seconds: float) -> tuple[float, float, float]:
    """Seconds of the engine with its journal, of the results, and of MLflow."""
    store = write_store(place / "store")
    params = SleeperParams(seconds=seconds)
    families = {"sleeper": FamilyConfig.model_construct(family="sleeper", params=params)}
    config = StudyConfig(
        families=("sleeper",), sizes=(10, 20), subsets=cells // 20, seeds=10, resamples=100
    )
    plan = make_plan(config, families, store, arithmetic(1))
    out, setup = (
        place / "study-overhead",
        Setup(
            store=store.folder,
            features=place / "features",
            checkpoints=place / "checkpoints",
            families=families,
            threads=1,
            build=build,
        ),
    )
    started = time.monotonic()
    journal, entries = Journal(out / CELLS), {}
    found = run_local(setup, plan.cells, lambda _: None, workers=WORKERS, stopped=lambda: False)
    for planned, result in found:
        now_ms = time.time_ns() // 1_000_000
        entries[planned.key] = journal.write(planned.cell, planned.key, result, now_ms)
    computed = time.monotonic()
    ordered = [entries[planned.key] for planned in plan.cells]
    write_results(out, "toy", plan, store, ordered, find(plan, store, journal, ordered, silent))
    written = time.monotonic()
    sync_study(out, f"sqlite:///{place / 'mlflow.db'}")
    return computed - started, written - computed, time.monotonic() - written


def main() -> None:
    """Print two Markdown tables."""
    second = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    print("| cells | of | engine + journal, s | MLflow, s | results, s | overhead |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        computed, found, synced = study(Path(folder), 1000, second)
    slept = 1000 * second
    overhead = (WORKERS * (computed + synced) - slept) / slept
    print(
        f"| 1000 | {second:g} s | {computed:.1f} | {synced:.1f} | {found:.1f} | {overhead:.1%} |",
        flush=True,
    )
    print("\n| cells that do nothing | cells/s | runs/s in MLflow | results, s |")
    print("|---|---|---|---|")
    for cells in (1000, 3000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            computed, found, synced = study(Path(folder), cells, 0.0)
        rates = f"{cells / computed:.0f} | {cells / synced:.0f} | {found:.1f}"
        print(f"| {cells} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
