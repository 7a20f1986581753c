"""Multinomial logistic regression on voxels: the family of highest bias."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.balance import ClassWeights
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families import logistic
from pipeline.families.axes import Axes, effort, standard
from pipeline.families.base import Family, FamilyParams, Fit, State
from pipeline.families.logistic import PENALTIES, Penalties, Weights


class LinearParams(FamilyParams):
    """Parameters of ``linear``.

    Attributes:
        penalties: L2 penalties to choose from on validation. They are relative to the mean squared
            length of a standardised scan, so that one grid serves every number of voxels.
        class_weights: ``none``, or ``balanced``: each class (of a multi-label task each label's two
            answers) weighs the same in the fit. The biases are then fitted once more without
            weights, so that probabilities are of the training frequencies, before validation
            chooses.
    """

    penalties: Penalties = PENALTIES
    class_weights: ClassWeights = "none"


class Linear(Family[LinearParams]):
    """L2-penalised logistic regression on standardised voxels.

    Each voxel is centred and divided by its standard deviation over the training scans. The
    penalty of least validation log loss is kept; of equals, the stronger. Multi-label tasks are
    one logistic regression per label that share the penalty.
    """

    name: ClassVar[str] = "linear"
    Params: ClassVar[type[FamilyParams]] = LinearParams

    def __init__(
        self, params: LinearParams, task: Task, scan_shape: tuple[int, ...], seed: int
    ) -> None:
        super().__init__(params, task, scan_shape, seed)
        self._weights = Weights.zeros(int(np.prod(scan_shape)), logistic.n_columns(task))

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        self.check_classes(train)
        self.check_validation(val)
        x = _flat(train.x)
        mean, scale = standard(x, floor=0.01)
        axes = Axes.of((x - mean) / scale)
        wanted = logistic.columns(self.task, train.target)
        val_wanted = logistic.columns(self.task, val.target)
        val_projected = axes.project((_flat(val.x) - mean) / scale)
        penalties = sorted(self.params.penalties, reverse=True)
        balanced = self.params.class_weights == "balanced"
        weights = logistic.balance(self.task, wanted) if balanced else 1.0
        near: Weights | None = None
        solved: list[Weights] = []
        losses: list[float] = []
        for done, penalty in enumerate(penalties):
            progress(done, len(penalties))
            near = logistic.solve(self.task, axes, wanted, penalty, near, weights)
            found = near
            if balanced:
                logits = near.logits(axes.projected)
                found = near.shifted(logistic.refit_bias(self.task, logits, wanted))
            solved.append(found)
            losses.append(logistic.loss(self.task, found.logits(val_projected), val_wanted))
        progress(len(penalties), len(penalties))
        best = int(np.argmin(losses))  # the first of equals: the stronger penalty
        on_inputs = Weights(axes.unproject(solved[best].weight), solved[best].bias)
        self._weights = on_inputs.on_raw(mean, scale)
        return Fit(chosen={"penalty": penalties[best], "val_log_loss": losses[best]})

    def work(self, n_scans: int) -> float:
        return effort(n_scans, len(self._weights.weight))

    def probability(self, x: Tensor) -> Tensor:
        return self._weights.probability(self.task, x.flatten(1))

    def state(self) -> State:
        return self._weights.arrays()

    def load_state(self, state: State) -> None:
        self.check_state(state, self.state())
        self._weights = Weights.of_arrays(state)


def _flat(x: Tensor) -> NDArray[np.float32]:
    flat: NDArray[np.float32] = x.reshape(len(x), -1).numpy()
    return flat
