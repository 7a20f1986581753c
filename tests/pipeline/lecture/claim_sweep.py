"""What every claim of the lecture keeps, so that a new one is swept without a line here.

Two test files have half of the claims each, for two processes.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.lecture.outcome import ClaimRun


def holds_and_fails_undone(name: str, run_quickly: Callable[[str, bool], ClaimRun]) -> None:
    """Run small the claim holds, and it does not without its mechanism."""
    found = run_quickly(name, False)
    unexpected = [f"{one.expectation}: {one.why}" for one in found.judgements if not one.holds]
    assert not unexpected
    undone = run_quickly(name, True)
    assert not undone.stands, f"it holds although: {undone.claim.flip.says}"
