"""Nested, stratified subsets of patients: the first n of one random order.

Each prefix of an order holds every class by its share, and at least two patients of each; labels
are the patient's, counted from those of the scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import CohortError
from data_prep.store import IndexRow
from data_prep.task import Task

PATIENTS_PER_CLASS: Final = 2
Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Patients:
    """The patients of one split.

    Attributes:
        of_scan: (N,) position of each scan's patient.
        labels: (P, K) which patient has which class or label.
    """

    of_scan: Positions
    labels: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Number of patients."""
        return len(self.labels)

    def scans_of(self, patients: Positions) -> Positions:
        """Positions of all scans of these patients, ascending."""
        return np.flatnonzero(np.isin(self.of_scan, patients))


def patients_of(task: Task, rows: Sequence[IndexRow]) -> Patients:
    """The patients of a split's scans, by name, with the labels that their scans give them."""
    names, of_scan = np.unique([row.patient_id for row in rows], return_inverse=True)
    target = np.array([row.target for row in rows], dtype=np.int64)
    scans = task.one_hot(target if task.is_multi_label else target[:, 0])
    counts = np.zeros((len(names), task.n_classes))
    np.add.at(counts, of_scan, scans)
    return Patients(of_scan=of_scan, labels=_patient_labels(task, counts))


def nested_order(labels: NDArray[np.bool_], seed: Sequence[int]) -> tuple[Positions, int]:
    """A random order of patients whose every prefix is stratified.

    Within a stratum (patients with the same labels) the order is random; the k-th of N patients
    stands at (k + u) / N with one uniform u per stratum, and strata are merged by that position:
    systematic sampling (Madow and Madow 1944), which keeps each stratum's share of a prefix within
    one patient. The first two with and without each label are then moved to the front.

    Args:
        labels: (P, K) which patient has which class or label.
        seed: Decides the order.

    Returns:
        (P,) patients in order, and how many of them stand in front for the sake of rare classes:
        the smallest size that holds two patients of each class.
    """
    rng = np.random.default_rng(list(seed))
    _, stratum = np.unique(labels, axis=0, return_inverse=True)
    position = np.empty(len(labels))
    for name in range(int(stratum.max(initial=-1)) + 1):
        members = rng.permutation(np.flatnonzero(stratum == name))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    order = np.argsort(position, kind="stable")
    front = np.zeros(len(labels), dtype=bool)
    for column in labels[order].T:
        front[np.flatnonzero(column)[:PATIENTS_PER_CLASS]] = True
        front[np.flatnonzero(~column)[:PATIENTS_PER_CLASS]] = True
    return np.concatenate([order[front], order[~front]]), int(front.sum())


def refuse_small(size: int, at_least: int, labels: NDArray[np.bool_], task: Task) -> None:
    """Refuse patients, or a size, that cannot give a subset two patients of each class.

    Args:
        size: The smallest number of training patients that is asked for.
        at_least: The smallest that holds two of each class, as ``nested_order`` found it.
        labels: (P, K) of all training patients.
        task: Which classes these are.

    Raises:
        CohortError: ``study.small_class`` or ``study.size_too_small``.
    """
    having = labels.sum(axis=0)
    for name, count in zip(task.class_names, having, strict=True):
        fewest = min(count, len(labels) - count) if task.is_multi_label else count
        if fewest < PATIENTS_PER_CLASS:
            raise CohortError(
                "study.small_class",
                f"class '{name}' has {count} of {len(labels)} training patients; at least "
                f"{PATIENTS_PER_CLASS} with and {PATIENTS_PER_CLASS} without it are needed",
                fix="add patients of this class, merge it with another, or leave it out",
            )
    if size < at_least:
        raise CohortError(
            "study.size_too_small",
            f"size {size} cannot hold {PATIENTS_PER_CLASS} patients of each of "
            f"{task.n_classes} classes",
            fix=f"use sizes from {at_least} patients",
        )


def _patient_labels(task: Task, counts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A patient's class from the number of scans of each: (P, K) -> (P, K) bool.

    Binary: positive if any scan is. Multi-label: each label that any scan has. Else the commonest
    class, ties to the later one (the higher grade of an ordinal task).
    """
    if task.is_multi_label:
        return counts > 0
    if task.kind == "binary":
        chosen = (counts[:, 1] > 0).astype(np.int64)
    else:
        chosen = task.n_classes - 1 - np.argmax(counts[:, ::-1], axis=1)
    return np.eye(task.n_classes, dtype=bool)[chosen]
