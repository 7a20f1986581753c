"""The evaluation of a classifier on test scans: every metric, each with its interval.

Metrics are defined in ``counted``, ``ranked``, ``calibration_error`` and ``pipeline.metrics``; how
often their intervals hold the truth is measured by ``benchmarks/interval_coverage.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.delong import auc_parts
from pipeline.evaluation.decision import Decision
from pipeline.evaluation.measures import Scans
from pipeline.evaluation.resampled import Plan, Told, resampled, resampled_probabilities
from pipeline.evaluation.results import ClassScores, Evaluation, Score, Scores, SubgroupScores
from pipeline.evaluation.subgroups import FEWEST_PATIENTS, Group, divisions
from pipeline.metrics import score
from pipeline.weighted_metrics import Floats, Labels, no_and_yes

# Metrics that no decision takes part in.
_UNDECIDED: Final = ("auc", "brier", "log_loss")
_ROUNDING: Final = 1e-6
_ONE: Final = Task(kind="binary", class_names=("the rest", "it"))


def evaluate(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    decision: Decision,
    *,
    subgroups: Mapping[str, NDArray[np.str_]] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    at: float = 0.9,
    known: Evaluation | None = None,
) -> Evaluation:
    """Score a classifier on scans that it has never seen.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label; N at least 1.
        probability: (N, n_classes), as a user would be given them.
        patient_ids: (N,) patient of each scan.
        decision: From probabilities to decisions.
        subgroups: Attribute -> (N,) text, "" where unknown; numbers of many values are divided at
            their quartiles. Groups of fewer than 10 patients are one, ``other``.
        resamples: How many times the patients are drawn.
        seed: Decides the draws.
        level: Coverage that intervals aim at.
        at: Specificity that is held fixed for ``sensitivity_at_specificity``, and the reverse.
        known: An evaluation of what may be the same scans: if it is, and was drawn in the same way,
            it is taken, and only groups that it does not have are scored.

    Raises:
        ValueError: If the shapes do not fit, or a probability is NaN or infinite.
    """
    _check(task, target, probability, patient_ids)
    scans = Scans(
        task,
        target,
        probability,
        decision.decide(task, probability),
        np.unique(patient_ids, return_inverse=True)[1],
    )
    plan = Plan(resamples, seed, level, at)
    if known is None or not _drawn_alike(known, plan, decision) or not _is_of(known, scans):
        known = _whole(scans, plan, decision)
    of_group = {(group.attribute, group.group): group for group in known.subgroups}
    groups = []
    for group in divisions(subgroups or {}, scans.patient):
        chosen, found = scans.of(group.chosen), of_group.get((group.attribute, group.name))
        if found is None or found.also != group.also or not _is_of(found, chosen):
            found = _subgroup(group, chosen, plan)
        groups.append(found)
    return known.model_copy(update={"subgroups": tuple(groups)})


def evaluate_probabilities(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Score]:
    """Brier score, log loss and calibration error as ``evaluate`` has them, and nothing else.

    Args:
        task, target, probability, patient_ids, resamples, seed, level: As in ``evaluate``.

    Raises:
        ValueError: As ``evaluate``.
    """
    _check(task, target, probability, patient_ids)
    decided = Decision().decide(task, probability)
    patient = np.unique(patient_ids, return_inverse=True)[1]
    scans = Scans(task, target, probability, decided, patient)
    return resampled_probabilities(scans, Plan(resamples, seed, level, at=0.9)).metrics


def _whole(scans: Scans, plan: Plan, decision: Decision) -> Evaluation:
    """All scans together, and each class of them."""
    whole, classes = resampled(scans, plan)
    return Evaluation(
        patients=scans.n_patients,
        scans=len(scans.patient),
        metrics=whole.metrics,
        untold=whole.untold,
        delong=_delong(scans.task, scans.target, scans.probability, scans.patient, plan.level),
        resamples=plan.resamples,
        level=plan.level,
        seed=plan.seed,
        at=plan.at,
        decision=decision,
        classes=tuple(_classes(scans, classes, plan.level)),
    )


def _drawn_alike(known: Evaluation, plan: Plan, decision: Decision) -> bool:
    found = Plan(known.resamples, known.seed, known.level, known.at)
    return found == plan and known.decision == decision


def _is_of(known: Scores, scans: Scans) -> bool:
    """Whether scores are those of these scans, to what probabilities differ by between batches."""
    if (known.patients, known.scans) != (scans.n_patients, len(scans.patient)):
        return False
    values = score(scans.task, scans.target, scans.probability)
    told = {name: known.metrics[name].value for name in _UNDECIDED if name in known.metrics}
    same = [abs(values[name] - value) <= _ROUNDING for name, value in told.items()]
    return bool(same) and all(same)


def _classes(scans: Scans, told: Mapping[str, Told], level: float) -> Iterator[ClassScores]:
    for name, truth, p, _ in scans.questions():
        against = no_and_yes(p)
        yield ClassScores(
            name=name,
            with_it=len(np.unique(scans.patient[truth])),
            patients=scans.n_patients,
            scans=len(truth),
            metrics=told[name].metrics,
            untold=told[name].untold,
            delong=_delong(_ONE, truth.astype(np.int64), against, scans.patient, level),
        )


def _subgroup(group: Group, scans: Scans, plan: Plan) -> SubgroupScores:
    found = SubgroupScores(
        attribute=group.attribute,
        group=group.name,
        also=group.also,
        too_few=scans.n_patients < FEWEST_PATIENTS,
        patients=scans.n_patients,
        scans=len(scans.patient),
        metrics={},
    )
    if found.too_few:
        return found
    whole, _ = resampled(scans, plan)
    delong = _delong(scans.task, scans.target, scans.probability, scans.patient, plan.level)
    changes = {"metrics": whole.metrics, "untold": whole.untold, "delong": delong}
    return found.model_copy(update=changes)


def _delong(
    task: Task, target: Labels, probability: Floats, patient: Labels, level: float
) -> Score | None:
    """None where a class is missing, or is of one patient, or the AUC is 0 or 1."""
    parts = auc_parts(task, target, probability, patient.astype(np.str_))
    if not math.isfinite(parts.variance) or not parts.variance > 0:
        return None
    low, high = parts.interval(level)
    return Score(value=parts.value, low=low, high=high, method="delong")


def _check(task: Task, target: Labels, probability: Floats, patient_ids: NDArray[np.str_]) -> None:
    rows = (len(target), task.n_classes)
    expected = rows if task.is_multi_label else rows[:1]
    if probability.shape != rows or target.shape != expected or patient_ids.shape != rows[:1]:
        raise ValueError(
            f"target {target.shape}, probability {probability.shape} and patients "
            f"{patient_ids.shape} do not fit a {task.kind} task of {task.n_classes} classes"
        )
    if not len(target):
        raise ValueError("there is no scan to score")
    if not np.isfinite(probability).all():
        raise ValueError("a probability is NaN or infinite")
