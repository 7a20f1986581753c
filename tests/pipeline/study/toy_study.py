"""Small stores and families that the tests of studies share; importable by worker processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.progress import Progress, silent
from data_prep.stage import new_stage
from data_prep.store import IndexRow, Store, write_index, write_shard
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family, FamilyError, FamilyParams, Fit, State
from pipeline.study.engine import Needs
from pipeline.study.grid import PlannedCell
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
    """``mood`` decides what the family does when it is fitted; ``diary`` counts preparations."""

    mood: str = "good"
    diary: str = ""


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
        _act(self.params.mood, len(train))
        self.check_classes(train)
        self.means = torch.stack(
            [train.x[torch.from_numpy(train.target == k)].mean(0) for k in range(2)]
        )
        return Fit(history={"train_loss": [1.0, float("nan")]}, chosen={"epoch": 2.0})

    def predict_proba(self, x: Tensor) -> NDArray[np.float64]:
        squares = [((x - mean) ** 2).flatten(1).sum(1) for mean in self.means]
        distance = torch.stack(squares, dim=1)
        return torch.softmax(-0.1 * distance.double(), dim=1).numpy()

    def state(self) -> State:
        return {"means": self.means.numpy()}

    def load_state(self, state: State) -> None:
        self.means = torch.from_numpy(state["means"])


def _act(mood: str, n_scans: int) -> None:
    if mood == "refuses":
        raise FamilyError("family.refuses", "does not want to", fix="ask again")
    if mood == "crashes":
        raise RuntimeError("a fault of the family")
    if mood == "dies" or (mood == "dies when large" and n_scans > 20):
        os._exit(9)
    if mood == "sleeps":
        time.sleep(60)


def toy_config(mood: str = "good", diary: Path | None = None) -> FamilyConfig:
    """A family config that is not looked up in ``FAMILIES``."""
    params = ToyParams(mood=mood, diary=str(diary or ""))
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
        assert isinstance(answer, CellResult | Failure)
        yield planned, answer
