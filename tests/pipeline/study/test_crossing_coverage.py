"""A small version of benchmarks/crossing_coverage.py: where families cross is held by intervals."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "crossing_coverage.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crossing_coverage", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.82), (1.0, 0.95)])
def test_crossings_are_covered_also_where_families_learn_apart_from_the_same_patients(
    script: ModuleType, correlation: float, least: float
) -> None:
    """Cohort draws that all families share would cover 73 % where families learn apart."""
    design = script.Design(correlation=correlation, repetitions=60, resamples=200, by_test=0.002)
    found = script.coverage(design)
    assert found.covered >= least
    assert found.settled > 0.9
