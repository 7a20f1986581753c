"""What is to be predicted: the kind of task and the names of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from data_prep.config import Config
from data_prep.errors import CohortError, nearest

TaskKind = Literal["binary", "multi-class", "multi-label", "ordinal"]


class Task(Config):
    """A classification task.

    Attributes:
        kind: ``binary``, ``multi-class``, ``ordinal`` (classes in order) or ``multi-label``
            (each scan has any number of the classes).
        class_names: One name per class; for ``multi-label`` one name per label.
    """

    kind: TaskKind
    class_names: tuple[str, ...]

    @model_validator(mode="after")
    def _check(self) -> Task:
        count = len(self.class_names)
        if len(set(self.class_names)) != count:
            raise ValueError("class names must differ from each other")
        if self.kind == "binary" and count != 2:
            raise ValueError(f"a binary task has 2 classes, not {count}")
        if self.kind != "multi-label" and count < 2:
            raise ValueError(f"a task needs at least 2 classes, not {count}")
        return self

    @property
    def n_classes(self) -> int:
        """Width of a probability row: classes, or labels for ``multi-label``."""
        return len(self.class_names)

    @property
    def is_multi_label(self) -> bool:
        """True where a scan can have several classes, so that rows do not sum to 1."""
        return self.kind == "multi-label"

    def encode(self, names: Sequence[str]) -> tuple[int, ...]:
        """Class names of one scan as integers: (class index,), or one 0/1 per label.

        Raises:
            CohortError: ``cohort.unknown_class``.
        """
        unknown = [name for name in names if name not in self.class_names]
        if unknown:
            raise CohortError(
                "cohort.unknown_class",
                f"label '{unknown[0]}' is not a class of this task"
                f"{nearest(unknown[0], list(self.class_names))}",
                fix=f"use one of: {', '.join(self.class_names)}",
            )
        if self.is_multi_label:
            return tuple(int(name in names) for name in self.class_names)
        return (self.class_names.index(names[0]),)

    def one_hot(self, target: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N,) class indices or (N, L) 0/1 labels as (N, n_classes) float64 of zeros and ones."""
        if self.is_multi_label:
            return target.astype(np.float64)
        return np.eye(self.n_classes)[target]
