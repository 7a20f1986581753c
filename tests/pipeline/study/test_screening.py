"""Screening ranks what can be told apart above what cannot, and its agreement is counted right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from data_prep.errors import ConfigError
from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import FamilyError
from pipeline.study import screening
from pipeline.study.screening import (
    Trial,
    agreement,
    screen_store,
    summarise,
    try_frozen,
    try_trained,
)

TASK = Task(kind="binary", class_names=("benign", "malignant"))
BRIEF = {"epochs": 2, "min_steps": 6}


def scans_of(n: int, seed: int) -> Scans:
    """A bright square in the scans of class 1."""
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(n) % 2)
    x = rng.normal(0, 0.5, (n, 1, 10, 10)).astype(np.float32)
    x[target == 1, :, 3:7, 3:7] += 1.5
    names = np.array([f"{seed}-{i}" for i in range(n)])
    return Scans(torch.from_numpy(x), target, names, names)


def config_of(**params: object) -> FamilyConfig:
    content = {"family": "cnn_scratch", "params": {"widths": [4], "train": BRIEF, **params}}
    return FamilyConfig.model_validate(content)


def trial_of(val: Scans, sharpness: float) -> Trial:
    """Probabilities that follow the truth the closer, the sharper."""
    noise = np.random.default_rng(int(sharpness * 100)).normal(size=len(val))
    positive = 1 / (1 + np.exp(-(sharpness * (2 * val.target - 1) + noise)))
    return Trial((np.column_stack([1 - positive, positive]),), 1.0)


def test_random_features_of_a_network_tell_apart_what_can_be() -> None:
    train, val = scans_of(60, 1), scans_of(40, 2)
    found = try_frozen(config_of(), TASK, train, val, range(2))
    again = try_frozen(config_of(), TASK, train, val, range(2))
    assert len(found.probability) == 2
    assert not np.array_equal(*found.probability)
    for rows, same in zip(found.probability, again.probability, strict=True):
        assert np.array_equal(rows, same)
        assert np.allclose(rows.sum(axis=1), 1)
    assert screening._auc(TASK, val, found) > 0.9
    assert try_trained(config_of(), TASK, train, val, range(1)).probability[0].shape == (40, 2)


def test_agreement_of_equal_and_of_opposite_rankings() -> None:
    val = scans_of(60, 3)
    trials = [trial_of(val, sharpness) for sharpness in (0.1, 0.6, 1.5, 3.0)]
    same = agreement(TASK, val, trials, trials)
    assert (same.rho, same.low, same.high, same.p) == pytest.approx((1, 1, 1, 1 / 24))
    opposite = agreement(TASK, val, trials, trials[::-1])
    assert opposite.rho == pytest.approx(-1)
    assert opposite.low <= opposite.rho <= opposite.high < 0
    assert opposite.p == 1.0


def test_the_table_is_best_first_and_says_how_the_rankings_agree() -> None:
    val = scans_of(60, 3)
    frozen = {"weak": trial_of(val, 0.1), "strong": trial_of(val, 3.0)}
    plain = summarise(TASK, val, frozen, {}, {})
    assert [row[0] for row in plain.rows] == ["strong", "weak"]
    assert all(len(row) == len(plain.header) == 3 for row in plain.rows)
    assert len(plain.sentences) == 1
    slower = {name: Trial(trial.probability, 60.0) for name, trial in frozen.items()}
    checked = summarise(TASK, val, frozen, slower, {})
    assert all(len(row) == len(checked.header) == 6 for row in checked.rows)
    assert {row[-1] for row in checked.rows} == {"60x"}
    assert "rank correlation of random and trained scores: 1.00" in checked.sentences[1]


def opened(monkeypatch: pytest.MonkeyPatch, splits: dict[str, Scans]) -> None:
    """A store of these scans, whatever its folder."""

    class Opened:
        task = TASK

    monkeypatch.setattr(screening.Store, "open", lambda folder: Opened())
    monkeypatch.setattr(screening, "load_split", lambda store, name: splits[name])


def net_file(folder: Path, name: str, family: str, **params: object) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"family": family, "params": params}))
    return str(path)


def test_an_architecture_that_refuses_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bears no scans so narrow, one no batches of one scan."""
    narrow = scans_of(20, 1)
    narrow = narrow.with_x(narrow.x[..., :4])
    opened(monkeypatch, {"train": narrow, "val": narrow})
    small = {"widths": [2], "train": BRIEF}
    alone = {"widths": [2], "train": BRIEF | {"batch_size": 1}}
    files = [
        net_file(tmp_path, "dense", "monai_network", architecture="densenet121", width=0.1),
        net_file(tmp_path, "fits", "cnn_scratch", **small),
        net_file(tmp_path, "alone", "mlp", **alone),
    ]
    found = screen_store(tmp_path, files, 1, verify=True)
    rows = {row[0]: row for row in found.rows}
    assert rows.keys() == {"fits", "alone"}
    assert rows["alone"][-3:] == ("–", "–", "–")
    assert rows["fits"][-1].endswith("x")
    said = "\n".join(found.sentences)
    assert "dense: [family.scan_too_small] densenet121" in said
    assert "alone: [family.lone_value] mlp: params.train.batch_size: 1" in said
    with pytest.raises(FamilyError, match="densenet121 with its small stem"):
        screen_store(tmp_path, files[:1], 1)


