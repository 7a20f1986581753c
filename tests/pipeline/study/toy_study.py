"""Small stores and families that the tests of studies share; importable by worker processes."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from data_prep.files import sha256_bytes
from data_prep.progress import Progress, silent
from data_prep.stage import new_stage
from data_prep.store import IndexRow, Store, write_index, write_shard
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family, FamilyError, FamilyParams, Fit, State
from pipeline.study.config import StudyConfig
from pipeline.study.features import Preparation
from pipeline.study.grid import Plan, PlannedCell, make_plan
from pipeline.study.jobs import Engine, Needs
from pipeline.study.journal import CellResult, Failure
from pipeline.study.worker import Job, Setup, Worker

BINARY = Task(kind="binary", class_names=("healthy", "ill"))


def write_store(
    folder: Path,
    *,
    patients: tuple[int, int, int] = (24, 10, 16),
    scans_each: int = 2,
    task: Task = BINARY,
    seed: int = 0,
    shift: float = 1.0,
    bayes: bool = False,
) -> Path:
    """A store of (1, 4, 4) scans whose mean says the class; patients in turn of each class.

    With ``bayes``, each scan's label is recorded as 0.9 probable, as of a phantom.
    """
    rng = np.random.default_rng(seed)
    scans, rows = [], []
    for split, count in zip(("train", "val", "test"), patients, strict=True):
        for patient in range(count):
            label = patient % task.n_classes
            target = tuple(np.eye(task.n_classes, dtype=int)[label].tolist())
            for scan in range(scans_each):
                scans.append(rng.normal(shift * label, 1.5, (1, 4, 4)).astype(np.float32))
                rows.append(
                    IndexRow(
                        scan_id=f"{split}-{patient:03d}-{scan}",
                        patient_id=f"PATIENT^{split}{patient:03d}",
                        split=split,
                        target=target if task.is_multi_label else (label,),
                        shard=0,
                        row=len(rows),
                        bayes=tuple(np.where(np.array(target), 0.9, 0.1)) if bayes else (),
                    )
                )
    with new_stage(folder, "prep", {}, {"seed": seed}) as partial:
        write_index(partial, rows, [write_shard(partial, 0, np.stack(scans))], task)
    return folder


def open_store(folder: Path) -> Store:
    """The store that ``write_store`` wrote."""
    return Store.open(folder)


class ToyParams(FamilyParams):
    """What the family does when it is fitted, and the files that it writes to.

    Attributes:
        mood: What it does.
        diary: Gets a line for each preparation.
        fits: Gets a line for each fit: what it was fitted on, and the parent process.
    """

    mood: str = "good"
    diary: str = ""
    fits: str = ""


class Toy(Family[ToyParams]):
    """Distance to the class means of prepared scans, with noise by seed."""

    name: ClassVar[str] = "toy"
    Params: ClassVar[type[FamilyParams]] = ToyParams

    def prepare(self, x: Tensor) -> Tensor:
        if self.params.mood == "unprepared":
            raise FamilyError("family.unprepared", "cannot be prepared")
        if self.params.diary:
            with Path(self.params.diary).open("a") as diary:
                diary.write(f"{self.seed} {len(x)}\n")
        noise = np.random.default_rng(self.seed).normal(size=x[0].numel())
        return x.reshape(len(x), -1) * torch.from_numpy(1 + 0.1 * noise).float()

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        if self.params.fits:
            with Path(self.params.fits).open("a") as fits:
                trained_on = sha256_bytes("".join(train.scan_ids).encode())
                fits.write(f"{self.seed}-{trained_on} {os.getppid()}\n")
        _act(self.params.mood, len(train))
        self.check_classes(train)
        self.means = torch.stack(
            [train.x[torch.from_numpy(train.target == k)].mean(0) for k in range(2)]
        )
        return Fit(history={"train_loss": [1.0, float("nan")]}, chosen={"epoch": 2.0})

    def probability(self, x: Tensor) -> Tensor:
        squares = [((x - mean) ** 2).flatten(1).sum(1) for mean in self.means]
        distance = torch.stack(squares, dim=1)
        return torch.softmax(-0.1 * distance.double(), dim=1)

    def state(self) -> State:
        return {"means": self.means.numpy()}

    def load_state(self, state: State) -> None:
        self.means = torch.from_numpy(state["means"])


def _act(mood: str, n_scans: int) -> None:
    if mood == "refuses":
        raise FamilyError("family.refuses", "does not want to", fix="ask again")
    if mood == "crashes":
        raise RuntimeError("a fault of the family")
    if mood == "fills the disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "features/x.npy")
    if mood == "dies" or (mood == "dies when large" and n_scans > 20):
        os._exit(9)
    if mood == "dawdles":
        time.sleep(0.2)
    if mood == "sleeps":
        time.sleep(60)


def toy_config(
    mood: str = "good", diary: Path | None = None, fits: Path | None = None
) -> FamilyConfig:
    """A family config that is not looked up in ``FAMILIES``."""
    params = ToyParams(mood=mood, diary=str(diary or ""), fits=str(fits or ""))
    return FamilyConfig.model_construct(family="toy", params=params)


def build_toy(
    config: FamilyConfig, task: Task, scan_shape: tuple[int, ...], seed: int
) -> Family[Any]:
    """``build_family`` that knows ``toy`` as well."""
    if isinstance(config.params, ToyParams):
        return Toy(config.params, task, scan_shape, seed)
    return build_family(config, task, scan_shape, seed)


def in_process(
    setup: Setup,
    cells: Sequence[PlannedCell],
    needs: Needs,
    *,
    workers: int,
    stopped: Callable[[], bool],
) -> Iterator[tuple[PlannedCell, CellResult | Failure]]:
    """An engine without processes."""
    worker = Worker.open(setup)
    for planned in cells:
        if stopped():
            return
        answer = worker.answer(Job(planned, needs(planned)))
        if isinstance(answer, OSError):
            raise answer
        assert isinstance(answer, CellResult | Failure)
        yield planned, answer


Outcome = dict[tuple[str, int, int, int], CellResult | Failure]


class Toys:
    """A study of toy families on one store, without its folder."""

    def __init__(
        self, root: Path, families: dict[str, FamilyConfig], subsets: int = 2, seeds: int = 1
    ) -> None:
        self.store = write_store(root / "store")
        config = StudyConfig(families=tuple(families), sizes=(6, 12), subsets=subsets, seeds=seeds)
        self.plan: Plan = make_plan(config, families, open_store(self.store), {})
        self.setup = Setup(
            self.store, root / "features", root / "checkpoints", families, 1, build_toy
        )

    def run(
        self,
        engine: Engine,
        workers: int = 1,
        needs: Needs = lambda _: None,
        *,
        cells: Sequence[PlannedCell] | None = None,
        stopped: Callable[[], bool] = lambda: False,
        after: Callable[[int], None] = lambda _: None,
    ) -> Outcome:
        """What an engine makes of the cells; ``after`` is told the number that are finished."""
        cells = self.plan.cells if cells is None else cells
        found: Outcome = {}
        for planned, result in engine(self.setup, cells, needs, workers=workers, stopped=stopped):
            cell = planned.cell
            assert (cell.family, cell.size, cell.subset, cell.seed) not in found
            found[cell.family, cell.size, cell.subset, cell.seed] = result
            after(len(found))
        return found


def toy_needs(planned: PlannedCell) -> Preparation:
    """One preparation for each seed."""
    return Preparation(planned.cell.family, planned.cell.seed, f"toy-{planned.cell.seed}")


def assert_same_bits(one: Outcome, other: Outcome) -> None:
    """All cells of both are done, with the same probabilities."""
    assert one.keys() == other.keys()
    for key, first in one.items():
        second = other[key]
        assert isinstance(first, CellResult) and isinstance(second, CellResult)
        assert first.val.tobytes() == second.val.tobytes()
        assert first.test.tobytes() == second.test.tobytes()
