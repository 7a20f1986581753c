"""Every metric of a task, as functions of how often each patient counts.

A task asks questions: whether class 1 is there (binary), and of more classes, or of labels, one
for each. What a question's ranking says is averaged over questions for the task as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.evaluation.calibration_error import CalibrationError
from pipeline.evaluation.counted import Confusion, Detection, Scores, Shares, mean_of_known
from pipeline.evaluation.ranked import Ranking
from pipeline.weighted_metrics import (
    Floats,
    Labels,
    negative_log_likelihood,
    squared_distance,
    sums,
)

AT_FIXED_SHARE: Final = ("sensitivity_at_specificity", "specificity_at_sensitivity")
RANKED: Final = ("auc", "average_precision", *AT_FIXED_SHARE)


@dataclass(frozen=True, eq=False)
class Scans:
    """Scans to be scored.

    Attributes:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (N, n_classes).
        decided: What was decided, of the shape of ``target``.
        patient: (N,) number of each scan's patient, from 0, none left out.
    """

    task: Task
    target: Labels
    probability: Floats
    decided: Labels
    patient: Labels

    def of(self, chosen: NDArray[np.bool_]) -> Scans:
        """The scans of which ``chosen`` (N,) is true; patients are numbered anew, in order."""
        return Scans(
            self.task,
            self.target[chosen],
            self.probability[chosen],
            self.decided[chosen],
            np.unique(self.patient[chosen], return_inverse=True)[1],
        )

    @property
    def n_patients(self) -> int:
        """How many patients there are."""
        return int(self.patient.max()) + 1 if len(self.patient) else 0

    def questions(self) -> Iterator[tuple[str, NDArray[np.bool_], Floats, NDArray[np.bool_]]]:
        """Name, (N,) truth, score and decision of each question."""
        task = self.task
        for number, name in enumerate(task.class_names):
            if task.is_multi_label:
                truth, decided = self.target[:, number] == 1, self.decided[:, number] == 1
            else:
                truth, decided = self.target == number, self.decided == number
            if task.kind != "binary" or number == 1:
                yield name, truth, self.probability[:, number], decided


@dataclass(frozen=True, eq=False)
class Measures:
    """All metrics of some scans, prepared.

    Attributes:
        task: What was predicted; of a binary one the one question's metrics are the task's.
        classes: Of each question its ranking and its decisions.
        confusions: Of the task; of each label for multi-label.
        calibration: Expected calibration error.
        losses: (3, P) Brier score, log loss and number of scans, summed by patient.
    """

    task: Task
    classes: dict[str, tuple[Ranking, Detection]]
    confusions: tuple[Confusion, ...]
    calibration: CalibrationError
    losses: Floats

    @classmethod
    def of(cls, scans: Scans, at: float) -> Measures:
        """Prepare; ``at`` is the specificity, or sensitivity, that is held fixed."""
        task, target, probability = scans.task, scans.target, scans.probability
        patient = scans.patient
        per_scan = (
            squared_distance(task, target, probability),
            negative_log_likelihood(task, target, probability),
            np.ones(len(patient)),
        )
        return cls(
            task=task,
            classes={
                name: (
                    Ranking.of(truth, score, patient, at),
                    Detection.of(truth, decided, patient),
                )
                for name, truth, score, decided in scans.questions()
            },
            confusions=_confusions(scans),
            calibration=CalibrationError.of(task, target, probability, patient),
            losses=np.stack([sums(patient, values, scans.n_patients) for values in per_scan]),
        )

    def __call__(self, weights: Floats) -> tuple[Scores, dict[str, Scores]]:
        """Weights (P, R) -> the task's metrics, and those of each question, (R,) each.

        All but the calibration error, whose interval is of another kind.
        """
        classes = {
            name: ranking(weights) | detection(weights)
            for name, (ranking, detection) in self.classes.items()
        }
        of_classes = list(classes.values())
        whole = {name: np.mean([one[name] for one in of_classes], axis=0) for name in RANKED}
        counted = [confusion(weights) for confusion in self.confusions]
        whole |= {name: np.mean([one[name] for one in counted], axis=0) for name in counted[0]}
        if self.task.is_multi_label:  # a label is not one of two classes: its absence has no F1
            whole["f1"] = mean_of_known(np.array([one["f1"] for one in of_classes]))
        if self.task.kind == "binary":
            whole |= of_classes[0]
        return whole | self.mean_losses(weights), classes

    def mean_losses(self, weights: Floats) -> Scores:
        """Of the same weights (patients, resamples), what needs no decision and no rank."""
        brier, log_loss, n = self.losses @ weights
        with np.errstate(invalid="ignore"):
            return {"brier": brier / n, "log_loss": log_loss / n}

    @property
    def shares(self) -> tuple[Shares, dict[str, Shares]]:
        """The metrics that are shares of scans: the task's, and those of each question."""
        classes = {name: detection.shares for name, (_, detection) in self.classes.items()}
        right = [confusion.right for confusion in self.confusions]
        hits, every = (np.sum(sides, axis=0) for sides in zip(*right, strict=True))
        of_task = next(iter(classes.values())) if self.task.kind == "binary" else {}
        return of_task | {"accuracy": (hits, every)}, classes


def _confusions(scans: Scans) -> tuple[Confusion, ...]:
    task, target, decided = scans.task, scans.target, scans.decided
    if task.is_multi_label:
        both = zip(target.T, decided.T, strict=True)
        return tuple(Confusion.of(true, said, 2, scans.patient) for true, said in both)
    ordered = task.kind == "ordinal"
    return (Confusion.of(target, decided, task.n_classes, scans.patient, ordered=ordered),)
