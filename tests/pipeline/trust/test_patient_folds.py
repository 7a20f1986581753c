"""Folds keep patients whole, and spread classes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.trust.patient_folds import patient_folds


@given(patients=st.integers(2, 40), scans=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_folds_keep_patients_whole_and_classes_spread(patients: int, scans: int, seed: int) -> None:
    ids = np.repeat([f"p{n}" for n in range(patients)], scans)
    target = np.repeat(np.random.default_rng(seed).integers(3, size=patients), scans)
    fold = patient_folds(target, ids, 5, seed)
    assert all(len(set(fold[ids == name])) == 1 for name in set(ids))
    for label in range(3):
        counts = np.bincount(fold[target == label], minlength=5) // scans
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(fold, patient_folds(target, ids, 5, seed))
