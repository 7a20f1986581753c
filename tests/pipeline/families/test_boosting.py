"""Walking the stored arrays gives scikit-learn's own answers, and validation chooses the rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier

from data_prep.progress import silent
from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import boosting, logistic
from pipeline.families.boosting import BoostConfig, Forest

BINARY = Task(kind="binary", class_names=("a", "b"))
CONFIG = BoostConfig(trees=25, depth=3, learning_rate=0.2, subsample=0.6, feature_share=0.5)


def scans_of(n: int, seed: int, *, noise: float = 0.5) -> Scans:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8)).astype(np.float32)
    target = (x[:, 0] * x[:, 1] + noise * rng.normal(size=n) > 0).astype(np.int64)
    ids = np.arange(n).astype(np.str_)
    return Scans(torch.from_numpy(x), target, ids, ids)


def logits_by_round(forest: Forest, x: NDArray[np.float32]) -> NDArray[np.float64]:
    return forest.baseline + forest.contributions(x).cumsum(axis=1)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_the_walk_gives_scikit_learns_scores_after_every_round(depth: int) -> None:
    config = CONFIG.model_copy(update={"depth": depth})
    train, test = scans_of(150, 1), scans_of(80, 2)
    forest = Forest.empty(config, 1)
    wanted = logistic.columns(BINARY, train.target)[:, 0]
    boosting._grow(forest, 0, train.x.numpy(), wanted, np.ones(150), config, 3)
    reference = GradientBoostingClassifier(
        n_estimators=25,
        max_depth=depth,
        learning_rate=0.2,
        subsample=0.6,
        max_features=0.5,
        random_state=3,
    ).fit(train.x.numpy(), train.target)
    expected = np.stack(list(reference.staged_decision_function(test.x.numpy())), axis=1)
    assert np.allclose(logits_by_round(forest, test.x.numpy()), expected, atol=1e-9)


def test_the_rounds_of_least_validation_loss_are_kept() -> None:
    train, val = scans_of(80, 1, noise=2.0), scans_of(80, 2, noise=2.0)  # soon overfitted
    fitted = boosting.fit(BINARY, CONFIG, train, val, seed=0, progress=silent)
    wanted = logistic.columns(BINARY, val.target)
    assert 1 <= fitted.rounds < CONFIG.trees
    assert fitted.val_log_loss == pytest.approx(
        logistic.loss(BINARY, fitted.forest.logits(val.x.numpy()), wanted)
    )
    for rounds in range(1, CONFIG.trees):
        other = fitted.forest.kept(rounds).logits(val.x.numpy())
        assert logistic.loss(BINARY, other, wanted) >= fitted.val_log_loss - 1e-12


def test_a_class_that_no_scan_has_gets_its_frequency_and_no_tree() -> None:
    task = Task(kind="multi-class", class_names=("a", "b", "c"))
    train = scans_of(60, 1)
    fitted = boosting.fit(task, CONFIG, train, scans_of(40, 2), seed=0, progress=silent)
    logits = fitted.forest.logits(train.x.numpy())
    assert np.ptp(logits[:, 2]) == 0
    assert logistic.probability(task, logits)[:, 2].max() < 0.05


def test_arrays_are_the_whole_forest() -> None:
    train = scans_of(60, 1)
    forest = boosting.fit(BINARY, CONFIG, train, train, seed=0, progress=silent).forest
    again = Forest.from_arrays(forest.arrays())
    x = scans_of(30, 2).x.numpy()
    assert np.array_equal(again.logits(x), forest.logits(x))
    empty = Forest.empty(CONFIG, 1)
    assert {k: v.shape for k, v in empty.arrays().items()} == {
        k: v.shape for k, v in forest.arrays().items()
    }
    assert (empty.logits(x) == 0).all()
