"""What is taken for what, and which share of the test scans is easy, contested or missed.

A decision is the most probable class, or for each label whether its probability is above 0.5 (as
``pipeline.metrics`` decides for accuracy). Every fit of a family counts alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.study.components import Truth
from pipeline.study.rates import Rate, rate
from pipeline.study.terms import Cells, Floats

YES_NO = ("no", "yes")


@dataclass(frozen=True)
class Confusion:
    """How many test scans of one true class were called one class.

    Attributes:
        family, size: By whom.
        label: Of a multi-label task; ``true`` and ``predicted`` are then ``no`` or ``yes``;
            else "".
        true, predicted: Classes.
        scans: How many, on average over the fits.
        share, low, high: Of the scans of the true class, with interval; NaN where there is none.
    """

    family: str
    size: int
    label: str
    true: str
    predicted: str
    scans: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Difficulty:
    """How a family's fits agree on the test scans.

    Attributes:
        family, size: Whose.
        class_name: Scans of this class (or decisions on this label) only; "" for all.
        right: Scans that every fit gets right (for multi-label: decisions on a scan and label).
        contested: Scans that some get right and some wrong.
        wrong: Scans that every fit gets wrong.
        right_low, right_high, wrong_low, wrong_high: Intervals over test patients, as if there were
            as many scans of the class as there are.
    """

    family: str
    size: int
    class_name: str
    right: int
    contested: int
    wrong: int
    right_low: float
    right_high: float
    wrong_low: float
    wrong_high: float


def confusion(family: str, size: int, cells: Cells, truth: Truth) -> Iterator[Confusion]:
    """The confusion matrix of one family at one size, row by row.

    Args:
        family, size: Which.
        cells: Probabilities on the test scans.
        truth: Of the test scans.
    """
    for label, names, true, said in _matrices(truth.task, truth.target, cells.p):
        for row, true_name in enumerate(names):
            scans = true == row
            whole = cells.constant(np.ones(int(scans.sum())))
            for column, name in enumerate(names):
                part = cells.term((said[..., scans] == column).astype(np.float64))
                share = rate(part, whole, truth.patients[scans], truth.level)
                yield Confusion(
                    family,
                    size,
                    label,
                    true_name,
                    name,
                    float(part.value.sum()),
                    share.value,
                    share.low,
                    share.high,
                )


def difficulty(family: str, size: int, cells: Cells, truth: Truth) -> list[Difficulty]:
    """How one family's fits agree at one size: over all scans, then class by class."""
    share = _share_right(truth.task, truth.target, cells)
    parts = [("", share, truth.patients)]
    for number, name in enumerate(truth.task.class_names):
        if truth.task.is_multi_label:
            parts.append((name, share[:, number : number + 1], truth.patients))
        else:
            here = truth.target == number
            parts.append((name, share[here], truth.patients[here]))
    found = []
    for name, mine, patients in parts:
        right, wrong = (_count(cells, mine == all_, patients, truth.level) for all_ in (1, 0))
        found.append(
            Difficulty(
                family,
                size,
                name,
                right=int(right.value),
                contested=mine.size - int(right.value) - int(wrong.value),
                wrong=int(wrong.value),
                right_low=right.low,
                right_high=right.high,
                wrong_low=wrong.low,
                wrong_high=wrong.high,
            )
        )
    return found


def _count(
    cells: Cells, chosen: NDArray[np.bool_], patients: NDArray[np.int64], level: float
) -> Rate:
    """How many of (N, Q) decisions, and the interval of it over test patients."""
    scans, questions = chosen.shape
    part = cells.constant(chosen.sum(axis=1).astype(np.float64))
    share = rate(part, cells.constant(np.full(scans, float(questions))), patients, level)
    count, most = float(chosen.sum()), chosen.size
    # A share and back: rounding must not put an end on the wrong side of the count.
    return Rate(count, min(most * share.low, count), max(most * share.high, count))


def missed(cells: Cells, truth: Truth) -> NDArray[np.bool_]:
    """(N, Q) decisions that more than half of a family's fits get wrong; Q is 1, or the labels."""
    return _share_right(truth.task, truth.target, cells) < 0.5


def missed_by_all(by_family: Sequence[NDArray[np.bool_]]) -> int:
    """How many decisions every family misses, of (n,) each; 0 without a family."""
    return int(np.logical_and.reduce(by_family).sum()) if by_family else 0


def _share_right(task: Task, target: NDArray[np.int64], cells: Cells) -> Floats:
    """(N, Q) share of the cells whose decision is right; exactly 0 or 1 where they agree."""
    right = np.stack(
        [said == true for _, _, true, said in _matrices(task, target, cells.p)], axis=-1
    )
    counts = (right & cells.present[..., None, None]).sum(axis=(0, 1))
    share: Floats = counts / cells.present.sum()
    return share


def _matrices(
    task: Task, target: NDArray[np.int64], p: Floats
) -> Iterator[tuple[str, Sequence[str], NDArray[np.int64], NDArray[np.int64]]]:
    """Label, class names, (N,) truth and (D, S, N) decisions of each matrix of a task."""
    if not task.is_multi_label:
        yield "", task.class_names, target, p.argmax(axis=3)
        return
    for number, name in enumerate(task.class_names):
        yield name, YES_NO, target[:, number], (p[..., number] > 0.5).astype(np.int64)
