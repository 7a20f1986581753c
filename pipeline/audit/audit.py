"""The invariance audit: what each shift costs a model, with its recipe and without.

Everything is compared with what the model says of the scan as it is, prepared by its recipe: how
much worse the score gets (paired by patient), and how many predicted classes flip.

A danger is named by one rule: of each kind, the realistic amount (``sweep``) that costs most,
where the loss is significant by Holm's rule over all realistic amounts and at least ``LEAST_LOSS``;
of these kinds the three that cost most, ties (to three decimals) by the share of flips. Where fewer
are beyond chance, what costs most next is told as well, and that chance explains it. A flip and a
misread orientation count as one kind: the voxels end up in the same places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from data_prep.errors import CohortError
from data_prep.task import Task
from pipeline.audit.answers import Answers
from pipeline.audit.sweep import Step
from pipeline.dataset import targets
from pipeline.metrics import higher_is_better, patient_draws, resample, score
from pipeline.serving.answers import PROBABILITY_DECIMALS
from pipeline.study.mean_gain import holm

Arm = Literal["with", "without", "no normalisation"]
Floats = NDArray[np.float64]

SHOWN_DANGERS: Final = 3
# What costs less is no danger, however certain it is.
LEAST_LOSS: Final = 0.005


@dataclass(frozen=True)
class Estimate:
    """A number and its interval over test patients."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AuditRow:
    """One step of the sweep in one arm.

    Attributes:
        step: What was done to the scans; None: nothing.
        arm: ``with`` the model's recipe, ``without`` it (only the shape fits), or with all of it
            but the intensity step.
        score: The metric.
        loss: By how much the score is worse than that of unshifted scans with the recipe.
        p: Two-sided, of no loss and no gain: normal, with the bootstrap's standard error.
        p_holm: Adjusted for all realistic steps of the arm; NaN for others.
        flips: Share of scans whose predicted class is another than of the unshifted scan with the
            recipe.
    """

    step: Step | None
    arm: Arm
    score: Estimate
    loss: Estimate
    p: float
    p_holm: float
    flips: Estimate

    @property
    def realistic(self) -> bool:
        """Whether the step is within the realistic range of its kind."""
        return self.step is not None and self.step.realistic


@dataclass(frozen=True)
class Audit:
    """All that an audit found.

    Attributes:
        metric: Of ``pipeline.metrics.METRICS``.
        level: Coverage of the intervals, and 1 less the level of significance.
        resamples: Of the bootstrap.
        scans, patients: How many were answered.
        base: Nothing shifted, with the recipe.
        bare: Nothing shifted, without the recipe.
        unnormalised: Nothing shifted, the intensity step left out.
        rows: Every step with the recipe, then without it, in the order of the sweep.
    """

    metric: str
    level: float
    resamples: int
    scans: int
    patients: int
    base: AuditRow
    bare: AuditRow
    unnormalised: AuditRow
    rows: tuple[AuditRow, ...]

    def arm(self, arm: Arm) -> list[AuditRow]:
        """The shifted rows of one arm, in the order of the sweep."""
        return [row for row in self.rows if row.arm == arm]

    def significant(self, row: AuditRow) -> bool:
        """Whether a realistic step costs score beyond what chance among patients explains."""
        return row.loss.value > 0 and row.p_holm <= 1 - self.level

    def dangers(self) -> list[AuditRow]:
        """At most three rows of different kinds, with the recipe, the worst first."""
        return self._worst(self.significant)[:SHOWN_DANGERS]

    def suspects(self) -> list[AuditRow]:
        """What of other kinds costs most, though chance may be why: with dangers up to three."""
        dangers = self.dangers()
        known = {_kind(row) for row in dangers}
        rows = self._worst(lambda row: row.realistic and not self.significant(row))
        return [row for row in rows if _kind(row) not in known][: SHOWN_DANGERS - len(dangers)]

    def _worst(self, counts: Callable[[AuditRow], bool]) -> list[AuditRow]:
        """The worst row of each kind that costs anything worth telling, the worst first."""
        worst: dict[str, AuditRow] = {}
        for row in self.arm("with"):
            if row.step and row.loss.value >= LEAST_LOSS and counts(row):
                known = worst.get(_kind(row))
                if known is None or _badness(row) > _badness(known):
                    worst[_kind(row)] = row
        return sorted(worst.values(), key=_badness, reverse=True)


def _kind(row: AuditRow) -> str:
    """An orientation that is misread is a flip or a turn."""
    kind = row.step.kind if row.step else ""
    return "flip" if kind == "orientation" else kind


def _badness(row: AuditRow) -> tuple[float, float]:
    return round(row.loss.value, 3), row.flips.value


