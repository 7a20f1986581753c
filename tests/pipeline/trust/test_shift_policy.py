"""A policy asks for what can be."""

from __future__ import annotations

import pytest

from pipeline.trust.shift_policy import ShiftPolicy


def test_a_policy_asks_for_a_rate_that_makes_sense() -> None:
    assert ShiftPolicy().then == "flag"
    for rate in (0, 0.6):
        with pytest.raises(ValueError, match="false_alarms"):
            ShiftPolicy(false_alarms=rate)
