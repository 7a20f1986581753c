"""Multi-scale Gaussian derivative filters under a classical classifier: before deep learning.

The filters of Florack et al. 1996, "The Gaussian scale-space paradigm and the multiscale local
jet": every derivative of order 0 to 2, and what does not change when the image is turned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.balance import ClassWeights
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families import boosting, logistic, ridge
from pipeline.families.axes import effort
from pipeline.families.base import Family, FamilyError, FamilyParams, Fit, State
from pipeline.families.boosting import BoostConfig, Boosted, Forest
from pipeline.families.gaussian_derivatives import (
    derivatives,
    gradient_magnitude,
    hessian_eigenvalues,
)
from pipeline.families.logistic import PENALTIES, Penalties, Weights

_CHUNK_BYTES: Final = 32 << 20  # filter responses held at a time


class FilterbankParams(FamilyParams):
    """Parameters of ``filterbank``.

    Attributes:
        sigmas: Scales of the Gaussian in voxels.
        pyramid: Cells along each axis in which responses are pooled; several are joined. ``auto``:
            1, 2 and 4 in 2D, 1 and 2 in 3D.
        pooling: ``average``, ``deviation`` (standard deviation) and ``max`` over each cell.
        classifier: ``ridge``, its penalty chosen by leaving patients out, or ``boosted`` trees,
            their number chosen on validation.
        penalties: For ``ridge``: to choose from, relative to the mean squared length of a
            standardised feature row.
        boost: For ``boosted``.
        class_weights: ``none``, or ``balanced``: each class (with and without each label) weighs
            the same in the fit; probabilities are of the training frequencies all the same.
    """

    sigmas: tuple[PositiveFloat, ...] = Field(default=(1.0, 2.0, 4.0), min_length=1)
    pyramid: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | Literal["auto"] = "auto"
    pooling: tuple[Literal["average", "deviation", "max"], ...] = Field(
        default=("average", "deviation", "max"), min_length=1
    )
    classifier: Literal["ridge", "boosted"] = "ridge"
    penalties: Penalties = PENALTIES
    boost: BoostConfig = BoostConfig()
    class_weights: ClassWeights = "none"


class Filterbank(Family[FilterbankParams]):
    """Fixed filters, pooled, then a ridge classifier or boosted trees.

    ``prepare`` is all of the filtering; there is nothing random in it.
    """

    name: ClassVar[str] = "filterbank"
    Params: ClassVar[type[FamilyParams]] = FilterbankParams
    seeded_prepare: ClassVar[bool] = False

    def __init__(
        self, params: FilterbankParams, task: Task, scan_shape: tuple[int, ...], seed: int
    ) -> None:
        super().__init__(params, task, scan_shape, seed)
        ndim = len(scan_shape) - 1
        self._pyramid = _pyramid(params, ndim)
        if min(scan_shape[1:]) < max(self._pyramid):
            raise FamilyError(
                "family.scan_too_small",
                f"{self.name}: a scan of shape {scan_shape} cannot be divided into "
                f"{max(self._pyramid)} cells along each axis",
                fix="choose a smaller params.pyramid, or larger scans in the prep config",
            )
        maps = scan_shape[0] * len(params.sigmas) * _responses_per_scale(ndim)
        features = maps * len(params.pooling) * sum(cells**ndim for cells in self._pyramid)
        columns = logistic.n_columns(task)
        self._weights = Weights.zeros(features, columns)
        self._forest = Forest.empty(params.boost, columns)

    def prepare(self, x: Tensor) -> Tensor:
        """(N, C, I, J[, K]) -> (N, features) float32."""
        scan_bytes = 4 * int(np.prod(x.shape[1:])) * _responses_per_scale(x.ndim - 2) * 3
        chunk = max(1, _CHUNK_BYTES // scan_bytes)
        with torch.no_grad():
            parts = [self.read(x[i : i + chunk]) for i in range(0, len(x), chunk)]
        return torch.cat(parts)

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        if self.params.classifier == "boosted":
            self.check_validation(val)
            boosted = self._boost(train, val, progress)
            return Fit(
                chosen={"trees": float(boosted.rounds), "val_log_loss": boosted.val_log_loss}
            )
        self.check_classes(train)
        fitted = ridge.fit_scans(self.task, self.params, train.x.numpy(), train, progress)
        self._weights = fitted.weights
        return Fit(chosen=fitted.chosen())

    def fit_chosen(
        self, train: Scans, chosen: Mapping[str, float], progress: Progress = silent
    ) -> Fit:
        if self.params.classifier == "ridge":
            return super().fit_chosen(train, chosen, progress)
        return Fit(
            chosen={"trees": float(self._boost(train, int(chosen["trees"]), progress).rounds)}
        )

    def _boost(self, train: Scans, val: Scans | int, progress: Progress) -> Boosted:
        self.check_classes(train)
        boosted = boosting.fit(
            self.task,
            self.params.boost,
            train,
            val,
            seed=self.seed,
            progress=progress,
            class_weights=self.params.class_weights,
        )
        self._forest = boosted.forest
        return boosted

    def work(self, n_scans: int) -> float:
        if self.params.classifier == "boosted":
            return super().work(n_scans)
        return effort(n_scans, len(self._weights.weight))

    def probability(self, x: Tensor) -> Tensor:
        if self.params.classifier == "boosted":
            return logistic.traced_probability(self.task, self._forest.logits(x))
        return self._weights.probability(self.task, x)

    def state(self) -> State:
        if self.params.classifier == "boosted":
            return self._forest.arrays()
        return self._weights.arrays()

    def load_state(self, state: State) -> None:
        self.check_state(state, self.state())
        if self.params.classifier == "boosted":
            self._forest = Forest.from_arrays(state)
        else:
            self._weights = Weights.of_arrays(state)

    def read(self, x: Tensor) -> Tensor:
        pooled: list[Tensor] = []
        for sigma in self.params.sigmas:
            found = derivatives(x, sigma)
            maps = [*found.values(), gradient_magnitude(found), *hessian_eigenvalues(found)]
            response = torch.cat(maps, dim=1)
            for cells in self._pyramid:
                pooled += [_pool(response, cells, kind).flatten(1) for kind in self.params.pooling]
        return torch.cat(pooled, dim=1)


def _pyramid(params: FilterbankParams, ndim: int) -> tuple[int, ...]:
    if params.pyramid != "auto":
        return params.pyramid
    return (1, 2, 4) if ndim == 2 else (1, 2)


def _responses_per_scale(ndim: int) -> int:
    """Derivatives of order 0 to 2, gradient magnitude, eigenvalues of the Hessian."""
    return (1 + ndim + ndim * (ndim + 1) // 2) + 1 + ndim


def _pool(response: Tensor, cells: int, kind: str) -> Tensor:
    flat = response.ndim == 4
    average = functional.adaptive_avg_pool2d if flat else functional.adaptive_avg_pool3d
    if kind == "average":
        return average(response, cells)
    if kind == "max":
        most = functional.adaptive_max_pool2d if flat else functional.adaptive_max_pool3d
        return most(response, cells)
    # The difference of two large numbers has few digits: each scan's map is centred before.
    centred = response - response.mean(dim=tuple(range(2, response.ndim)), keepdim=True)
    mean = average(centred, cells)
    return (average(centred**2, cells) - mean**2).clamp(min=0).sqrt()
