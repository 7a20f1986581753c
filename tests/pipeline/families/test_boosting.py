"""Walking the stored arrays gives scikit-learn's own answers, and validation chooses the rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.ensemble import GradientBoostingClassifier

from data_prep.progress import silent
from data_prep.task import Task, TaskKind
from pipeline.balance import ClassWeights
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
    wanted = logistic.columns(BINARY, train.target)
    boosting._grow(forest, [0], train.x.numpy(), wanted, np.ones(150), config, 3)
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


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2)], ids=str)
def test_several_classes_are_boosted_together_as_scikit_learn_has_it(
    present: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(0)
    x, test = (rng.normal(size=(n, 8)).astype(np.float32) for n in (150, 80))
    target = np.array(present)[(x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5) * (len(present) - 2)]
    forest = Forest.empty(CONFIG, len(present))
    wanted = (target[:, None] == present).astype(np.float64)
    boosting._grow(forest, range(len(present)), x, wanted, np.ones(150), CONFIG, 3)
    reference = GradientBoostingClassifier(
        n_estimators=25,
        max_depth=3,
        learning_rate=0.2,
        subsample=0.6,
        max_features=0.5,
        random_state=3,
    ).fit(x, target)
    expected = np.stack(list(reference.staged_predict_proba(test)), axis=1)
    assert np.allclose(softmax(logits_by_round(forest, test), axis=2), expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["multi-class", "ordinal"])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_without_evidence_probabilities_are_the_shares(
    kind: TaskKind, class_weights: ClassWeights
) -> None:
    task = Task(kind=kind, class_names=("a", "b", "c"))
    ids = np.arange(400).astype(np.str_)
    target = np.repeat([0, 1, 2], [200, 100, 100])
    blank = Scans(torch.zeros(400, 8), target, ids, ids)
    fitted = boosting.fit(
        task, CONFIG, blank, blank, seed=0, progress=silent, class_weights=class_weights
    )
    found = logistic.probability(task, fitted.forest.logits(blank.x).numpy())
    assert np.allclose(found, [0.5, 0.25, 0.25], atol=0.002)  # a tree sees 240


def test_probabilities_of_several_classes_are_those_of_the_law() -> None:
    """One of four values is seen, of each of which the frequencies of three classes are known."""
    law = np.array([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]])
    counts = np.round(200 * law).astype(int)
    seen = np.repeat(np.arange(4), 200)
    target = np.concatenate([np.repeat([0, 1, 2], row) for row in counts])
    ids = np.arange(800).astype(np.str_)
    scans = Scans(torch.from_numpy(seen[:, None]).float(), target, ids, ids)
    task = Task(kind="multi-class", class_names=("a", "b", "c"))
    config = BoostConfig(trees=150, depth=2, learning_rate=0.2, subsample=1.0, feature_share=1.0)
    forest = boosting.fit(task, config, scans, scans, seed=0, progress=silent).forest
    rows = np.arange(4, dtype=np.float32)[:, None]
    assert np.allclose(
        logistic.probability(task, forest.logits(torch.from_numpy(rows)).numpy()), law, atol=0.005
    )


def test_the_rounds_of_least_validation_loss_are_kept() -> None:
    train, val = scans_of(80, 1, noise=2.0), scans_of(80, 2, noise=2.0)  # soon overfitted
    fitted = boosting.fit(BINARY, CONFIG, train, val, seed=0, progress=silent)
    wanted = logistic.columns(BINARY, val.target)
    assert 1 <= fitted.rounds < CONFIG.trees
    assert fitted.val_log_loss == pytest.approx(
        logistic.loss(BINARY, fitted.forest.logits(val.x).numpy(), wanted)
    )
    for rounds in range(1, CONFIG.trees):
        other = fitted.forest.kept(rounds).logits(val.x).numpy()
        assert logistic.loss(BINARY, other, wanted) >= fitted.val_log_loss - 1e-12


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_class_that_no_scan_has_gets_its_frequency_and_no_tree(
    class_weights: ClassWeights,
) -> None:
    task = Task(kind="multi-class", class_names=("a", "b", "c"))
    train = scans_of(60, 1)
    fitted = boosting.fit(
        task, CONFIG, train, scans_of(40, 2), seed=0, progress=silent, class_weights=class_weights
    )
    logits = fitted.forest.logits(train.x).numpy()
    assert np.ptp(logits[:, 2]) == 0
    assert 0.001 < logistic.probability(task, logits)[:, 2].mean() < 0.02  # of 60 half a scan


def test_arrays_are_the_whole_forest() -> None:
    train = scans_of(60, 1)
    forest = boosting.fit(BINARY, CONFIG, train, train, seed=0, progress=silent).forest
    again = Forest.from_arrays(forest.arrays())
    x = scans_of(30, 2).x
    assert torch.equal(again.logits(x), forest.logits(x))
    empty = Forest.empty(CONFIG, 1)
    assert {k: v.shape for k, v in empty.arrays().items()} == {
        k: v.shape for k, v in forest.arrays().items()
    }
    assert (empty.logits(x) == 0).all()
