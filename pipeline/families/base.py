"""The contract that every family of classifiers keeps; one suite in tests/ sweeps them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Generic, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from data_prep.config import Config
from data_prep.errors import MedcurveError
from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.checkpoint import Checkpoints
from pipeline.dataset import Scans
from pipeline.inspection import Inspection, inspect_network
from pipeline.train_config import TrainConfig


class FamilyError(MedcurveError):
    """A family cannot be fitted on these scans, or its saved state does not fit it."""


class FamilyParams(Config):
    """Base of a family's parameters: what ``params:`` in ``configs/family/*.yaml`` may hold."""

    @property
    def training(self) -> TrainConfig | None:
        """How a network is trained; None: the family trains none."""
        return None

    def check_files(self) -> None:
        """Refuse files that it names and that are not there or not those meant, before any work.

        Raises:
            MedcurveError: With the field.
        """

    def brief(self, train: TrainConfig | None = None) -> Self:
        """The same with as little training as shows its pace, or with ``train``; unchanged where it
        trains no network. By this a study's cost is told.
        """
        return self


@dataclass(frozen=True)
class Fit:
    """What fitting did.

    Attributes:
        history: Name -> one value per epoch (``train_loss``, ``val_auc``, ...); empty for a
            family that is solved in one step.
        chosen: Name -> the value that validation chose (``epoch``, ``penalty``, ...).
        seconds_before: Time that the part of it had taken which came out of a checkpoint.
        notes: What a user should know of how it went, in words.
    """

    history: Mapping[str, list[float]] = field(default_factory=dict)
    chosen: Mapping[str, float] = field(default_factory=dict)
    seconds_before: float = 0.0
    notes: tuple[str, ...] = ()


# Scans whose probabilities are worked out at a time; more of them take more memory, not less time.
_AT_A_TIME: Final = 512
# Cells along each axis that ``pooled`` averages a scan into: about as many in 2D as in 3D.
_POOLED: Final = {2: 14, 3: 6}

P = TypeVar("P", bound=FamilyParams)
State = dict[str, NDArray[np.generic]]


