"""The nearest training scans vote: no model at all, only a distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families.base import Family, FamilyParams, Fit, State
from pipeline.metrics import score

_BLOCK = 512  # validation scans whose distances to all training scans are held at a time


class KnnParams(FamilyParams):
    """Parameters of ``knn``.

    Attributes:
        neighbours: Numbers of neighbours to choose from on validation, each at most the number of
            training scans (larger ones are passed over; if all are, every scan votes).
        normalise: ``scan``: each scan is centred and divided by its standard deviation first, so
            that distance is about pattern, not brightness (then it is one minus the correlation);
            ``none``: scans are compared as they are.
    """

    neighbours: tuple[PositiveInt, ...] = Field(
        default=(1, 3, 5, 9, 15, 25, 45, 75, 125), min_length=1
    )
    normalise: Literal["scan", "none"] = "none"


class Knn(Family[KnnParams]):
    """Share of each class among the nearest training scans by Euclidean distance.

    One more vote is shared out by the classes' frequencies, so that five equal neighbours do not
    make certainty. The number of neighbours is the one of least validation log loss; of equals,
    the larger. Neighbours at one distance count in the order of the training scans.
    """

    name: ClassVar[str] = "knn"
    Params: ClassVar[type[FamilyParams]] = KnnParams
    seeded_prepare: ClassVar[bool] = False

    def __init__(
        self, params: KnnParams, task: Task, scan_shape: tuple[int, ...], seed: int
    ) -> None:
        super().__init__(params, task, scan_shape, seed)
        self._scans = np.zeros((0, int(np.prod(scan_shape))), dtype=np.float32)
        self._votes = np.zeros((0, task.n_classes))
        self._k = np.zeros(1, dtype=np.int64)

    def prepare(self, x: Tensor) -> Tensor:
        """(N, C, I, J[, K]) -> (N, voxels), normalised as the parameters say."""
        return self.read(x)

    def read(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        if self.params.normalise == "none":
            return flat
        centred = flat - flat.mean(dim=1, keepdim=True)
        return centred / centred.std(dim=1, correction=0, keepdim=True).clamp(min=1e-6)

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        self.check_validation(val)
        self._keep(train)
        allowed = [k for k in self.params.neighbours if k <= len(train)] or [len(train)]
        progress(0, 1)
        most = max(allowed)
        order = torch.cat([self._nearest(part, most) for part in torch.split(val.x, _BLOCK)])
        losses = {
            k: score(self.task, val.target, self._shares(order[:, :k]).numpy())["log_loss"]
            for k in sorted(allowed, reverse=True)
        }
        best = min(losses, key=lambda k: losses[k])
        self._k = np.array([best])
        progress(1, 1)
        return Fit(chosen={"neighbours": float(best), "val_log_loss": losses[best]})

    def fit_chosen(
        self, train: Scans, chosen: Mapping[str, float], progress: Progress = silent
    ) -> Fit:
        self._keep(train)
        self._k = np.array([min(int(chosen["neighbours"]), len(train))])
        progress(1, 1)
        return Fit(chosen={"neighbours": float(self._k[0])})

    def _keep(self, train: Scans) -> None:
        self.check_classes(train)
        self._scans = train.x.numpy().copy()
        self._votes = self.task.one_hot(train.target)

    def probability(self, x: Tensor) -> Tensor:
        return self._shares(self._nearest(x, int(self._k[0])))

    def seen(self, x: Tensor) -> Tensor:
        return super().seen(x.reshape(x.shape[0], *self.scan_shape))

    def state(self) -> State:
        return {"scans": self._scans, "votes": self._votes, "neighbours": self._k}

    def load_state(self, state: State) -> None:
        n = len(np.atleast_1d(state.get("votes", self._votes)))  # as many as were trained on
        like: State = {
            "scans": np.zeros((n, self._scans.shape[1]), dtype=np.float32),
            "votes": np.zeros((n, self.task.n_classes)),
            "neighbours": self._k,
        }
        self.check_state(state, like)
        self._scans = state["scans"].astype(np.float32)
        self._votes = state["votes"].astype(np.float64)
        self._k = state["neighbours"].astype(np.int64)

    def _nearest(self, x: Tensor, k: int) -> Tensor:
        """(N, k) positions of the nearest training scans, nearest first."""
        # |x - t|^2 without |x|^2, which is the same for every t; float64, so that the order of two
        # training scans does not hang on how a batch was summed.
        train = torch.from_numpy(self._scans).double()
        distance = (train**2).sum(dim=1) - 2 * (x.double() @ train.T)
        return distance.sort(dim=1, stable=True).indices[:, :k]

    def _shares(self, neighbours: Tensor) -> Tensor:
        votes = torch.from_numpy(self._votes)
        return (votes[neighbours].sum(dim=1) + votes.mean(dim=0)) / (neighbours.shape[1] + 1)
