"""What prediction sets do on scans that they were not fitted on: how often they hold the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Config
from data_prep.task import Task
from pipeline.shares import clustered_share, effective_patients
from pipeline.trust.conformal import Conformal, answered
from pipeline.trust.promised import Law, law_of_all, law_of_class
from pipeline.weighted_metrics import Floats, Labels, sums


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


class Coverage(Share):
    """A share of sets that hold the true class, and where it falls if the promise is kept.

    Attributes:
        least, most: Where the share falls, at the level of the intervals, for scans that come from
            where validation's came from: by the chance of these test patients and of the validation
            patients (see ``promised``); None where there is no scan, or no promise.
    """

    least: float | None
    most: float | None


class Covered(Config):
    """Prediction sets held against the truth. Of a multi-label task, each label has a set.

    Coverage is of what conformal prediction promises: a random scan of a new patient. So each
    patient weighs 1, shared among the patient's scans. The other shares are of scans, each as the
    next.

    Attributes:
        coverage: Sets that hold the true class.
        classes: The same of the scans of each class; for multi-label of no and of yes, label
            after label.
        mean_size: Classes in a set, on average.
        answered: Sets of one class: the scans that are not abstained from.
        right: Of those, the ones whose class is the true one.
        empty: Sets without any class.
    """

    coverage: Coverage
    classes: tuple[Coverage, ...]
    mean_size: float
    answered: Share
    right: Share
    empty: Share


def measure_sets(
    task: Task,
    target: Labels,
    sets: NDArray[np.bool_],
    patient_ids: NDArray[np.str_],
    conformal: Conformal,
    level: float = 0.95,
) -> Covered:
    """Hold prediction sets against the truth.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label; N at least 1.
        sets: As ``Conformal.sets`` gives them.
        patient_ids: (N,) patient of each scan.
        conformal: What the sets were made by.
        level: Coverage of the intervals.

    Raises:
        ValueError: If the shapes do not fit.
    """
    wanted = (*target.shape, 2) if task.is_multi_label else (*target.shape, task.n_classes)
    if sets.shape != wanted or len(patient_ids) != len(target):
        raise ValueError(f"sets {sets.shape} do not fit targets {target.shape}")
    each = target.shape[1] if task.is_multi_label else 1
    _, patient, scans = np.unique(patient_ids, return_inverse=True, return_counts=True)
    whose = np.repeat(patient, each)
    flat, truth = sets.reshape(-1, sets.shape[-1]), target.ravel()
    holds, single = flat[np.arange(len(truth)), truth], answered(flat)
    group: Labels = truth + sets.shape[-1] * np.tile(np.arange(each), len(target))
    all_of_them, nothing = np.ones(len(truth), dtype=bool), flat.sum(axis=1) == 0
    once, weight = np.ones(len(truth)), 1 / scans[whose]
    answers = each * sets.shape[-1]

    def covered(chosen: NDArray[np.bool_], law: Law | None) -> Coverage:
        share = share_of(holds, chosen, whose, weight, level)
        least, most = None, None
        if law and share.scans:
            patients = effective_patients(sums(whose[chosen], weight[chosen], len(scans)))
            least, most = law.range(patients, level)
        return Coverage(
            value=share.value,
            low=share.low,
            high=share.high,
            scans=share.scans,
            least=least,
            most=most,
        )

    of_all = law_of_all(conformal, sums(group, weight, answers), each)
    return Covered(
        coverage=covered(all_of_them, of_all),
        classes=tuple(
            covered(np.equal(group, number), law_of_class(conformal, number))
            for number in range(answers)
        ),
        mean_size=float(flat.sum(axis=1).mean()),
        answered=share_of(single, all_of_them, whose, once, level),
        right=share_of(holds, single, whose, once, level),
        empty=share_of(nothing, all_of_them, whose, once, level),
    )


def share_of(
    part: NDArray[np.bool_],
    whole: NDArray[np.bool_],
    whose: NDArray[np.int64],
    weight: Floats,
    level: float,
) -> Share:
    """The share of ``part`` in ``whole``.

    Args:
        part: (N,) which are counted, where they are in ``whole`` too.
        whole: (N,) which it is a share of.
        whose: (N,) number of the patient of each.
        weight: (N,) of each.
        level: Coverage of the interval over patients.
    """
    scans = int(whole.sum())
    if not scans:
        return Share(value=None, low=None, high=None, scans=0)
    n_patients = int(whose.max()) + 1
    of_patient = sums(whose, weight * whole, n_patients)
    counted = sums(whose, weight * (part & whole), n_patients)
    there = of_patient > 0
    low, high = clustered_share(counted[there], of_patient[there], level)
    return Share(value=float(counted.sum() / of_patient.sum()), low=low, high=high, scans=scans)
