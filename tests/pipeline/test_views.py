"""Views are exact copies, and a mean over them is as blind to mirrors as it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from data_prep.task import Task
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import FamilyError
from pipeline.losses import LossError
from pipeline.prediction import predict_network
from pipeline.views import ViewsConfig, views

BINARY = Task(kind="binary", class_names=("a", "b"))
LABELS = Task(kind="multi-label", class_names=("a", "b", "c"))


def scans_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Counting(nn.Module):
    """A linear network that counts how many scans it has seen."""

    def __init__(self, shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(int(np.prod(shape)), n_classes)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        logits: Tensor = self.layer(x.flatten(1))
        return logits


@pytest.mark.parametrize(
    ("config", "shape", "count"),
    [
        ({}, (2, 1, 6, 5), 1),
        ({"flip_axes": (1,)}, (2, 1, 6, 5), 2),
        ({"flip_axes": (1, 1)}, (2, 1, 6, 5), 2),
        ({"flip_axes": (0, 1), "shift_px": 2}, (2, 1, 6, 5), 20),
        ({"flip_axes": (0, 1, 2)}, (2, 1, 6, 5, 4), 8),
        ({"shift_px": 1}, (2, 1, 6, 5, 4), 7),
    ],
)
def test_there_are_as_many_views_as_stated_all_different_the_scan_first(
    config: dict[str, Any], shape: tuple[int, ...], count: int
) -> None:
    x = scans_of(shape)
    seen = list(views(x, ViewsConfig.model_validate(config)))
    assert seen[0] is x
    assert len({view.numpy().tobytes() for view in seen}) == len(seen) == count
    assert {view.shape for view in seen} == {x.shape}


@settings(max_examples=30, deadline=None)
@given(
    axis=st.integers(0, 2),
    voxels=st.integers(1, 9),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
)
def test_a_shift_moves_whole_voxels_and_the_border_goes_on(
    axis: int, voxels: int, shape: tuple[int, int, int]
) -> None:
    x = scans_of((2, 1, *shape))
    padding = [(0, 0)] * 5
    padding[axis + 2] = (voxels, voxels)
    padded = np.pad(x.numpy(), padding, mode="edge")
    length = shape[axis]
    expected = [
        np.take(padded, range(start, start + length), axis=axis + 2) for start in (2 * voxels, 0)
    ]
    found = list(views(x, ViewsConfig(shift_px=voxels)))[1 + 2 * axis : 3 + 2 * axis]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("task", [BINARY, LABELS], ids=lambda task: task.kind)
@pytest.mark.parametrize("shift", [0, 2])
def test_a_scan_and_its_mirror_image_get_the_same_probabilities(task: Task, shift: int) -> None:
    x = scans_of((7, 1, 6, 5))
    net = Counting((1, 6, 5), task.n_classes)
    both = ViewsConfig(flip_axes=(0, 1), shift_px=shift)
    rows = predict_network(net, x, task, both)
    for axes in ((2,), (3,), (2, 3)):
        assert np.allclose(predict_network(net, x.flip(axes), task, both), rows, atol=1e-12)
    assert not np.allclose(predict_network(net, x.flip(2), task), predict_network(net, x, task))
    if not task.is_multi_label:
        assert np.allclose(rows.sum(axis=1), 1, rtol=0, atol=1e-12)


def test_the_mean_is_of_probabilities_and_does_not_hang_on_the_batch() -> None:
    x = scans_of((300, 1, 6, 5))  # more than one batch
    net = Counting((1, 6, 5), 2)
    config = ViewsConfig(flip_axes=(1,), shift_px=1)
    rows = predict_network(net, x, BINARY, config)
    each = [predict_network(net, view, BINARY) for view in views(x, config)]
    assert np.allclose(rows, np.mean(each, axis=0), rtol=0, atol=1e-6)
    assert np.array_equal(rows, predict_network(net, x, BINARY, config))
    alone = np.concatenate([predict_network(net, row[None], BINARY, config) for row in x[:20]])
    assert np.allclose(alone, rows[:20], rtol=0, atol=1e-6)


def test_without_views_every_scan_is_seen_once() -> None:
    net = Counting((1, 6, 5), 2)
    predict_network(net, scans_of((9, 1, 6, 5)), BINARY)
    predict_network(net, scans_of((9, 1, 6, 5)), BINARY, ViewsConfig())
    assert net.seen == 18


QUICK: dict[str, dict[str, Any]] = {
    "mlp": {"widths": [4]},
    "cnn_scratch": {"widths": [4]},
    "monai_network": {"width": 0.1},
    "pretrained": {"mode": "full", "reading": {"sizes": [32], "stages": [1]}},
}


def build(name: str, task: Task = BINARY, **params: Any) -> None:
    content = {"family": name, "params": QUICK[name] | params}
    build_family(FamilyConfig.model_validate(content), task, (1, 16, 16), seed=0)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(
    ("test_time", "said"),
    [
        ({"flip_axes": [0, 1]}, r"test_time.flip_axes is \[0, 1\]; .* at most \[1\]"),
        ({"shift_px": 3}, r"test_time.shift_px is 3; .* at most 2"),
    ],
)
def test_a_view_that_training_never_shows_is_refused(
    name: str, test_time: dict[str, Any], said: str
) -> None:
    augment = {"flip_axes": [1], "shift_px": 2}
    with pytest.raises(FamilyError, match=f"{name}: params.{said}") as caught:
        build(name, augment=augment, test_time=test_time)
    assert caught.value.code == "family.unseen_view"
    build(name, augment=augment, test_time={"flip_axes": [1], "shift_px": 2})


@pytest.mark.parametrize("name", QUICK)
def test_a_loss_that_does_not_fit_the_task_is_refused_before_any_scan(name: str) -> None:
    with pytest.raises(LossError, match="earth_mover"):
        build(name, LABELS, train={"loss": "earth_mover"})


def test_a_probe_has_no_views_of_this_kind() -> None:
    with pytest.raises(ValidationError, match=r"reading\.flip_axes"):
        build(
            "pretrained",
            mode="probe",
            augment={"shift_px": 2},
            test_time={"shift_px": 1},
        )
