"""Maps move with the scan inside, and at the border only where padding does not show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probed import Located, averaging, cnn, holding, scans_of
from scipy import ndimage

from pipeline.probes.base import ProbeError
from pipeline.probes.equivariance import Equivariance

EXACT = 1e-12


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    padding=st.sampled_from(["zero", "reflect", "replicate", "circular", "valid", "full"]),
    kernel=st.sampled_from([3, 5]),
    convolutions=st.integers(1, 2),
    norm=st.sampled_from(["batch", "none"]),
)
def test_maps_move_with_the_scan_but_where_padding_shows(
    padding: str, kernel: int, convolutions: int, norm: str
) -> None:
    family = cnn((1, 28, 30), padding=padding, kernel=kernel, convolutions=convolutions, norm=norm)
    found = Equivariance(up_to=2, scans=2).measure(family, scans_of((1, 28, 30)), seed=0)
    assert found["inside_error"] < EXACT
    if padding in ("circular", "valid"):
        assert found["border_error"] < EXACT
    else:
        assert found["border_error"] > found["border_mean"] > 0.01


@pytest.mark.parametrize("pooling", ["max", "average", "stride"])
@pytest.mark.parametrize("where", ["first_resolution", "last"])
def test_after_pooling_maps_move_by_the_total_stride(pooling: str, where: str) -> None:
    family = cnn((1, 32, 32), widths=(3, 4), pooling=pooling)
    probe = Equivariance.model_validate({"where": where, "up_to": 3})
    found = probe.measure(family, scans_of((1, 32, 32)), seed=0)
    assert found["inside_error"] < EXACT < found["border_error"]


def test_volumes_and_wide_stems_too() -> None:
    volumes = Equivariance(up_to=1, scans=1)
    found = volumes.measure(cnn((1, 12, 12, 12)), scans_of((1, 12, 12, 12)), seed=0)
    assert found["inside_error"] < EXACT < found["border_error"]
    wide = cnn((1, 40, 40), stem_stride=2)
    found = Equivariance(up_to=2).measure(wide, scans_of((1, 40, 40)), seed=0)
    assert found["inside_error"] < EXACT < found["border_error"]


def test_errors_are_those_of_scipys_correlation() -> None:
    scans = scans_of((1, 20, 20), count=1)
    found = Equivariance(up_to=1).measure(holding(averaging(3, 1, "same")), scans, seed=0)
    scan, equal = scans.x[0, 0].double().numpy(), np.full((3, 3), 1 / 9)
    errors = []
    for axis in (0, 1):
        before = ndimage.correlate(scan, equal, mode="constant")
        after = ndimage.correlate(np.roll(scan, 1, axis), equal, mode="constant")
        difference = np.moveaxis(np.abs(after - np.roll(before, 1, axis)), axis, 0)[1:]
        errors.append(difference / np.sqrt(np.mean(before**2)))
    border = np.concatenate([error[[0, 18]].ravel() for error in errors])
    assert found["border_error"] == pytest.approx(border.max(), rel=1e-6)
    assert found["border_mean"] == found["border_mean at 1"]
    assert found["border_mean"] == pytest.approx(border.mean(), rel=1e-6)
    assert max(error[1:18].max() for error in errors) < EXACT


def test_a_network_that_knows_places_is_found_out() -> None:
    scans = scans_of((1, 20, 20))
    torch.manual_seed(0)
    blind = Equivariance().measure(holding(Located(20, share=0.0)), scans, seed=0)
    located = Equivariance().measure(holding(Located(20)), scans, seed=0)
    assert blind["inside_error"] < EXACT
    assert located["inside_error"] > 0.05


def test_where_nothing_is_inside_it_says_so() -> None:
    with pytest.raises(ProbeError, match="no place of") as raised:
        Equivariance(up_to=8).measure(cnn((1, 12, 12)), scans_of((1, 12, 12)), seed=0)
    assert raised.value.code == "probe.scan_too_small"
