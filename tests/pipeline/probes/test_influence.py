"""Weights of voxels are counts of windows; sizes are the textbook's."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probed import averaging, cnn, holding, scans_of
from pydantic import ValidationError

from pipeline.probes.base import ProbeError
from pipeline.probes.influence import Influence, border_share

SHAPE = (1, 13, 15)


def windows(kernel: int, around: int, *, mirrored: bool) -> torch.Tensor:
    """How many windows each voxel is on, counted one by one."""
    edges = SHAPE[1:]
    counts = np.zeros(edges)
    starts = [range(-around, edge + around - kernel + 1) for edge in edges]
    for corner in product(*starts):
        for step in product(range(kernel), repeat=2):
            place = [c + s for c, s in zip(corner, step, strict=True)]
            if mirrored:
                place = [abs(p) for p in place]
                place = [min(p, 2 * e - 2 - p) for p, e in zip(place, edges, strict=True)]
            if all(0 <= p < e for p, e in zip(place, edges, strict=True)):
                counts[tuple(place)] += 1
    return torch.from_numpy(counts)


@pytest.mark.parametrize("kernel", [3, 5])
def test_one_convolution_counts_windows(kernel: int) -> None:
    found = Influence(kernel=kernel, depth=1).measure(cnn(SHAPE), scans_of(SHAPE), seed=0)
    for padding, around in (("valid", 0), ("zero", kernel // 2), ("reflect", kernel // 2)):
        counts = windows(kernel, around, mirrored=padding == "reflect")
        assert found[f"{padding} border_share"] == pytest.approx(border_share(counts))
        assert found[f"{padding} border_share"] < 0.95
    assert found["full border_share"] == pytest.approx(1)
    assert found["circular border_share"] == pytest.approx(1)
    sizes = [found[f"{name} size"] for name in ("valid", "same", "full")]
    assert sizes == [1 - kernel, 0, kernel - 1]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    padding=st.sampled_from(["valid", "same", "full"]),
    depth=st.integers(1, 3),
    kernel=st.sampled_from([3, 5]),
)
def test_a_network_of_averages_weighs_as_the_averages(
    padding: str, depth: int, kernel: int
) -> None:
    """Two ways to one number: through the family's network, and without it."""
    family = holding(averaging(kernel, depth, padding), (1, 19, 19))
    found = Influence(kernel=kernel, depth=depth).measure(family, scans_of((1, 19, 19)), seed=0)
    alone = found[f"{'zero' if padding == 'same' else padding} border_share"]
    assert found["border_share"] == pytest.approx(alone, rel=1e-6)
    assert found["border_share on scans"] == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 18, 18), (1, 9, 9, 9)], ids=["2D", "3D"])
def test_only_circular_padding_treats_all_voxels_alike(shape: tuple[int, ...]) -> None:
    shares = {
        padding: Influence().measure(
            cnn(shape, padding=padding, stem_stride=1), scans_of(shape), seed=0
        )["border_share"]
        for padding in ("circular", "zero")
    }
    assert shares["circular"] == pytest.approx(1, abs=1e-9)
    assert abs(shares["zero"] - 1) > 0.05


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be odd, not 4"):
        Influence(kernel=4)
    with pytest.raises(ProbeError, match="averaging convolution 3 of kernel 7") as raised:
        Influence(kernel=7, depth=3).measure(cnn(SHAPE), scans_of(SHAPE), seed=0)
    assert raised.value.code == "probe.scan_too_small"
