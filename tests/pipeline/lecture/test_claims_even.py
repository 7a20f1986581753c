"""Every second claim of the lecture, from the second: it holds, run small, and fails undone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from claim_sweep import holds_and_fails_undone

from pipeline.lecture.outcome import ClaimRun
from pipeline.lecture.run import claims


@pytest.mark.parametrize("name", claims()[1::2])
def test_a_claim_holds_and_fails_without_its_mechanism(
    name: str, run_quickly: Callable[[str, bool], ClaimRun]
) -> None:
    holds_and_fails_undone(name, run_quickly)
