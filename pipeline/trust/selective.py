"""Selective prediction: how often answers are wrong where only the surest are given.

Scans are answered by falling confidence, the probability of the class that is answered; risk is
the share of wrong answers among those given (El-Yaniv and Wiener 2010, "On the foundations of
noise-free selective classification"). The area under the curve, ``aurc``, is the mean of the risk
over all numbers of answers (Geifman and El-Yaniv 2017, "Selective classification for deep neural
networks"); a confidence that says nothing has the share of errors as its area. Answers of equal
confidence come in random order: what is told is the expected value.

Of a multi-label task, each label is an answer, and a scan may have some of its labels answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Config
from data_prep.task import Task
from pipeline.metrics import check, patient_draws
from pipeline.weighted_metrics import Floats, Labels

_POINTS: Final = 100


class RiskCoverage(Config):
    """The risk-coverage curve with its bootstrap ribbon over patients.

    Attributes:
        answered: Shares of answers that are given, rising to 1.
        risk, low, high: Share of them that are wrong, with the interval at each.
        aurc, aurc_low, aurc_high: Area under the curve, with interval.
        level: Coverage that the intervals aim at, at each point by itself.
    """

    answered: tuple[float, ...]
    risk: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    aurc: float
    aurc_low: float
    aurc_high: float
    level: float


def risk_coverage(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> RiskCoverage:
    """Risk against the share of answers that are given.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label; N at least 1.
        probability: (N, n_classes); the most probable class is the answer.
        patient_ids: (N,) patient of each scan.
        resamples: How many times the patients are drawn.
        seed: Decides the draws.
        level: Coverage that the intervals aim at.

    Raises:
        ValueError: If the shapes do not fit, or a probability is NaN or infinite.
    """
    check(task, target, probability)
    patients, patient = np.unique(patient_ids, return_inverse=True)
    ranked = _Ranked.of(task, target, probability, patient)
    shares = np.linspace(0, 1, _POINTS + 1)[1:]
    ((risk, area),) = ranked.curves(np.ones((len(patients), 1)), shares)
    drawn = [
        curve
        for weights in patient_draws(len(patients), resamples, seed)
        for curve in ranked.curves(weights, shares)
    ]
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile([row for row, _ in drawn], ends, axis=0)
    aurc_low, aurc_high = np.quantile([one for _, one in drawn], ends)
    return RiskCoverage(
        answered=tuple(map(float, shares)),
        risk=tuple(map(float, risk)),
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
        aurc=area,
        aurc_low=float(aurc_low),
        aurc_high=float(aurc_high),
        level=level,
    )


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Answers by falling confidence.

    Attributes:
        patient: (M,) patient of each answer.
        wrong: (M,) 1 where it is wrong.
        starts: (G,) where each run of equal confidence starts.
    """

    patient: NDArray[np.int64]
    wrong: Floats
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, task: Task, target: Labels, probability: Floats, patient: Labels) -> _Ranked:
        if task.is_multi_label:
            confidence = np.maximum(probability, 1 - probability).ravel()
            wrong = ((probability > 0.5) != (target == 1)).ravel()
            patient = np.repeat(patient, task.n_classes)
        else:
            confidence = probability.max(axis=1)
            wrong = probability.argmax(axis=1) != target
        order = np.argsort(-confidence, kind="stable")
        changes = np.flatnonzero(np.diff(confidence[order])) + 1
        starts = np.concatenate([[0], changes])
        return cls(patient[order], wrong[order].astype(np.float64), starts)

    def curves(self, weights: Floats, shares: Floats) -> list[tuple[Floats, float]]:
        """Risk at each share of answers, and the area, of each column of (P, R) weights."""
        given = weights[self.patient]
        lengths = np.diff(self.starts, append=len(given))
        runs = np.add.reduceat(given, self.starts, axis=0)
        errors = np.add.reduceat(given * self.wrong[:, None], self.starts, axis=0)
        rate = errors / np.where(runs > 0, runs, 1)
        lost = np.cumsum(given * np.repeat(rate, lengths, axis=0), axis=0)
        reached = np.cumsum(given, axis=0)
        total = reached[-1]
        mean = lost / np.where(reached > 0, reached, 1)
        areas = (given * mean).sum(axis=0) / total
        return [
            (
                np.interp(
                    shares * total[column],
                    np.concatenate([[0], reached[:, column]]),
                    np.concatenate([[0], lost[:, column]]),
                )
                / (shares * total[column]),
                float(areas[column]),
            )
            for column in range(weights.shape[1])
        ]
