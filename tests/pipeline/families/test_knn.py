"""Neighbours vote, their number is validation's choice, and ties follow the training order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import knn
from pipeline.families.base import FamilyError
from pipeline.families.knn import Knn, KnnParams
from pipeline.metrics import score

TASK = Task(kind="multi-class", class_names=("a", "b", "c"))
SHAPE = (1, 5, 5)


def scans_of(n: int, seed: int) -> Scans:
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(n) % 3)
    x = rng.normal(size=(n, *SHAPE)) + 0.8 * target.reshape(-1, 1, 1, 1)
    ids = np.arange(n).astype(np.str_)
    return Scans(torch.from_numpy(x).float(), target, ids, ids)


def fitted(train: Scans, val: Scans, **params: Any) -> tuple[Knn, dict[str, float]]:
    family = Knn(KnnParams.model_validate(params), TASK, SHAPE, seed=0)
    ready = (part.with_x(family.prepare(part.x)) for part in (train, val))
    return family, dict(family.fit(*ready).chosen)


@pytest.mark.parametrize("k", [1, 4, 9])
def test_the_votes_are_scikit_learns_and_one_more_by_frequency(k: int) -> None:
    train, test = scans_of(60, 1), scans_of(700, 2)  # more than one block
    family, _ = fitted(train, test, neighbours=[k])
    flat = train.x.flatten(1).numpy()
    reference = KNeighborsClassifier(k, algorithm="brute").fit(flat, train.target)
    votes = reference.predict_proba(test.x.flatten(1).numpy()) * k
    expected = (votes + 1 / 3) / (k + 1)
    assert np.allclose(family.predict_proba(family.prepare(test.x)), expected, atol=1e-12)


def test_the_number_of_neighbours_is_validations_choice() -> None:
    train, val = scans_of(60, 1), scans_of(60, 3)
    _, chosen = fitted(train, val)
    losses = {}
    for k in (1, 3, 5, 9, 15, 25, 45):  # 75 and 125 are more than there are
        family, _ = fitted(train, val, neighbours=[k])
        rows = family.predict_proba(family.prepare(val.x))
        losses[k] = score(TASK, val.target, rows)["log_loss"]
    assert chosen["neighbours"] == min(losses, key=lambda k: losses[k])
    assert chosen["val_log_loss"] == pytest.approx(min(losses.values()))


def test_few_training_scans_all_vote() -> None:
    train = scans_of(6, 1)
    family, chosen = fitted(train, scans_of(6, 2), neighbours=[50])
    assert chosen["neighbours"] == 6
    assert np.allclose(family.predict_proba(family.prepare(train.x)), 1 / 3)


def test_scan_normalisation_is_blind_to_brightness_and_contrast() -> None:
    train, test = scans_of(40, 1), scans_of(20, 2)
    family, _ = fitted(train, test, normalise="scan", neighbours=[3])
    plain = family.predict_proba(family.prepare(test.x))
    brighter = family.predict_proba(family.prepare(test.x * 3 + 7))
    assert np.allclose(plain, brighter)
    flat = family.prepare(torch.full((1, *SHAPE), 2.0))
    assert torch.equal(flat, torch.zeros_like(flat))  # a blank scan divides by no zero


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    family, _ = fitted(scans_of(30, 1), scans_of(20, 2))
    x = family.prepare(scans_of(20, 3).x)
    whole = family.predict_proba(x)
    monkeypatch.setattr(knn, "_BLOCK", 3)
    assert np.array_equal(family.predict_proba(x), whole)
    assert family.predict_proba(x[:0]).shape == (0, 3)


def test_a_state_of_another_number_of_scans_loads_but_not_of_another_size() -> None:
    family, _ = fitted(scans_of(30, 1), scans_of(20, 2))
    other = Knn(KnnParams(), TASK, SHAPE, seed=0)
    other.load_state(family.state())
    assert other.state()["scans"].shape == (30, 25)
    larger = Knn(KnnParams(), TASK, (1, 6, 6), seed=0)
    with pytest.raises(FamilyError, match=r"'scans' of the saved state is \(30, 25\)"):
        larger.load_state(family.state())
