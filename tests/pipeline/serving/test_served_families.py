"""What serving relies on, of every family: whole round trips, and answers that stay with a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.families import FAMILIES
from pipeline.serving.answers import MAX_BLOCK_SCANS
from pipeline.serving.package import load_package
from pipeline.serving.verify import verify

# Parameters that make a family quick; one without an entry is quick as it is.
QUICK: dict[str, dict[str, Any]] = {
    "cnn_scratch": {"widths": (4, 8), "train": {"epochs": 1, "min_steps": 3}},
    "monai_network": {"width": 0.1, "train": {"epochs": 1, "min_steps": 3}},
}
BLIND = ("prior",)  # it looks at no voxel: the same answer for every scan
SHAPES = [(14, 12), (12, 11, 10)]


@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_survives_its_package_bit_for_bit(make_package, tmp_path, name, shape):
    saved = make_package(shape, family=name, params=QUICK.get(name))
    x = torch.randn(5, 1, *shape, generator=torch.Generator().manual_seed(1))
    assert load_package(tmp_path / "model").predict(x).tobytes() == saved.predict(x).tobytes()
    assert verify(tmp_path / "model").bit_identical


@pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_scans_answer_does_not_depend_on_its_place_in_a_block(make_package, name, shape):
    package = make_package(shape, family=name, params=QUICK.get(name))
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(MAX_BLOCK_SCANS, 1, *shape, generator=generator)
    order = torch.randperm(MAX_BLOCK_SCANS, generator=generator)
    among = package.predict(x)
    # far below what is written; a block of another size is off by up to 8e-7
    assert np.allclose(package.predict(x[order]), among[order.numpy()], rtol=0, atol=1e-7)
    alone = torch.zeros_like(x)
    alone[0] = x[7]
    assert np.allclose(package.predict(alone)[0], among[7], rtol=0, atol=1e-7)
    assert name in BLIND or len(np.unique(among, axis=0)) > 1


def test_a_package_predicts_by_the_views_that_it_was_saved_with(make_package, tmp_path):
    params = QUICK["cnn_scratch"] | {"augment": {"flip_axes": (1,)}}
    views = {"test_time": {"flip_axes": (1,)}}
    saved = make_package((14, 12), family="cnn_scratch", params=params | views)
    x = torch.randn(5, 1, 14, 12, generator=torch.Generator().manual_seed(1))
    loaded = load_package(tmp_path / "model")
    assert loaded.card.family.params.test_time.flip_axes == (1,)
    assert loaded.predict(x).tobytes() == saved.predict(x).tobytes()
    assert np.allclose(loaded.predict(x.flip(3)), loaded.predict(x), rtol=0, atol=1e-7)
    once = make_package((14, 12), family="cnn_scratch", params=params)
    assert not np.allclose(once.predict(x.flip(3)), once.predict(x), rtol=0, atol=1e-7)
