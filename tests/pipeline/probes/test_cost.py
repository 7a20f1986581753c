"""What a network holds is counted, convolutional or not."""

from __future__ import annotations

import pytest
from probed import TASK, cnn, scans_of

from pipeline.families import build_family, load_family_config
from pipeline.families.mlp import Mlp, MlpParams
from pipeline.probes.base import ProbeError
from pipeline.probes.cost import Cost

SHAPE = (1, 20, 20)


def test_a_shared_weight_is_one_parameter_and_many_multiply_adds() -> None:
    found = Cost().measure(cnn(SHAPE), scans_of(SHAPE), seed=0)
    # Stem and stage, each with a norm of two numbers a channel, and a classifier.
    assert found["parameters"] == 9 * 4 + 9 * 16 + 2 * 2 * 4 + (4 + 1) * 2
    assert found["multiply_adds"] == 400 * (9 * 4 + 9 * 16) + 4 * 2


def test_a_fully_connected_network_uses_each_weight_once() -> None:
    flat = Mlp(MlpParams(widths=(6,)), TASK, SHAPE, seed=0)
    found = Cost().measure(flat, scans_of(SHAPE), seed=0)
    assert found["multiply_adds"] == 400 * 6 + 6 * 2
    assert found["parameters"] == found["multiply_adds"] + 2 * 6 + 2
    assert found["activation_bytes"] >= 4 * (6 + 2)
    assert Cost().draw(flat, scans_of(SHAPE), seed=0).axes


def test_two_small_kernels_cost_less_than_a_large_one_of_the_same_field() -> None:
    """Simonyan and Zisserman 2015: two layers of 3 x 3 in place of one of 5 x 5."""
    scans = scans_of(SHAPE)
    large = Cost().measure(cnn(SHAPE, kernel=5, convolutions=1, stem_stride=2), scans, seed=0)
    small = Cost().measure(cnn(SHAPE, kernel=3, convolutions=2, stem_stride=2), scans, seed=0)
    # The same stem; 25 x 16 weights against 2 x 9 x 16 and one more norm.
    assert large["parameters"] - small["parameters"] == 25 * 16 - 18 * 16 - 2 * 4
    assert small["multiply_adds"] < large["multiply_adds"]
    assert small["activation_bytes"] > large["activation_bytes"]


def test_what_has_no_network_costs_nothing_that_could_be_told() -> None:
    line = build_family(load_family_config("linear"), TASK, SHAPE, seed=0)
    with pytest.raises(ProbeError) as raised:
        Cost().measure(line, scans_of(SHAPE), seed=0)
    assert raised.value.code == "probe.no_network"
