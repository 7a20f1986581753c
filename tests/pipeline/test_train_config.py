"""A training has its steps however few the scans, and balances classes in one way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.train_config import TrainConfig


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 5000),
    epochs=st.integers(1, 50),
    min_steps=st.integers(1, 500),
    batch_size=st.integers(1, 128),
)
def test_every_epoch_sees_all_scans_and_all_epochs_have_enough_steps(
    n: int, epochs: int, min_steps: int, batch_size: int
) -> None:
    config = TrainConfig(epochs=epochs, min_steps=min_steps, batch_size=batch_size)
    steps = config.steps_per_epoch(n)
    assert steps * batch_size >= n
    assert epochs * steps >= min_steps
    fewer = steps - 1
    assert fewer * batch_size < n or epochs * fewer < min_steps
    assert config.scans_seen(n) == epochs * steps * min(n, batch_size)
    assert config.brief().epochs == 1


def test_two_ways_of_balancing_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="one of them does it"):
        TrainConfig(class_weights="balanced", sampling="balanced")
