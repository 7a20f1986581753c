"""A control: any family, on scans whose voxels are all put into another order.

One order for all scans, so that no voxel's value is lost, only which voxels are neighbours. A
family that learns as well from such scans makes nothing of neighbourhood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prep.progress import Progress, silent
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.families.base import Family, FamilyParams, Fit, State
from pipeline.inspection import Inspection


class Permuted(Family[FamilyParams]):
    """``inner``, behind a fixed permutation of voxels; channels are permuted alike.

    Args:
        inner: Unfitted.
        permute: Decides the order, whatever the family's own seed.
    """

    name: ClassVar[str] = "permuted"

    def __init__(self, inner: Family[Any], permute: int) -> None:
        super().__init__(inner.params, inner.task, inner.scan_shape, inner.seed)
        self._inner = inner
        self._prepares = inner.prepares(inner.params)
        order = np.random.default_rng(permute).permutation(math.prod(inner.scan_shape[1:]))
        self._order = torch.from_numpy(order)

    def prepare(self, x: Tensor) -> Tensor:
        """As ``inner`` does with permuted scans; where that prepares nothing, scans stay raw."""
        return self._inner.prepare(self._permuted(x)) if self._prepares else x

    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        return self._inner.fit(self._seen(train), self._seen(val), progress, checkpoints)

    def fit_chosen(
        self, train: Scans, chosen: Mapping[str, float], progress: Progress = silent
    ) -> Fit:
        return self._inner.fit_chosen(self._seen(train), chosen, progress)

    def work(self, n_scans: int) -> float:
        return self._inner.work(n_scans)

    def read(self, x: Tensor) -> Tensor:
        return self._inner.read(self._permuted(x)) if self._prepares else x

    def probability(self, x: Tensor) -> Tensor:
        return self._inner.probability(x if self._prepares else self._permuted(x))

    def seen(self, x: Tensor) -> Tensor:
        return self._inner.seen(x if self._prepares else self._permuted(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._inner.forward(self._permuted(x))

    def predict_proba(self, x: Tensor) -> NDArray[np.float64]:
        return self._inner.predict_proba(x if self._prepares else self._permuted(x))

    def features(self, x: Tensor) -> NDArray[np.float32]:
        return self._inner.features(x if self._prepares else self._permuted(x))

    def look(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        return self._inner.look(x if self._prepares else self._permuted(x))

    def state(self) -> State:
        return self._inner.state()

    def load_state(self, state: State) -> None:
        self._inner.load_state(state)

    def network(self) -> nn.Module | None:
        """Of ``inner``: permuted scans in."""
        return self._inner.network()

    def inspect(self) -> Inspection:
        return self._inner.inspect()

    def _seen(self, scans: Scans) -> Scans:
        return scans if self._prepares else scans.with_x(self._permuted(scans.x))

    def _permuted(self, x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, self._order].reshape(x.shape)
