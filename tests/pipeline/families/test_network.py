"""Batches that a batch norm cannot bear are refused; one pass gives all that a network says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family, network
from pipeline.families.base import FamilyError
from pipeline.families.network import TrainedNetwork

TASK = Task(kind="binary", class_names=("a", "b"))
TRAIN = {"epochs": 1, "min_steps": 3, "precision": "fp32"}


def scans(n: int, shape: tuple[int, ...]) -> Scans:
    x = torch.randn((n, *shape), generator=torch.Generator().manual_seed(n))
    ids = np.arange(n).astype(np.str_)
    return Scans(x, np.arange(n) % 2, ids, ids)


def fit(family: str, shape: tuple[int, ...], batch_size: int, **params: Any) -> None:
    content = {"family": family, "params": {"train": TRAIN | {"batch_size": batch_size}} | params}
    built = build_family(FamilyConfig.model_validate(content), TASK, shape, seed=0)
    built.fit(scans(6, shape), scans(4, shape))


LONE: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("mlp", (1, 4, 4), {"widths": [3]}),
    ("cnn_scratch", (1, 4, 4), {"widths": [2, 2, 2]}),
    ("monai_network", (1, 4, 4, 4), {"width": 0.05}),
]


@pytest.mark.parametrize(("family", "shape", "params"), LONE)
def test_a_batch_of_one_value_a_channel_is_refused(
    family: str, shape: tuple[int, ...], params: dict[str, Any]
) -> None:
    with pytest.raises(FamilyError, match=rf"{family}: params\.train\.batch_size: 1") as caught:
        fit(family, shape, 1, **params)
    assert caught.value.code == "family.lone_value"
    fit(family, shape, 2, **params)


@pytest.mark.parametrize(
    ("shape", "params"), [((1, 8, 8), {"widths": [2]}), ((1, 4, 4), {"norm": "group"})]
)
def test_a_batch_of_one_scan_is_fine_where_nothing_is_alone(
    shape: tuple[int, ...], params: dict[str, Any]
) -> None:
    fit("cnn_scratch", shape, 1, **params)


def test_looking_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"widths": [2], "train": TRAIN | {"batch_size": 1}}
    config = FamilyConfig.model_validate({"family": "cnn_scratch", "params": params})
    states = []
    for _ in range(2):
        built = build_family(config, TASK, (1, 8, 8), seed=0)
        before = torch.random.get_rng_state()
        built.fit(scans(6, (1, 8, 8)), scans(4, (1, 8, 8)))
        assert torch.equal(torch.random.get_rng_state(), before)
        states.append({name: value.tobytes() for name, value in built.state().items()})
        monkeypatch.setattr(network, "_refuse_lone_values", lambda *_: None)
    assert states[0] == states[1]


def test_a_look_passes_through_the_network_once_and_sees_the_scan_itself() -> None:
    params = {"widths": [2], "augment": {"flip_axes": [0]}, "test_time": {"flip_axes": [0]}}
    config = FamilyConfig.model_validate({"family": "cnn_scratch", "params": params})
    built = build_family(config, TASK, (1, 8, 8), seed=0)
    assert isinstance(built, TrainedNetwork)
    x, passes = scans(5, (1, 8, 8)).x, []
    handle = built.net.register_forward_hook(lambda *_: passes.append(1))
    probability, features = built.look(x)
    handle.remove()
    assert len(passes) == 2  # the scan and its mirror image
    assert np.array_equal(probability, built.predict_proba(x))
    assert np.allclose(features, built.features(x), atol=1e-6)
    assert not np.allclose(features, built.features(x.flip(2)), atol=1e-3)
