"""What prediction sets do on scans that they were not fitted on: how often they hold the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Config
from data_prep.task import Task
from pipeline.shares import clustered_share
from pipeline.trust.conformal import answered
from pipeline.weighted_metrics import Labels


class Share(Config):
    """A share of scans.

    Attributes:
        value, low, high: With its interval over patients; None where there is no scan.
        scans: How many scans it is a share of.
    """

    value: float | None
    low: float | None
    high: float | None
    scans: int


class Covered(Config):
    """Prediction sets held against the truth. Of a multi-label task, each label has a set.

    Attributes:
        coverage: Sets that hold the true class.
        classes: The same of the scans of each class; for multi-label of no and of yes, label
            after label.
        mean_size: Classes in a set, on average.
        answered: Sets of one class: the scans that are not abstained from.
        right: Of those, the ones whose class is the true one.
        empty: Sets without any class.
    """

    coverage: Share
    classes: tuple[Share, ...]
    mean_size: float
    answered: Share
    right: Share
    empty: Share


def measure_sets(
    task: Task,
    target: Labels,
    sets: NDArray[np.bool_],
    patient_ids: NDArray[np.str_],
    level: float = 0.95,
) -> Covered:
    """Hold prediction sets against the truth.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label; N at least 1.
        sets: As ``Conformal.sets`` gives them.
        patient_ids: (N,) patient of each scan.
        level: Coverage of the intervals.

    Raises:
        ValueError: If the shapes do not fit.
    """
    wanted = (*target.shape, 2) if task.is_multi_label else (*target.shape, task.n_classes)
    if sets.shape != wanted or len(patient_ids) != len(target):
        raise ValueError(f"sets {sets.shape} do not fit targets {target.shape}")
    each = target.shape[1] if task.is_multi_label else 1
    whose = np.repeat(np.unique(patient_ids, return_inverse=True)[1], each)
    flat, truth = sets.reshape(-1, sets.shape[-1]), target.ravel()
    holds, single = flat[np.arange(len(truth)), truth], answered(flat)
    group: Labels = truth + sets.shape[-1] * np.tile(np.arange(each), len(target))
    everything, nothing = np.ones(len(truth), dtype=bool), flat.sum(axis=1) == 0
    return Covered(
        coverage=_share(holds, everything, whose, level),
        classes=tuple(
            _share(holds, np.equal(group, number), whose, level)
            for number in range(each * sets.shape[-1])
        ),
        mean_size=float(flat.sum(axis=1).mean()),
        answered=_share(single, everything, whose, level),
        right=_share(holds, single, whose, level),
        empty=_share(nothing, everything, whose, level),
    )


def _share(
    part: NDArray[np.bool_], whole: NDArray[np.bool_], whose: NDArray[np.int64], level: float
) -> Share:
    scans = int(whole.sum())
    if not scans:
        return Share(value=None, low=None, high=None, scans=0)
    counts = np.bincount(whose, whole).astype(np.float64)
    counted = np.bincount(whose, part & whole).astype(np.float64)
    low, high = clustered_share(counted[counts > 0], counts[counts > 0], level)
    return Share(value=float(part[whole].mean()), low=low, high=high, scans=scans)
