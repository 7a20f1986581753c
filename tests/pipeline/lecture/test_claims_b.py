"""Claims of the lecture on what networks see and on features that are not learnt: they hold, small,
and not without their mechanism."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.lecture.run import Mode, run_claim
from pipeline.study_stages import read_study

CLAIMS = ("configuration", "receptive_field", "adversarial", "filterbank", "random_kernels")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all, so that a cohort is made once, and a cell of both ways is fitted once."""
    return tmp_path_factory.mktemp("claims")


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_holds_small_and_fails_without_its_mechanism(name: str, runs: Path) -> None:
    name = f"lecture/{name}"
    config = read_study(name)
    shown = run_claim(name, config, runs, 1, None, Mode(quick=True))
    assert shown.holds, shown.judgements
    undone = run_claim(name, config, runs, 1, None, Mode(quick=True, flip=True))
    assert not undone.holds, undone.judgements
