"""A training that was killed goes on to the same bits; a checkpoint that is not its own is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from data_prep.files import read_json, write_json
from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline import checkpoint
from pipeline.augment import AugmentConfig
from pipeline.checkpoint import RECORD, Checkpoints
from pipeline.dataset import Scans
from pipeline.device import seeded
from pipeline.train_config import TrainConfig
from pipeline.training import Trained, train_network

TASK = Task(kind="binary", class_names=("a", "b"))
QUICK = TrainConfig(epochs=6, min_steps=24, batch_size=8, learning_rate=0.02, ema_decay=0.9)


class KilledError(Exception):
    """What ends a training from outside."""


class SmallNet(nn.Module):
    """Convolution, batch norm and dropout, in memory formats of their own."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.first = (nn.Conv2d if ndim == 2 else nn.Conv3d)(2, 4, 3)
        self.second = (nn.Conv2d if ndim == 2 else nn.Conv3d)(4, 4, 2)
        self.norm = (nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d)(4)
        self.dropout = nn.Dropout(0.4)
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        places = functional.relu(self.norm(self.second(self.first(x)))).flatten(2).mean(2)
        logits: Tensor = self.classifier(self.dropout(places))
        return logits


def net_of(ndim: int = 2, seed: int = 0) -> SmallNet:
    with seeded(seed, torch.device("cpu")):
        return SmallNet(ndim)


def scans_of(n: int, seed: int, ndim: int = 2) -> Scans:
    rng = np.random.default_rng(seed)
    target = (np.arange(n) % 3 == 0).astype(np.int64)
    x = rng.normal(size=(n, 2) + (6,) * ndim)
    x += target.reshape((n,) + (1,) * (ndim + 1))
    ids = np.array([f"{seed}-{i}" for i in range(n)])
    return Scans(torch.from_numpy(x.astype(np.float32)), target, ids, ids)


def train(
    place: Path | None,
    config: TrainConfig = QUICK,
    *,
    ndim: int = 2,
    seed: int = 0,
    key: str = "key",
    scans: int = 30,
    progress: Progress = silent,
    every: float = 0,
) -> tuple[dict[str, Tensor], Trained]:
    net = net_of(ndim)
    trained = train_network(
        net,
        TASK,
        scans_of(scans, 1, ndim),
        scans_of(12, 2, ndim),
        config,
        seed=seed,
        augmentation=AugmentConfig(shift_px=1, noise=0.1),
        progress=progress,
        checkpoints=None if place is None else Checkpoints(place, key, every),
    )
    return net.state_dict(), trained


def killed_at(epoch: int) -> Progress:
    def progress(done: int, _: int) -> None:
        if done == epoch:
            raise KilledError

    return progress


def assert_same(one: tuple[dict[str, Tensor], Trained], other: tuple[Any, Trained]) -> None:
    assert one[0].keys() == other[0].keys()
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name
    for name, values in one[1].history.items():
        assert np.array_equal(values, other[1].history[name], equal_nan=True)
    assert one[1].chosen == other[1].chosen


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16"},
        {"sampling": "balanced", "choose_by": "auc"},
        {"ema_decay": 0.0, "choose_by": "last", "batch_size": 7},
    ],
    ids=str,
)
def test_a_killed_training_goes_on_to_the_same_bits(
    changes: dict[str, object], ndim: int, tmp_path: Path
) -> None:
    config = QUICK.model_copy(update=changes)
    unbroken = train(None, config, ndim=ndim)
    for epoch in (2, 5):  # killed twice, the second time after it went on
        with pytest.raises(KilledError):
            train(tmp_path, config, ndim=ndim, progress=killed_at(epoch))
    torch.manual_seed(9)  # what happened in between must not matter
    told: list[int] = []
    resumed = train(tmp_path, config, ndim=ndim, progress=lambda done, _: told.append(done))
    assert told == [5, 6]
    assert resumed[1].notes == ("went on from its checkpoint after epoch 5",)
    assert_same(unbroken, resumed)


def test_a_training_knows_how_long_it_took_however_often_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def an_epoch_takes_100_seconds(end: int) -> Progress:
        def progress(done: int, _: int) -> None:
            nonlocal now
            if done == end:
                raise KilledError
            now += 100

        return progress

    monkeypatch.setattr(time, "monotonic", lambda: now)
    for killed in (2, 5):
        with pytest.raises(KilledError):
            train(tmp_path, progress=an_epoch_takes_100_seconds(killed))
        now += 5000  # until it is gone on with
    assert train(None)[1].seconds_before == 0
    assert train(tmp_path)[1].seconds_before == 500


