"""The field that is counted is the block that gradients reach."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probed import cnn, holding, scans_of
from torch import nn

from pipeline.probes import receptive_field
from pipeline.probes.base import ProbeError
from pipeline.probes.receptive_field import ReceptiveField


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    layers=st.lists(
        st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(1, 2), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
def test_support_is_the_field_of_any_stack(layers: list[tuple[int, int, int, bool]]) -> None:
    stack: list[nn.Module] = []
    field, jump, width = 1, 1, 1
    for kernel, stride, dilation, padded in layers:
        around = dilation * (kernel - 1) // 2 if padded else 0
        stack.append(nn.Conv2d(width, 3, kernel, stride, around, dilation))
        stack.append(nn.LeakyReLU())
        field, jump, width = field + (kernel - 1) * dilation * jump, jump * stride, 3
    net = nn.Sequential(*stack, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    shape = (1, 130, 130)
    found = ReceptiveField(images=1).measure(holding(net, shape), scans_of(shape, 1), seed=0)
    assert found["field"] == found["support"] == field
    assert 1 <= found["measured_field"] <= field


def test_two_small_kernels_see_what_a_large_one_sees() -> None:
    """Simonyan and Zisserman 2015: two layers of 3 x 3 in place of one of 5 x 5."""
    scans = scans_of((1, 20, 20))
    large = ReceptiveField().measure(cnn(kernel=5, convolutions=1), scans, seed=0)
    small = ReceptiveField().measure(cnn(kernel=3, convolutions=3), scans, seed=0)
    assert large["field"] == small["field"] == large["support"] == small["support"] == 9


def test_the_field_is_measured_whatever_the_scans_size() -> None:
    deep = cnn((1, 12, 12), widths=(4, 4, 4), convolutions=2, head="flat")
    found = ReceptiveField().measure(deep, scans_of((1, 12, 12)), seed=0)
    assert found["field"] == found["support"] > 12
    volume = cnn((1, 8, 8, 8), widths=(3, 3))
    found = ReceptiveField().measure(volume, scans_of((1, 8, 8, 8)), seed=0)
    assert found["field"] == found["support"] == 10


def test_a_norm_over_places_reaches_beyond_the_field() -> None:
    group = cnn(norm="group", convolutions=2)
    found = ReceptiveField().measure(group, scans_of((1, 20, 20)), seed=0)
    assert found["support"] > found["field"] == 7


def test_a_field_of_more_than_can_be_drawn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receptive_field, "_MOST_EDGE", {2: 8})
    with pytest.raises(ProbeError, match="sees 5 voxels") as raised:
        ReceptiveField().measure(cnn(), scans_of((1, 20, 20)), seed=0)
    assert raised.value.code == "probe.field_too_large"
