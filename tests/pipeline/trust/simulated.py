"""Validation and test scans whose true probabilities are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from data_prep.task import Task

BINARY = Task(kind="binary", class_names=("healthy", "ill"))
GRADES = Task(kind="ordinal", class_names=("mild", "moderate", "severe"))
TISSUES = Task(kind="multi-class", class_names=("liver", "spleen", "kidney"))
FINDINGS = Task(kind="multi-label", class_names=("mass", "effusion"))
TASKS = (BINARY, GRADES, TISSUES, FINDINGS)


@dataclass(frozen=True)
class Simulated:
    """Scans that a classifier has predicted.

    Attributes:
        target: (N,), or (N, L) for multi-label.
        true: (N, C) probabilities that the targets were drawn with.
        said: (N, C) probabilities that the classifier gives: sharper than they should be.
        patient_ids: (N,).
    """

    target: NDArray[np.int64]
    true: NDArray[np.float64]
    said: NDArray[np.float64]
    patient_ids: NDArray[np.str_]


def simulate(
    task: Task, patients: int, *, scans: int = 1, temperature: float = 0.4, seed: int = 0
) -> Simulated:
    """Scans of patients, those of one patient alike; logits are divided by ``temperature``."""
    rng = np.random.default_rng(seed)
    n = patients * scans
    shape = (n, task.n_classes, 2) if task.is_multi_label else (n, task.n_classes)
    common = np.repeat(rng.normal(size=(patients, *shape[1:])), scans, axis=0)
    logits = 1.5 * common + 0.5 * rng.normal(size=shape)
    true, said = softmax(logits, axis=-1), softmax(logits / temperature, axis=-1)
    below = rng.random((*shape[:-1], 1)) > np.cumsum(true, axis=-1)[..., :-1]
    target = below.sum(axis=-1).astype(np.int64)
    if task.is_multi_label:
        true, said = true[..., 1], said[..., 1]
    ids = np.repeat([f"p{number:05}" for number in range(patients)], scans)
    return Simulated(target, true, said, ids)
