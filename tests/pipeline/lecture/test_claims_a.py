"""Claims on what convolution is: each holds when run small, and fails without its mechanism."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.lecture.outcome import ClaimRun

CLAIMS = (
    "permutation",
    "translation",
    "parameters",
    "filters",
    "small_kernels",
    "boundaries",
    "pooling",
)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_holds_and_fails_without_its_mechanism(
    name: str, run_quickly: Callable[[str, bool], ClaimRun]
) -> None:
    found = run_quickly(name, False)
    unexpected = [f"{one.expectation}: {one.why}" for one in found.judgements if not one.holds]
    assert not unexpected
    undone = run_quickly(name, True)
    assert not undone.holds, f"it holds although: {undone.claim.flip.says}"
