"""A family behind a fixed permutation of voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family

TASK = Task(kind="binary", class_names=("a", "b"))
SHAPE = (2, 6, 5)


def scans(n: int, seed: int) -> Scans:
    """The class is which half of the first channel is brighter."""
    rng = np.random.default_rng(seed)
    target = np.arange(n) % 2
    x = rng.normal(size=(n, *SHAPE)).astype(np.float32)
    x[:, 0, :3] += target[:, None, None]
    ids = np.array([f"p{i}" for i in range(n)])
    return Scans(torch.from_numpy(x), target, ids, ids)


def built(family: str, permute: int | None, **params: Any) -> Family[Any]:
    """An unfitted family."""
    config = FamilyConfig.model_validate({"family": family, "params": params, "permute": permute})
    return build_family(config, TASK, SHAPE, seed=0)


def by_hand(given: Scans, permute: int) -> Scans:
    """Voxels in the documented order, channel by channel."""
    order = np.random.default_rng(permute).permutation(30)
    x = given.x.numpy().reshape(len(given), 2, 30)[:, :, order].reshape(given.x.shape)
    return given.with_x(torch.from_numpy(np.ascontiguousarray(x)))


CASES = {
    "linear": {},
    "random_features": {"filters": 8, "sizes": [3]},  # prepares its scans
    "mlp": {"widths": [8], "train": {"epochs": 2, "min_steps": 4, "batch_size": 8}},
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_family_on_permuted_scans(name: str) -> None:
    train, test = scans(24, 0), scans(10, 1)
    control, plain = built(name, 3, **CASES[name]), built(name, None, **CASES[name])

    def fitted(family: Family[Any], train: Scans, test: Scans) -> np.ndarray[Any, Any]:
        seen = train.with_x(family.prepare(train.x))
        family.fit(seen, seen)
        return family.predict_proba(family.prepare(test.x))

    expected = fitted(plain, by_hand(train, 3), by_hand(test, 3))
    np.testing.assert_array_equal(fitted(control, train, test), expected)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_one_predicts_the_same(name: str) -> None:
    train, test = scans(24, 0), scans(10, 1)
    first, again = built(name, 3, **CASES[name]), built(name, 3, **CASES[name])
    seen = train.with_x(first.prepare(train.x))
    first.fit(seen, seen)
    again.load_state(first.state())
    after = again.predict_proba(again.prepare(test.x))
    np.testing.assert_array_equal(after, first.predict_proba(first.prepare(test.x)))
    assert again.inspect().arrays == first.inspect().arrays


def test_another_seed_is_another_order() -> None:
    x = scans(3, 0).x
    family = {"filters": 8, "sizes": [3]}
    one, other = (built("random_features", seed, **family).prepare(x) for seed in (1, 2))
    assert not torch.equal(one, other)
