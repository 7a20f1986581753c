"""A map of no change changes nothing; a patient counts once for each class."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from simulated import BINARY, TISSUES, simulate

from pipeline.trust.calibration_maps import Method, apply_map, identity, patients_of_each_class

METHODS: tuple[Method, ...] = get_args(Method)


@pytest.mark.parametrize("method", METHODS)
def test_the_identity_changes_nothing(method: Method) -> None:
    if method == "none":
        return
    said = simulate(TISSUES if method == "vector" else BINARY, 50).said
    unchanged = apply_map(method, identity(method, said.shape[1]), said)
    np.testing.assert_allclose(unchanged, said, atol=1e-12)
    many = simulate(TISSUES, 50).said
    np.testing.assert_allclose(apply_map("isotonic", identity("isotonic", 3), many), many)


def test_patients_of_a_class_are_counted_once() -> None:
    counts = patients_of_each_class(
        np.array([0, 0, 1, 1]), np.array(["a", "a", "a", "b"]), n_classes=3
    )
    np.testing.assert_array_equal(counts, [1, 2, 0])
