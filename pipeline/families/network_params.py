"""What any family that trains a network may be asked, and what is refused before any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pipeline.augment import Augmentation, AugmentConfig
from pipeline.families.base import Family, FamilyError, FamilyParams
from pipeline.losses import refuse_unfit
from pipeline.train_config import TrainConfig
from pipeline.views import ViewsConfig


class NetworkParams(FamilyParams):
    """Parameters of every family that trains a network.

    Attributes:
        train: How it is trained.
        augment: Random changes of training scans, or the name of a set in ``configs/augment``.
        test_time: Views of a scan whose probabilities are averaged when it is predicted; only such
            as ``augment`` allows.
    """

    train: TrainConfig = TrainConfig()
    augment: Augmentation = AugmentConfig()
    test_time: ViewsConfig = ViewsConfig()

    @property
    def training(self) -> TrainConfig | None:
        return self.train

    def brief(self, train: TrainConfig | None = None) -> Self:
        if self.training is None:
            return self
        return self.model_copy(update={"train": train or self.training.brief()})


def refuse_unfit_training(family: Family[Any], params: NetworkParams) -> None:
    """Refuse parameters that do not fit the task, the scans or each other, before any training.

    Raises:
        FamilyError: ``family.no_such_axis``, or ``family.unseen_view`` for a view at prediction
            that is no possible augmentation: the network has never learnt to see it.
        LossError: As ``pipeline.losses.refuse_unfit``.
    """
    augment, test_time = params.augment, params.test_time
    refuse_unfit(family.task, params.train.loss, params.train.sampling)
    refuse_foreign_axes(family.name, augment, family.scan_shape)
    refuse_unseen_mirrors(family.name, "test_time", test_time.flip_axes, augment)
    if test_time.shift_px > augment.shift_px:
        raise _unseen(
            family.name, "test_time.shift_px", test_time.shift_px, "shift_px", augment.shift_px
        )


def refuse_foreign_axes(name: str, augment: AugmentConfig, scan_shape: tuple[int, ...]) -> None:
    """Refuse to mirror along an axis that the scans do not have, before any training.

    Raises:
        FamilyError: ``family.no_such_axis``.
    """
    if any(axis >= len(scan_shape) - 1 for axis in augment.flip_axes):
        raise FamilyError(
            "family.no_such_axis",
            f"{name}: params.augment.flip_axes is {list(augment.flip_axes)}; scans of shape "
            f"{scan_shape} have axes 0 to {len(scan_shape) - 2}",
            fix="name only axes that the scans have",
        )


def refuse_unseen_mirrors(
    name: str, part: str, flip_axes: Sequence[int], augment: AugmentConfig
) -> None:
    """Refuse mirror images at prediction, asked for by ``params.<part>``, that training never sees.

    Raises:
        FamilyError: ``family.unseen_view``.
    """
    if set(flip_axes) - set(augment.flip_axes):
        allowed = list(augment.flip_axes)
        raise _unseen(name, f"{part}.flip_axes", list(flip_axes), "flip_axes", allowed)


def _unseen(name: str, field: str, found: object, limit: str, allowed: object) -> FamilyError:
    return FamilyError(
        "family.unseen_view",
        f"{name}: params.{field} is {found}; training, by params.augment.{limit}, sees at most "
        f"{allowed}",
        fix="ask for less, or let params.augment allow it (mirror only where the anatomy is "
        "the same mirrored)",
    )