class Family(ABC, Generic[P]):
    """One family of classifiers, for one task and scan shape.

    The life of an object: ``Family(params, task, scan_shape, seed)``, then either ``fit`` or
    ``load_state``, then ``predict_proba`` as often as wanted. Everything random is decided by
    ``seed``: the same arguments and scans give the same bits on the same kind of machine with the
    same number of threads.

    ``prepare`` is the part of the work that does not depend on labels, on the size of the training
    set or on which patients are in it (a frozen feature extractor): a study calls it once per
    (family, seed), or once per family where the seed does not matter to it (``seeded_prepare``),
    and reuses the result for every size and subset. ``fit`` and ``predict_proba``
    take scans whose ``x`` is ``prepare(x)``.

    Args:
        params: The family's own frozen parameters.
        task: What to predict.
        scan_shape: (C, I, J[, K]) of one raw (not prepared) scan.
        seed: Decides every random number.
    """

    name: ClassVar[str]
    Params: ClassVar[type[FamilyParams]]
    seeded_prepare: ClassVar[bool] = True

    def __init__(self, params: P, task: Task, scan_shape: tuple[int, ...], seed: int) -> None:
        self.params = params
        self.task = task
        self.scan_shape = scan_shape
        self.seed = seed

    def prepare(self, x: Tensor) -> Tensor:
        """(N, C, I, J[, K]) raw scans -> what ``fit`` takes, row by row; here: unchanged."""
        return x

    @classmethod
    def prepares(cls, params: FamilyParams) -> bool:
        """Whether ``prepare`` does anything with these parameters, so that it is worth keeping."""
        return cls.prepare is not Family.prepare

    @abstractmethod
    def fit(
        self,
        train: Scans,
        val: Scans,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Fit:
        """Train on ``train``; choose epoch, penalty and the like on ``val``.

        ``progress`` is told (epochs done, epochs in all). ``checkpoints`` is where a family that
        trains for long keeps its way back, and finds it; whatever lies there, the fit has the same
        bits. A family that is quick has no use for it.

        Raises:
            FamilyError: ``family.one_class`` if ``train`` holds one class only.
        """

    def fit_chosen(
        self, train: Scans, chosen: Mapping[str, float], progress: Progress = silent
    ) -> Fit:
        """Train on ``train`` with what earlier fits have chosen, and no validation scan.

        With what ``fit`` has chosen on the same training scans it becomes the same object, bit for
        bit. What a family chooses on training patients alone it chooses again, as here.

        Args:
            train: To learn from.
            chosen: As ``Fit.chosen``, of this family with these parameters.
            progress: As in ``fit``.

        Raises:
            FamilyError: As ``fit``.
        """
        return self.fit(train, train.take(np.arange(0)), progress)

    def work(self, n_scans: int) -> float:
        """Effort of fitting that many scans; only ratios count, also to the ``brief`` family's."""
        training = self.params.training
        return float(training.scans_seen(n_scans) if training else n_scans)

    def read(self, x: Tensor) -> Tensor:
        """``prepare`` of scans (N, C, I, J[, K]) all at once, in torch operations alone.

        So it can be traced.
        """
        return x

    @abstractmethod
    def probability(self, x: Tensor) -> Tensor:
        """Prepared (N, ...) -> probabilities (N, n_classes) float64, as ``read`` does it."""

    def seen(self, x: Tensor) -> Tensor:
        """Prepared (N, ...) -> ``features`` (N, D) float32, as ``read`` does it."""
        return pooled(x) if x.ndim > 2 else x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The fitted family's whole way from raw scans, to be traced and exported.

        Args:
            x: (N, C, I, J[, K]) float32; N is free.

        Returns:
            Probabilities (N, n_classes) float64 and features (N, D) float32: those of
            ``predict_proba`` and ``features`` after ``prepare``, but for rounding.
        """
        prepared = self.read(x)
        return self.probability(prepared), self.seen(prepared)

    def predict_proba(self, x: Tensor) -> NDArray[np.float64]:
        """Prepared (N, ...) -> probabilities (N, n_classes) float64.

        Rows sum to 1, but for a multi-label task, where each column is its own probability.
        A row does not depend on the other rows beyond 1e-6 (batching may reorder sums).
        """
        with torch.no_grad():
            rows = torch.cat([self.probability(part) for part in torch.split(x, _AT_A_TIME)])
        found: NDArray[np.float64] = rows.numpy()
        return found

    def features(self, x: Tensor) -> NDArray[np.float32]:
        """What the fitted family sees of scans before it decides: prepared (N, ...) -> (N, D).

        The inputs of a network's last layer, the features under a classifier; of families that
        work on voxels, their means over a coarse grid. D is 0 for a family that looks at nothing.
        A row depends on no other row beyond 1e-5.
        """
        return np.asarray(self.seen(x).numpy())

    def look(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """``predict_proba`` and ``features`` of prepared scans, in one pass where one has both.

        Probabilities have the bits of ``predict_proba``; features are those of ``features`` to
        1e-5.
        """
        return self.predict_proba(x), self.features(x)

    @abstractmethod
    def state(self) -> State:
        """Everything that fitting decided, as named arrays (what safetensors stores)."""

    @abstractmethod
    def load_state(self, state: State) -> None:
        """Become the fitted object that ``state()`` described, bit for bit.

        Raises:
            FamilyError: ``family.bad_state`` if a name or shape does not fit.
        """

    def network(self) -> nn.Module | None:
        """The network that it trains or draws features from, raw scans in; None: there is none."""
        return None

    def scorer(self) -> nn.Module | None:
        """What its answer can be differentiated through; None: nothing of the kind.

        Returns:
            (N, C, I, J[, K]) raw scans -> (N, columns) logits: one a class, or for a binary task
            the second class's alone. Not to be changed: it may be the family's own.
        """
        return None

    def inspect(self) -> Inspection:
        """Layers of its network, if it has one, and the arrays that it stores."""
        net = self.network()
        layers = () if net is None else inspect_network(net, self.scan_shape)
        return Inspection(layers, {name: value.shape for name, value in self.state().items()})

    def check_state(self, state: State, like: State) -> None:
        """Refuse a state whose names, shapes or dtypes are not those of ``like``.

        Raises:
            FamilyError: ``family.bad_state``.
        """
        found = {name: (value.shape, value.dtype) for name, value in state.items()}
        expected = {name: (value.shape, value.dtype) for name, value in like.items()}
        if found == expected:
            return
        name = next(n for n in sorted({*found, *expected}) if found.get(n) != expected.get(n))
        shown = [
            f"{side[name][0]} {side[name][1]}" if name in side else "nothing"
            for side in (found, expected)
        ]
        raise FamilyError(
            "family.bad_state",
            f"{self.name}: array '{name}' of the saved state is {shown[0]}; expected {shown[1]}",
            fix="load it with the family config, task and scan shape that it was saved with",
        )

    def check_validation(self, val: Scans) -> None:
        """Refuse an empty validation split, by which nothing can be chosen.

        Raises:
            FamilyError: ``family.no_validation``.
        """
        if not len(val):
            raise FamilyError(
                "family.no_validation",
                f"{self.name}: there are no validation scans to choose by",
                fix="give the split stage a validation share above 0",
            )

    def check_classes(self, train: Scans) -> None:
        """Refuse training scans that hold one class only (each label, for multi-label).

        Raises:
            FamilyError: ``family.one_class``.
        """
        target = train.target if self.task.is_multi_label else train.target[:, None]
        for column in range(target.shape[1]):
            present = np.unique(target[:, column])
            if len(present) < 2:
                name = self.task.class_names[column if self.task.is_multi_label else present[0]]
                raise FamilyError(
                    "family.one_class",
                    f"{self.name}: all {len(target)} training scans "
                    + (
                        f"have the same value of label '{name}'"
                        if self.task.is_multi_label
                        else f"are of class '{name}'"
                    ),
                    fix="add patients of the other classes, or choose a larger size",
                )


def pooled(x: Tensor) -> Tensor:
    """(N, C, I, J[, K]) -> (N, D): means over at most 14 cells along an axis in 2D, 6 in 3D."""
    cells = [min(edge, _POOLED[x.ndim - 2]) for edge in x.shape[2:]]
    if len(cells) == 2:
        return functional.adaptive_avg_pool2d(x, (cells[0], cells[1])).flatten(1)
    return functional.adaptive_avg_pool3d(x, (cells[0], cells[1], cells[2])).flatten(1)