def judge(
    answers: Answers,
    task: Task,
    metric: str = "auc",
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Audit:
    """Score every step against the labels.

    Args:
        answers: What the model said.
        task: The model's.
        metric: Of ``pipeline.metrics.METRICS``.
        resamples: How many times the patients are drawn.
        seed: Decides the draws, the same for every step.
        level: Coverage of the intervals.

    Raises:
        ConfigError: ``config.unknown_metric``.
        CohortError: ``audit.undefined_score``.
    """
    judged = _Judge(answers, task, metric, resamples, seed, level)
    arms: tuple[Arm, Arm] = ("with", "without")
    rows = [
        row
        for arm, shifted in zip(arms, answers.shifted, strict=True)
        for row in _adjusted(
            judged.row(step, arm, found) for step, found in zip(answers.steps, shifted, strict=True)
        )
    ]
    return Audit(
        metric=metric,
        level=level,
        resamples=resamples,
        scans=len(answers.records),
        patients=len({record.patient_id for record in answers.records}),
        base=judged.row(None, "with", answers.unshifted[0]),
        bare=judged.row(None, "without", answers.unshifted[1]),
        unnormalised=judged.row(None, "no normalisation", answers.unnormalised),
        rows=tuple(rows),
    )


class _Judge:
    """Scores answers, all with the same draws of patients."""

    def __init__(
        self, answers: Answers, task: Task, metric: str, resamples: int, seed: int, level: float
    ) -> None:
        self._task, self._metric, self._level = task, metric, level
        self._resamples, self._seed = resamples, seed
        self._sign = 1 if higher_is_better(metric) else -1
        self._target = targets(task, [task.encode(r.labels) for r in answers.records])
        self._patients = np.array([r.patient_id for r in answers.records], dtype=np.str_)
        names, groups = np.unique(self._patients, return_inverse=True)
        self._groups, self._n_patients = groups, len(names)
        draws = patient_draws(len(names), resamples, seed)
        self._weights = np.concatenate(list(draws), axis=1)
        base = answers.unshifted[0]
        self._base, self._base_drawn = self._score(base)
        self._decided = _decisions(task, base)
        if math.isnan(self._base):
            raise CohortError(
                "audit.undefined_score",
                f"{metric} of the {len(answers.records)} test scans is undefined: "
                f"{_counted(task, answers)}",
                fix="audit on a cohort whose test split holds every class, or choose another "
                "--metric",
            )

    def row(self, step: Step | None, arm: Arm, probability: Floats) -> AuditRow:
        value, drawn = self._score(probability)
        losses = self._sign * (self._base_drawn - drawn)
        loss = self._sign * (self._base - value)
        flipped = (_decisions(self._task, probability) != self._decided).any(axis=1)
        return AuditRow(
            step=step,
            arm=arm,
            score=self._estimate(value, drawn),
            loss=self._estimate(loss, losses),
            p=_p_value(loss, losses),
            p_holm=math.nan,
            flips=self._estimate(float(flipped.mean()), self._mean_drawn(flipped)),
        )

    def _score(self, probability: Floats) -> tuple[float, Floats]:
        value = score(self._task, self._target, probability)[self._metric]
        drawn = resample(
            self._task,
            self._target,
            probability,
            self._patients,
            names=[self._metric],
            resamples=self._resamples,
            seed=self._seed,
        )
        return value, drawn[self._metric]

    def _mean_drawn(self, values: NDArray[np.bool_]) -> Floats:
        sums = np.bincount(self._groups, weights=values, minlength=self._n_patients)
        counts = np.bincount(self._groups, minlength=self._n_patients)
        drawn: Floats = (sums @ self._weights) / (counts @ self._weights)
        return drawn

    def _estimate(self, value: float, drawn: Floats) -> Estimate:
        defined = drawn[~np.isnan(drawn)]
        if not defined.size:
            return Estimate(value, math.nan, math.nan)
        low, high = np.quantile(defined, [(1 - self._level) / 2, (1 + self._level) / 2])
        return Estimate(value, float(low), float(high))


def _decisions(task: Task, probability: Floats) -> NDArray[np.int64]:
    """(N, 1) class or (N, L) labels, read off the rounded probabilities as ``predict`` does."""
    rounded = np.round(probability, PROBABILITY_DECIMALS)
    if task.is_multi_label:
        return (rounded > 0.5).astype(np.int64)
    classes: NDArray[np.int64] = rounded.argmax(axis=1)[:, None]
    return classes


def _p_value(loss: float, drawn: Floats) -> float:
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < 2:
        return math.nan
    error = float(defined.std(ddof=1))
    if error == 0:  # every draw of patients says the same
        return 1.0 if loss == 0 else 0.0
    return float(2 * norm.sf(abs(loss) / error))


def _adjusted(rows: Iterable[AuditRow]) -> list[AuditRow]:
    found = list(rows)
    tested = [row.p if row.realistic else math.nan for row in found]
    return [replace(row, p_holm=p) for row, p in zip(found, holm(tested), strict=True)]


def _counted(task: Task, answers: Answers) -> str:
    labels = [name for record in answers.records for name in record.labels]
    return ", ".join(f"{labels.count(name)} {name}" for name in task.class_names)