def test_a_finished_training_comes_out_of_its_last_checkpoint(tmp_path: Path) -> None:
    first = train(tmp_path)
    told: list[int] = []
    assert_same(first, train(tmp_path, progress=lambda done, _: told.append(done)))
    assert told == [6]


def test_a_validation_of_one_class_has_no_auc_to_lose(tmp_path: Path) -> None:
    """NaN is kept in a checkpoint as any other number."""

    def go(place: Path | None, progress: Progress = silent) -> tuple[dict[str, Tensor], Trained]:
        net, val = net_of(), scans_of(1, 2)
        at = None if place is None else Checkpoints(place, "key", 0)
        scans = scans_of(20, 1)
        done = train_network(
            net, TASK, scans, val, QUICK, seed=0, progress=progress, checkpoints=at
        )
        return net.state_dict(), done

    unbroken = go(None)
    assert np.isnan(unbroken[1].history["val_auc"]).all()
    with pytest.raises(KilledError):
        go(tmp_path, killed_at(3))
    assert_same(unbroken, go(tmp_path))


def test_short_trainings_write_nothing(tmp_path: Path) -> None:
    train(tmp_path / "none", every=60)
    assert not (tmp_path / "none").exists()


def test_one_checkpoint_stands_at_a_time_and_nothing_in_it_is_pickled(tmp_path: Path) -> None:
    train(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {RECORD, "epoch-6.safetensors"}
    assert b"scan" not in (tmp_path / RECORD).read_bytes()  # no id of a scan either


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"key": "another cell"},
        {"scans": 31},
        {"config": QUICK.model_copy(update={"epochs": 7})},
        {"config": QUICK.model_copy(update={"loss": "focal"})},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_training_is_left_alone(
    other: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, progress=killed_at(3))
    alone, beside = train(None, **other), train(tmp_path, **other)
    assert_same(alone, beside)
    assert beside[1].notes == (
        "checkpoint ignored, training began anew: it is of another training",
    )


def flip_a_bit(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def cut_the_tensors(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])


def lose_the_tensors(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.unlink()


def change_the_record(folder: Path) -> None:
    record = read_json(folder / RECORD)
    write_json(folder / RECORD, record | {"epoch": 1})


def cut_the_record(folder: Path) -> None:
    (folder / RECORD).write_bytes((folder / RECORD).read_bytes()[:-9])


def replace_the_record(folder: Path) -> None:
    write_json(folder / RECORD, ["something", "else"])


def nest_the_record(folder: Path) -> None:
    (folder / RECORD).write_text("[" * 200_000 + "]" * 200_000)


@pytest.mark.parametrize(
    "harm",
    [
        flip_a_bit,
        cut_the_tensors,
        lose_the_tensors,
        change_the_record,
        cut_the_record,
        replace_the_record,
        nest_the_record,
    ],
)
def test_a_damaged_checkpoint_is_never_trusted(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, progress=killed_at(3))
    harm(tmp_path)
    again = train(tmp_path)
    assert_same(train(None), again)
    assert again[1].notes[0].startswith("checkpoint ignored, training began anew: ")


def test_a_kill_between_the_two_files_leaves_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def killed(path: Path, content: Any) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise KilledError
        write_json(path, content)

    monkeypatch.setattr(checkpoint, "write_json", killed)
    with pytest.raises(KilledError):
        train(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    resumed = train(tmp_path)
    assert resumed[1].notes == ("went on from its checkpoint after epoch 2",)
    assert_same(train(None), resumed)


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    trained = train(tmp_path)
    assert_same(train(None), trained)
    assert trained[1].notes[0] == "no checkpoint after epoch 1: No space left on device"


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_checkpoint import train
train(Path(sys.argv[2]), progress=lambda done, total: time.sleep(0.2))
"""


def test_after_a_kill_that_nothing_can_catch_it_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(place)]
    root = str(Path(checkpoint.__file__).parents[1])
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root})
    deadline = time.monotonic() + 60
    while not (place / RECORD).is_file() or read_json(place / RECORD)["epoch"] < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    epoch = read_json(place / RECORD)["epoch"]
    assert epoch < QUICK.epochs
    resumed = train(place)
    assert_same(train(None), resumed)
    assert resumed[1].notes == (f"went on from its checkpoint after epoch {epoch}",)
