"""Validation scans in folds that keep each patient's scans together and each class spread out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.weighted_metrics import Labels


def patient_folds(
    target: Labels, patient_ids: NDArray[np.str_], folds: int, seed: int = 0
) -> NDArray[np.int64]:
    """The fold of each scan: a patient with scans of several classes stands with the highest.

    Args:
        target: (N,) class indices.
        patient_ids: (N,) patient of each scan.
        folds: How many; with fewer patients, some stay empty.
        seed: Decides who goes where.

    Returns:
        (N,) from 0 to ``folds`` - 1; folds differ by at most one patient in size.
    """
    # Imported for fitting alone: predict has no use for the readers of labels that come with it.
    from data_prep.splits import draw_folds

    patients, patient = np.unique(patient_ids, return_inverse=True)
    highest = np.zeros(len(patients), dtype=np.int64)
    np.maximum.at(highest, patient, target)
    strata = {str(name): f"{label:09}" for name, label in zip(patients, highest, strict=True)}
    fold = draw_folds(strata, folds, np.random.default_rng(seed))
    return np.array([fold[str(name)] for name in patients], dtype=np.int64)[patient]
