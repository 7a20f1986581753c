"""A linear classifier on voxels, by logistic or by ridge regression: the family of highest bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.balance import ClassWeights
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families import logistic, ridge
from pipeline.families.axes import Axes, Floats, effort, standard
from pipeline.families.base import Family, FamilyParams, Fit, State
from pipeline.families.logistic import PENALTIES, Penalties, Weights


class LinearParams(FamilyParams):
    """Parameters of ``linear``.

    Attributes:
        loss: ``log_loss``: logistic regression, its penalty chosen on validation.
            ``squared_error``: the ridge classifier that random features end in, its penalty chosen
            by leaving patients out: to compare voxels and features under one classifier.
        penalties: L2 penalties to choose from. They are relative to the mean squared length of a
            standardised scan, so that one grid serves every number of voxels.
        class_weights: ``none``, or ``balanced``: each class (of a multi-label task each label's two
            answers) weighs the same in the fit. Probabilities are of the training frequencies all
            the same: of a logistic regression the biases are fitted once more without weights,
            before validation chooses; of ridge the calibration is not weighted.
    """

    loss: Literal["log_loss", "squared_error"] = "log_loss"
    penalties: Penalties = PENALTIES
    class_weights: ClassWeights = "none"


class Linear(Family[LinearParams]):
    """L2-penalised logistic regression on standardised voxels, or ridge.

    Each voxel is centred and divided by its standard deviation over the training scans. Of the
    logistic regression the penalty of least validation log loss is kept; of equals, the stronger.
    Multi-label tasks are one logistic regression per label that share the penalty.
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
        if self.params.loss == "squared_error":
            return self._fit_ridge(train, progress)
        self.check_validation(val)
        path = _Path.of(self.task, self.params, train)
        val_wanted = logistic.columns(self.task, val.target)
        val_projected = path.project(val)
        penalties = sorted(self.params.penalties, reverse=True)
        solved = list(path.solved(penalties, progress))
        losses = [logistic.loss(self.task, w.logits(val_projected), val_wanted) for w in solved]
        best = int(np.argmin(losses))  # the first of equals: the stronger penalty
        self._weights = path.on_raw(solved[best])
        return Fit(chosen={"penalty": penalties[best], "val_log_loss": losses[best]})

    def fit_chosen(
        self, train: Scans, chosen: Mapping[str, float], progress: Progress = silent
    ) -> Fit:
        if self.params.loss == "squared_error":
            return super().fit_chosen(train, chosen, progress)
        self.check_classes(train)
        path = _Path.of(self.task, self.params, train)
        # By way of the stronger ones, as in ``fit``: each is solved from the one before.
        stronger = [p for p in self.params.penalties if p >= chosen["penalty"]]
        *_, last = path.solved(sorted(stronger, reverse=True), progress)
        self._weights = path.on_raw(last)
        return Fit(chosen={"penalty": min(stronger)})

    def _fit_ridge(self, train: Scans, progress: Progress) -> Fit:
        fitted = ridge.fit_scans(self.task, self.params, _flat(train.x), train, progress)
        self._weights = fitted.weights
        return Fit(chosen=fitted.chosen())

    def work(self, n_scans: int) -> float:
        return effort(n_scans, len(self._weights.weight))

    def probability(self, x: Tensor) -> Tensor:
        return self._weights.probability(self.task, x.flatten(1))

    def state(self) -> State:
        return self._weights.arrays()

    def load_state(self, state: State) -> None:
        self.check_state(state, self.state())
        self._weights = Weights.of_arrays(state)


@dataclass(frozen=True, eq=False)
class _Path:
    """The training scans on their axes, and what is to be said of them."""

    task: Task
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    axes: Axes
    wanted: Floats
    balanced: bool

    @classmethod
    def of(cls, task: Task, params: LinearParams, train: Scans) -> _Path:
        x = _flat(train.x)
        mean, scale = standard(x, floor=0.01)
        wanted = logistic.columns(task, train.target)
        axes = Axes.of((x - mean) / scale)
        return cls(task, mean, scale, axes, wanted, params.class_weights == "balanced")

    def project(self, scans: Scans) -> Floats:
        return self.axes.project((_flat(scans.x) - self.mean) / self.scale)

    def solved(self, penalties: Sequence[float], progress: Progress) -> Iterator[Weights]:
        """Weights on the axes for each penalty; falling, as each begins where the last ended."""
        weights = logistic.balance(self.task, self.wanted) if self.balanced else 1.0
        near: Weights | None = None
        for done, penalty in enumerate(penalties):
            progress(done, len(penalties))
            near = logistic.solve(self.task, self.axes, self.wanted, penalty, near, weights)
            found = near
            if self.balanced:
                logits = near.logits(self.axes.projected)
                found = near.shifted(logistic.refit_bias(self.task, logits, self.wanted))
            yield found
        progress(len(penalties), len(penalties))

    def on_raw(self, found: Weights) -> Weights:
        on_inputs = Weights(self.axes.unproject(found.weight), found.bias)
        return on_inputs.on_raw(self.mean, self.scale)


def _flat(x: Tensor) -> NDArray[np.float32]:
    flat: NDArray[np.float32] = x.reshape(len(x), -1).numpy()
    return flat
