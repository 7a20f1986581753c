"""Gradient-boosted trees by scikit-learn, kept as plain arrays and walked here.

A fitted scikit-learn object can only be stored pickled, and nothing pickled is ever written or
read. The trees' own arrays (``tree_.feature``, ``threshold``, ``children_left``, ...) are public,
so they are the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from data_prep.config import Config
from data_prep.progress import Progress
from data_prep.task import Task
from pipeline.balance import ClassWeights, shares
from pipeline.dataset import Scans
from pipeline.families import logistic

Floats = NDArray[np.float64]


class BoostConfig(Config):
    """Friedman 2001, with the random parts of Friedman 2002.

    Attributes:
        trees: Boosting rounds at most; validation chooses how many are kept.
        depth: Splits from root to leaf at most.
        learning_rate: Share of each tree that is added.
        subsample: Share of the training scans that each tree sees.
        feature_share: Share of the features that each split may choose from.
    """

    trees: PositiveInt = 300
    depth: int = Field(default=3, ge=1, le=8)
    learning_rate: PositiveFloat = 0.05
    subsample: float = Field(default=0.5, gt=0, le=1)
    feature_share: float = Field(default=0.1, gt=0, le=1)


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees of one shape: (rounds, columns, nodes) arrays, the root at node 0.

    Attributes:
        feature: Which feature a node asks for.
        threshold: A scan goes left where its feature is at most this.
        left: Node to the left; a leaf points at itself.
        right: Node to the right; a leaf points at itself.
        value: What a leaf adds to the logit; 0 in rounds that validation did not keep.
        baseline: (columns,) logits before the first tree.
    """

    feature: NDArray[np.int64]
    threshold: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Floats
    baseline: Floats

    @classmethod
    def empty(cls, config: BoostConfig, n_columns: int) -> Forest:
        """Leaves that add nothing: every logit is 0."""
        shape = (config.trees, n_columns, 2 ** (config.depth + 1) - 1)
        own = np.broadcast_to(np.arange(shape[-1]), shape)
        return cls(
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape),
            own.copy(),
            own.copy(),
            np.zeros(shape),
            np.zeros(n_columns),
        )

    def contributions(self, x: NDArray[np.float32]) -> Floats:
        """(N, features) -> what each round adds to the logits, (N, rounds, columns)."""
        added: Floats = self._added(torch.from_numpy(x)).numpy()
        return added

    def logits(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, columns) float64, in torch operations alone."""
        return torch.from_numpy(self.baseline) + self._added(x).sum(dim=1)

    def _added(self, x: Tensor) -> Tensor:
        """``contributions``: all trees are gone down at once, a level at a time."""
        rounds, n_columns, nodes = self.feature.shape
        root = torch.arange(rounds * n_columns) * nodes  # nodes of all trees in one row
        feature, left, right, threshold, value = (
            torch.from_numpy(array.reshape(-1))
            for array in (self.feature, self.left, self.right, self.threshold, self.value)
        )
        at = root.expand(x.shape[0], -1)
        for _ in range(int(np.log2(nodes + 1)) - 1):
            goes_left = x.gather(1, feature[at]).double() <= threshold[at]
            at = root + torch.where(goes_left, left[at], right[at])
        return value[at].reshape(x.shape[0], rounds, n_columns)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Name -> array, all of them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Forest:
        """The forest whose ``arrays()`` these are."""
        whole = {name: arrays[name].astype(np.int64) for name in ("feature", "left", "right")}
        real = {
            name: arrays[name].astype(np.float64) for name in ("threshold", "value", "baseline")
        }
        return cls(
            feature=whole["feature"],
            threshold=real["threshold"],
            left=whole["left"],
            right=whole["right"],
            value=real["value"],
            baseline=real["baseline"],
        )

    def round(self, position: int) -> Forest:
        """The forest of one round alone."""
        own = slice(position, position + 1)
        return replace(
            self,
            **{
                name: getattr(self, name)[own]
                for name in ("feature", "threshold", "left", "right", "value")
            },
        )

    def kept(self, rounds: int) -> Forest:
        """The same with only the first rounds having a say."""
        value = self.value.copy()
        value[rounds:] = 0
        return replace(self, value=value)


@dataclass(frozen=True, eq=False)
class Boosted:
    """A forest and the rounds that validation kept; its loss is NaN where they were given."""

    forest: Forest
    rounds: int
    val_log_loss: float


def fit(
    task: Task,
    config: BoostConfig,
    train: Scans,
    val: Scans | int,
    *,
    seed: int,
    progress: Progress,
    class_weights: ClassWeights = "none",
) -> Boosted:
    """Boost the log loss of the task, and keep the rounds of least validation loss.

    A binary task has one column of trees and each label one of its own; several classes have one
    tree each in every round, which fits the slope of the log loss of their softmax (Friedman 2001,
    algorithm 6).

    Args:
        task: Decides how columns become probabilities.
        config: How.
        train: Scans whose ``x`` is (N, features); of each question both answers.
        val: The same, to choose the number of rounds by; or that number.
        seed: Decides what each tree sees.
        progress: Told (models done, models in all).
        class_weights: ``balanced``: the classes (a label's two answers) weigh the same while trees
            grow. What they start from is then fitted once more without weights, after each round,
            so that probabilities are of the training frequencies.
    """
    wanted = logistic.columns(task, train.target)
    forest = Forest.empty(config, wanted.shape[1])
    weights = np.ones_like(wanted)
    if class_weights == "balanced":
        weights = np.broadcast_to(logistic.balance(task, wanted), wanted.shape)
    if logistic.by_label(task):
        models = [[column] for column in range(wanted.shape[1])]
    else:
        # A class that no training scan has gets its frequency and no tree.
        forest.baseline[:] = np.log(shares(wanted))
        models = [np.flatnonzero(wanted.any(axis=0)).tolist()]
    for done, columns in enumerate(models):
        progress(done, len(models))
        own = weights[:, columns[0]]
        _grow(forest, columns, train.x.numpy(), wanted[:, columns], own, config, seed)
    progress(len(models), len(models))
    shifts = np.zeros((config.trees, wanted.shape[1]))
    if class_weights == "balanced":
        shifts = _refit(task, forest, train.x.numpy(), wanted)
    if isinstance(val, int):
        return Boosted(_cut(forest, shifts, val), val, math.nan)
    grown = forest.baseline + forest.contributions(val.x.numpy()).cumsum(axis=1) + shifts
    val_wanted = logistic.columns(task, val.target)
    losses = [logistic.loss(task, grown[:, i], val_wanted) for i in range(config.trees)]
    best = int(np.argmin(losses))  # the first of equals: the fewest rounds
    return Boosted(_cut(forest, shifts, best + 1), best + 1, losses[best])


def _cut(forest: Forest, shifts: Floats, rounds: int) -> Forest:
    """The first rounds, with the baseline that is theirs."""
    kept = forest.kept(rounds)
    return replace(kept, baseline=kept.baseline + shifts[rounds - 1])


def _refit(task: Task, forest: Forest, x: NDArray[np.float32], wanted: Floats) -> Floats:
    """(rounds, columns) to add to the baseline after each round; one round in memory at a time."""
    logits = np.broadcast_to(forest.baseline, wanted.shape)
    shifts = []
    for position in range(len(forest.feature)):
        logits = logits + forest.round(position).contributions(x)[:, 0]
        shifts.append(logistic.refit_bias(task, logits, wanted))
    return np.stack(shifts)


def _grow(
    forest: Forest,
    columns: Sequence[int],
    x: NDArray[np.float32],
    wanted: Floats,
    weights: Floats,
    config: BoostConfig,
    seed: int,
) -> None:
    """Fill columns of a new forest with one model.

    Args:
        forest: To be filled.
        columns: One, for a model of its two answers; or those of the classes that there are.
        x: (N, features).
        wanted: (N, columns) of zeros and ones.
        weights: (N,) of the scans.
        config: How.
        seed: Decides what each tree sees.
    """
    from sklearn.ensemble import (
        GradientBoostingClassifier,
    )  # half a second that others need not pay

    alone = wanted.shape[1] == 1
    labels = wanted[:, 0].astype(np.int64) if alone else wanted.argmax(axis=1)
    model = GradientBoostingClassifier(
        n_estimators=config.trees,
        max_depth=config.depth,
        learning_rate=config.learning_rate,
        subsample=config.subsample,
        max_features=config.feature_share,
        random_state=seed,
    ).fit(x, labels, sample_weight=weights)
    # Of two classes scikit-learn has one tree a round: by how much the second is more likely.
    grown = columns[-model.estimators_.shape[1] :]
    for (position, nth), estimator in np.ndenumerate(model.estimators_):
        tree = estimator.tree_
        inner = np.flatnonzero(tree.children_left >= 0)
        where = (position, grown[nth], inner)
        forest.feature[where] = tree.feature[inner]
        forest.threshold[where] = tree.threshold[inner]
        forest.left[where] = tree.children_left[inner]
        forest.right[where] = tree.children_right[inner]
        values = config.learning_rate * tree.value[:, 0, 0]
        forest.value[position, grown[nth], : len(values)] = values
    # What scikit-learn starts from, and its trees are fitted on top of.
    share = np.average(wanted, axis=0, weights=weights)
    forest.baseline[columns] = np.log(share / (1 - share)) if alone else np.log(share)
