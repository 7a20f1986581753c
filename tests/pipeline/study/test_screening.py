"""Screening ranks what can be told apart above what cannot, and its agreement is counted right."""

from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from data_prep.errors import ConfigError
from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig
from pipeline.families.base import FamilyError
from pipeline.study import screening
from pipeline.study.screening import (
    Trial,
    agreement,
    permutation_p,
    rank_correlation,
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


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=6))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=np.float64).T
    found = rank_correlation(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert math.isnan(found)
        assert math.isnan(permutation_p(first, second))
        return
    assert found == pytest.approx(float(spearmanr(first, second).statistic), abs=1e-12)
    orders = itertools.permutations(second)
    at_least = [rank_correlation(first, np.array(order)) >= found - 1e-12 for order in orders]
    assert permutation_p(first, second) == pytest.approx(np.mean(at_least))


def test_many_architectures_are_permuted_by_a_seeded_draw() -> None:
    scores = np.arange(9.0)
    assert permutation_p(scores, scores) == pytest.approx(1 / 10_001)
    assert permutation_p(scores, -scores) == 1.0


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
    plain = summarise(TASK, val, frozen, {})
    assert [row[0] for row in plain.rows] == ["strong", "weak"]
    assert all(len(row) == len(plain.header) == 3 for row in plain.rows)
    assert len(plain.sentences) == 1
    slower = {name: Trial(trial.probability, 60.0) for name, trial in frozen.items()}
    checked = summarise(TASK, val, frozen, slower)
    assert all(len(row) == len(checked.header) == 6 for row in checked.rows)
    assert {row[-1] for row in checked.rows} == {"60x"}
    assert "rank correlation of random and trained scores: 1.00" in checked.sentences[1]


def test_a_store_is_screened_and_a_family_without_network_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {"train": scans_of(40, 1), "val": scans_of(30, 2)}

    class Opened:
        task = TASK

    monkeypatch.setattr(screening.Store, "open", lambda folder: Opened())
    monkeypatch.setattr(screening, "load_split", lambda store, name: splits[name])
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
