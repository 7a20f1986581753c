"""What a model answers to scans that are prepared: calibrated, decided, enclosed, and doubted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.errors import ScanError
from data_prep.scan_look import ScanLook
from data_prep.task import Task
from pipeline.serving.package import ModelPackage
from pipeline.trust.shift_reference import ShiftScore

# A block is what the model sees at once: at most 16 scans and about a million voxels.
MAX_BLOCK_SCANS: Final = 16
MAX_BLOCK_VOXELS: Final = 1 << 20
# Six decimals are finer than any model's probability can be trusted, and coarser than the last
# bits of float32, in which machines and thread counts differ.
PROBABILITY_DECIMALS: Final = 6

# Stands behind a label of a prediction set that may be true or not.
EITHER: Final = "?"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one scan.

    Attributes:
        raw: (n_classes,) as the family gives them.
        probability: (n_classes,) calibrated and rounded; NaN where the family's are.
        predicted: The class that the model's threshold decides for; for a multi-label task the
            labels, any number of them.
        within: The prediction set: classes that cannot be left out. For a multi-label task the
            labels that are true, and with a question mark those that may be.
        shift: How foreign the scan is; None where the model cannot tell.
        features: (D,) what the family sees of it.
    """

    raw: NDArray[np.float64]
    probability: NDArray[np.float64]
    predicted: tuple[str, ...]
    within: tuple[str, ...]
    shift: ShiftScore | None
    features: NDArray[np.float32]

    @property
    def finite(self) -> bool:
        """Whether it is an answer at all."""
        return bool(np.isfinite(self.raw).all())


def not_finite() -> ScanError:
    """Why a scan without an answer is not scored."""
    return ScanError("model.not_finite", "the model's answer is NaN or infinite")


def block_scans(package: ModelPackage) -> int:
    """How many scans the model is always given at once."""
    voxels = int(np.prod(package.card.scan_shape))
    return max(1, min(MAX_BLOCK_SCANS, MAX_BLOCK_VOXELS // voxels))


def answers(
    package: ModelPackage, arrays: Sequence[NDArray[np.float32]], looks: Sequence[ScanLook]
) -> Iterator[Answer]:
    """One answer a scan.

    Args:
        package: The model.
        arrays: The scans as ``recipe.apply`` gives them.
        looks: What was noted of each scan as it was read.
    """
    for start, raw, features in _blocks(package, arrays):
        yield from _answered(package, raw, features, looks[start : start + len(raw)])


def probabilities(
    package: ModelPackage, arrays: Sequence[NDArray[np.float32]]
) -> Iterator[NDArray[np.float64]]:
    """One row of calibrated probabilities a scan, as ``answers`` has them before rounding."""
    for _, raw, _ in _blocks(package, arrays):
        yield from package.calibrate(raw)


def _blocks(
    package: ModelPackage, arrays: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float32]]]:
    """(number of the first scan, probabilities, features) of block after block.

    Libraries choose another kernel, and so other last bits, for another number of rows. The model
    therefore always sees blocks of the same shape, the last one filled up with zeros.
    """
    size = block_scans(package)
    remaining, start = iter(arrays), 0
    while chosen := list(islice(remaining, size)):
        block = np.empty((size, *package.card.scan_shape), dtype=np.float32)
        np.stack(chosen, out=block[: len(chosen)])
        block[len(chosen) :] = 0
        raw, features = package.look(torch.from_numpy(block))
        yield start, raw[: len(chosen)], features[: len(chosen)]
        start += len(chosen)


def _answered(
    package: ModelPackage,
    raw: NDArray[np.float64],
    features: NDArray[np.float32],
    looks: Sequence[ScanLook],
) -> Iterator[Answer]:
    task, trust = package.task, package.card.trust
    probability = np.round(package.calibrate(raw), PROBABILITY_DECIMALS)
    # What is decided is read off the probabilities that are shown.
    sure = np.nan_to_num(probability)
    decided = trust.decision.decide(task, sure)
    sets = trust.conformal.sets(task, sure)
    shifts = package.reference.score(looks, features) if package.reference else [None] * len(raw)
    for row, shift in enumerate(shifts):
        yield Answer(
            raw=raw[row],
            probability=probability[row],
            predicted=_classes(task, decided[row]),
            within=_within(task, sets[row]),
            shift=shift,
            features=features[row],
        )


def _classes(task: Task, decided: NDArray[np.int64]) -> tuple[str, ...]:
    if task.is_multi_label:
        return tuple(name for name, yes in zip(task.class_names, decided, strict=True) if yes)
    return (task.class_names[int(decided)],)


def _within(task: Task, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    if not task.is_multi_label:
        return tuple(name for name, kept in zip(task.class_names, chosen, strict=True) if kept)
    return tuple(
        name if yes and not no else name + EITHER
        for name, (no, yes) in zip(task.class_names, chosen, strict=True)
        if yes or not no  # neither is as open as both
    )
