"""A small version of benchmarks/decomposition_truth.py: intervals on a phantom hold the truth."""

from __future__ import annotations

from types import ModuleType

import pytest
from benchmark_script import load_benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_benchmark("decomposition_truth")


def test_intervals_hold_the_truth_of_a_phantom(script: ModuleType) -> None:
    """Few training sets and test patients: the truth itself is rough, so coverage is a bit low."""
    design = script.Design(
        sizes=(12, 16, 20, 24),
        ahead=48,
        cohort=48,
        test_patients=50,
        subsets=6,
        repetitions=6,
        resamples=200,
        truth_sets=24,
        truth_patients=300,
    )
    held = script.measure(design)
    for what in ("noise", "bias2", "variance_data", "total", "AUC forecast", "AUC back-test"):
        mine = [one.covered for one in held if one.what == what]
        assert len(mine) >= 6
        assert sum(mine) / len(mine) >= 0.75, what

    lines = script.table(held).splitlines()
    assert any(line.startswith("| **bias2** | all |") for line in lines)
    assert all(line.count("|") == 7 for line in lines)
