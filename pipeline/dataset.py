"""Scans as tensors: what every family is trained on and predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.store import IndexRow, Store
from data_prep.task import Task


@dataclass(frozen=True, eq=False)
class Scans:
    """Preprocessed scans of one split, or a part of it.

    Attributes:
        x: (N, C, I, J[, K]) float32.
        target: (N,) int64 class indices, or (N, L) int64 of 0/1 for a multi-label task.
        patient_ids: (N,) str.
        scan_ids: (N,) str.
        bayes: (N, n_classes) float64 true probabilities of a phantom, else None.
    """

    x: Tensor
    target: NDArray[np.int64]
    patient_ids: NDArray[np.str_]
    scan_ids: NDArray[np.str_]
    bayes: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def scan_shape(self) -> tuple[int, ...]:
        """(C, I, J[, K]) of one scan."""
        return tuple(self.x.shape[1:])

    def take(self, indices: NDArray[np.int64]) -> Scans:
        """The scans at ``indices`` (n,), in that order."""
        return Scans(
            x=self.x[torch.from_numpy(indices)],
            target=self.target[indices],
            patient_ids=self.patient_ids[indices],
            scan_ids=self.scan_ids[indices],
            bayes=None if self.bayes is None else self.bayes[indices],
        )

    def with_x(self, x: Tensor) -> Scans:
        """The same scans with other inputs (features in place of voxels, one row a scan)."""
        return Scans(x, self.target, self.patient_ids, self.scan_ids, self.bayes)


def targets(task: Task, rows: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """Targets of index rows: (N,) class indices, or (N, L) for a multi-label task."""
    array = np.array(rows, dtype=np.int64)
    return array if task.is_multi_label else array[:, 0]


def load_split(store: Store, split: str) -> Scans:
    """Read one split of a store into memory, in store order.

    Raises:
        StageError: ``store.empty_split``.
    """
    return load_rows(store, store.rows(split))


def load_rows(store: Store, rows: list[IndexRow]) -> Scans:
    """Read the scans of these rows into memory, in that order."""
    scans = store.read(rows)
    bayes = np.array([row.bayes for row in rows], dtype=np.float64)
    return Scans(
        x=torch.from_numpy(scans),
        target=targets(store.task, [row.target for row in rows]),
        patient_ids=np.array([row.patient_id for row in rows], dtype=np.str_),
        scan_ids=np.array([row.scan_id for row in rows], dtype=np.str_),
        bayes=bayes if bayes.size else None,
    )
