"""A small version of benchmarks/calibration_coverage.py: seldom is what is true off."""

from __future__ import annotations

from types import ModuleType

import pytest
from benchmark_script import load_benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_benchmark("calibration_coverage")


@pytest.mark.parametrize(
    "design",
    [{"prevalence": 0.1}, {"prevalence": 0.3}, {"scans": 3}, {"subsets": 1}],
    ids=["rare", "common", "several scans a patient", "one fit"],
)
def test_bins_of_true_probabilities_are_off_by_chance_alone(
    script: ModuleType, design: dict[str, float]
) -> None:
    """With percentile intervals of resamples 20 to 60 % of them were, and all that observe 0."""
    found = script.coverage(script.Design(150, repetitions=30, **design))
    assert 0.001 < found.off < 0.08
    assert found.off_ends <= 0.02 * found.ends
