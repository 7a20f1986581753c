"""Places are read off where padding tells them, and exactly nothing is where it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from probed import Located, cnn, holding, scans_of

from pipeline.probes.base import ProbeError, grey_images, tap
from pipeline.probes.position import Position

SHAPE = (1, 20, 24)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("padding", ["zero", "full", "circular", "valid"])
def test_position_comes_from_padding_alone(padding: str, norm: str) -> None:
    family = cnn(SHAPE, padding=padding, norm=norm, widths=(6, 6), convolutions=2)
    found = Position().measure(family, scans_of(SHAPE), seed=1)
    mean = (found["position row"] + found["position column"]) / 2
    assert found["position"] == pytest.approx(mean)
    if padding in ("zero", "full"):
        assert found["position"] > 0.1
    else:
        assert abs(found["position"]) < 1e-6


def test_a_network_that_is_told_its_places_reads_them_off_exactly() -> None:
    torch.manual_seed(0)
    found = Position().measure(holding(Located(20)), scans_of((1, 20, 20)), seed=0)
    assert min(found.values()) > 1 - 1e-4
    blind = Position().measure(holding(Located(20, share=0.0)), scans_of((1, 20, 20)), seed=0)
    assert max(map(abs, blind.values())) < 1e-6


def test_the_score_is_that_of_least_squares() -> None:
    family, scans = cnn(SHAPE), scans_of(SHAPE)
    found = Position(images=4).measure(family, scans, seed=3)
    with torch.no_grad():
        maps = tap(family, "last").maps(grey_images(scans, 4, seed=3))
    rows = maps.flatten(2).movedim(1, 2).numpy()
    rows = np.concatenate([rows, np.ones((*rows.shape[:2], 1))], axis=-1)
    row = np.repeat(np.arange(maps.shape[2]), maps.shape[3]).astype(float)
    weights, *_ = np.linalg.lstsq(rows[:2].reshape(-1, rows.shape[-1]), np.tile(row, 2), rcond=None)
    errors = rows[2:] @ weights - row
    assert found["position row"] == pytest.approx(1 - np.mean(errors**2) / row.var(), abs=1e-3)


def test_volumes_have_three_axes_and_single_places_none() -> None:
    shape = (1, 10, 10, 10)
    found = Position(images=4).measure(cnn(shape), scans_of(shape), seed=0)
    assert set(found) == {"position", "position row", "position column", "position slice"}
    narrow = cnn((1, 20, 3), kernel=1, widths=(2, 2))
    with pytest.raises(ProbeError, match="are 10 x 1;") as raised:
        Position().measure(narrow, scans_of((1, 20, 3)), seed=0)
    assert raised.value.code == "probe.scan_too_small"
