"""A small version of benchmarks/crossing_coverage.py: where families cross is held by intervals."""

from __future__ import annotations

from types import ModuleType

import pytest
from benchmark_script import load_benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_benchmark("crossing_coverage")


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.82), (1.0, 0.95)])
def test_crossings_are_covered_also_where_families_learn_apart_from_the_same_patients(
    script: ModuleType, correlation: float, least: float
) -> None:
    """Cohort draws that all families share would cover 73 % where families learn apart."""
    design = script.Design(correlation=correlation, repetitions=60, resamples=200, by_test=0.002)
    found = script.coverage(design)
    assert found.covered >= least
    assert found.settled > 0.9
