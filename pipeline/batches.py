"""Which training scans a network sees in which order, and how they are changed on the way."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from data_prep.task import Task
from pipeline.augment import AugmentConfig, augment
from pipeline.dataset import Scans


def draw_order(target: NDArray[np.int64], *, balanced: bool, generator: Generator) -> Iterator[int]:
    """Endless positions of scans: shuffle after shuffle.

    Args:
        target: (N,) class indices; not looked at unless ``balanced``.
        balanced: The classes that there are take turns, in a shuffled order each round, and the
            scans of each come shuffle after shuffle: a batch holds about as many of each class,
            and a class's scans all have their turn before one comes again.
        generator: Decides the order.
    """
    if not balanced:
        return _shuffles(np.arange(len(target)), generator)
    members = [np.flatnonzero(target == label) for label in np.unique(target)]
    turns = [_shuffles(scans, generator) for scans in members]
    return (next(turns[turn]) for turn in _shuffles(np.arange(len(members)), generator))


def skip(order: Iterator[int], scans: int) -> None:
    """Pass over so many positions, as a training has that is gone on with."""
    next(islice(order, scans, scans), None)


def _shuffles(items: NDArray[np.int64], generator: Generator) -> Iterator[int]:
    while True:
        for position in torch.randperm(len(items), generator=generator).tolist():
            yield int(items[position])


def batches(
    task: Task,
    train: Scans,
    order: Iterator[int],
    batch_size: int,
    augmentation: AugmentConfig | None,
    changes: Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (x, target columns) batches of one size, on the device of ``changes``.

    A last batch of one or two scans, which batch norm could not bear, does not arise: the order is
    cut without a rest.

    Args:
        task: Makes targets columns.
        train: The scans; they are moved to the device once.
        order: Endless positions of scans.
        batch_size: Scans a batch (all of them, where there are fewer).
        augmentation: Random changes, or None.
        changes: Decides them.
    """
    x = train.x.to(changes.device)
    columns = torch.from_numpy(task.one_hot(train.target)).float().to(changes.device)
    size = min(batch_size, len(train))
    while True:
        now = torch.tensor(list(islice(order, size)), device=changes.device)
        batch = x[now]
        if augmentation is not None:
            batch = augment(batch, augmentation, changes)
        yield batch, columns[now]