def test_a_network_without_a_classifier_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(monkeypatch, {"train": scans_of(8, 1), "val": scans_of(8, 2)})
    with pytest.raises(FamilyError, match="cnn_scratch, monai_network or mlp") as caught:
        screen_store(tmp_path, ["pretrained"], 1)
    assert caught.value.code == "family.no_network"


@pytest.mark.parametrize("way", [try_frozen, try_trained])
def test_what_is_done_once_is_not_timed(
    way: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts the networks that are built: those before the start do not count."""
    built: list[int] = []

    def build(config: FamilyConfig, task: Task, shape: tuple[int, ...], seed: int) -> object:
        built.append(seed)
        return build_family(config, task, shape, seed)

    monkeypatch.setattr(screening, "build_family", build)
    clock = SimpleNamespace(perf_counter=lambda: float(len(built)))
    monkeypatch.setattr(screening, "time", clock)
    found = way(config_of(), TASK, scans_of(20, 1), scans_of(10, 2), range(2))
    assert found.seconds == 1.0
    assert len(built) > 2


def test_threads_are_pinned_as_in_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, {"train": scans_of(20, 1), "val": scans_of(10, 2)})
    threads: list[int] = []

    def count(*_: object) -> Trial:
        threads.append(torch.get_num_threads())
        return trial_of(scans_of(10, 2), 1.0)

    monkeypatch.setattr(screening, "try_frozen", count)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        screen_store(tmp_path, ["cnn_scratch_small"], 1)
    finally:
        torch.set_num_threads(before)
    assert threads == [1]


def test_a_store_is_screened_and_a_family_without_network_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {"train": scans_of(40, 1), "val": scans_of(30, 2)}

    opened(monkeypatch, splits)
    files = []
    for number, widths in enumerate(("[2]", "[4, 8]")):
        files.append(tmp_path / f"net{number}.yaml")
        files[-1].write_text(
            "family: cnn_scratch\n"
            f"params: {{widths: {widths}, train: {{epochs: 2, min_steps: 6}}}}\n"
        )
    told: list[tuple[int, int]] = []
    found = screen_store(
        tmp_path,
        [str(file) for file in files],
        1,
        verify=True,
        progress=lambda done, total: told.append((done, total)),
    )
    assert {row[0] for row in found.rows} == {"net0", "net1"}
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    (tmp_path / "sub").mkdir()
    twin = shutil.copy(files[0], tmp_path / "sub")
    with pytest.raises(ConfigError, match="two configs are called 'net0'") as refused:
        screen_store(tmp_path, [str(files[0]), str(twin)], 1)
    assert refused.value.code == "config.duplicate_family"
    with pytest.raises(FamilyError, match="knn: family 'knn' has no network") as caught:
        screen_store(tmp_path, [str(files[0]), "knn"], 1)
    assert caught.value.code == "family.no_network"
