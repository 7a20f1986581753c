"""Class frequencies of the training scans: what a model must beat to have learnt anything."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families.base import Family, FamilyParams, Fit, State


class Prior(Family[FamilyParams]):
    """The same probabilities for every scan, by Laplace's rule: (N_k + 1) / (N + classes).

    So a class that no training scan has is rare, not impossible. It looks at no voxel: its AUC is
    0.5, and its log loss and Brier score are those of knowing the frequencies alone.
    """

    name: ClassVar[str] = "prior"
    Params: ClassVar[type[FamilyParams]] = FamilyParams
    seeded_prepare: ClassVar[bool] = False

    def __init__(
        self, params: FamilyParams, task: Task, scan_shape: tuple[int, ...], seed: int
    ) -> None:
        super().__init__(params, task, scan_shape, seed)
        self._frequencies = np.full(task.n_classes, np.nan)

    def prepare(self, x: Tensor) -> Tensor:
        """(N, C, I, J[, K]) -> (N, 0): nothing of a scan is used."""
        return self.read(x)

    def read(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :0]

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        self.check_classes(train)
        outcomes = 2 if self.task.is_multi_label else self.task.n_classes
        counts = self.task.one_hot(train.target).sum(axis=0)
        self._frequencies = (counts + 1) / (len(train) + outcomes)
        progress(1, 1)
        return Fit()

    def probability(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self._frequencies).expand(x.shape[0], -1).clone()

    def state(self) -> State:
        return {"frequencies": self._frequencies}

    def load_state(self, state: State) -> None:
        self.check_state(state, self.state())
        self._frequencies = state["frequencies"].astype(np.float64)
