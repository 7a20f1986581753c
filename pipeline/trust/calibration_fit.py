"""Calibration learnt from the validation scans, and which method of it.

The method is chosen by log loss, cross-validated over patients: five folds, no patient in two of
them, each class dealt out evenly. To leave the probabilities as they are is a candidate as well.
The lowest loss is taken, of equal ones the simplest method's. That is safe with few patients
because maps are drawn towards changing nothing (``calibration_maps``): what few patients say by
chance then does little harm, while a rule that keeps to the simplest method near the best leaves
errors that are there (docs/calibration.md has the figures). Isotonic regression is not drawn, and
makes ties: it is taken only where it is better than the best other by more than one standard error
of the difference between patients, whose losses rise and fall together.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.metrics import check
from pipeline.trust.calibration import Calibration, check_method, methods_for
from pipeline.trust.calibration_maps import (
    Method,
    Numbers,
    apply_map,
    fit_map,
    identity,
    logs,
    patients_of_each_class,
)
from pipeline.trust.patient_folds import patient_folds
from pipeline.weighted_metrics import Floats, Labels, no_and_yes

FOLDS: Final = 5
# Fewer points and isotonic regression overfits (Niculescu-Mizil and Caruana 2005, figure 9).
ISOTONIC_PATIENTS: Final = 1000


def fit_calibration(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    *,
    method: Method | Literal["auto"] = "auto",
    seed: int = 0,
) -> Calibration:
    """Learn what to do to probabilities from validation scans.

    A class without a validation scan has nothing to be calibrated by: probabilities then stay as
    they are (of a multi-label task, those of the labels that are always or never true).

    Args:
        task: What is predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        probability: (N, n_classes) of the validation scans.
        patient_ids: (N,) patient of each scan.
        method: Which, or ``auto`` to choose.
        seed: Decides the folds.

    Raises:
        TrustError: ``trust.calibration_method`` where the method is not one for the task.
        ValueError: If the shapes do not fit, or a probability is NaN or infinite.
    """
    check(task, target, probability)
    rows = np.asarray(probability, dtype=np.float64)
    candidates: dict[Method, float] = {}
    if method == "auto":
        method, candidates = _chosen(task, target, rows, patient_ids, seed)
    else:
        check_method(method, task)
    numbers = _fit(task, method, target, rows, patient_ids)
    return Calibration(method=method if numbers else "none", numbers=numbers, candidates=candidates)


def cross_fitted(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    *,
    method: Method | Literal["auto"] = "auto",
    seed: int = 0,
) -> Floats:
    """Validation probabilities, each calibrated by what was learnt from other patients.

    A calibration looks better on the scans that it was fitted on than it is; these probabilities
    look as those of new patients do, for a diagram or an error of the validation scans.

    Args:
        task, target, probability, patient_ids, method, seed: As in ``fit_calibration``; with
            ``auto`` the method is the one that it chooses.

    Returns:
        (N, n_classes) float64.

    Raises:
        TrustError, ValueError: As ``fit_calibration``.
    """
    chosen = fit_calibration(task, target, probability, patient_ids, method=method, seed=seed)
    rows = np.asarray(probability, dtype=np.float64)
    return _out_of_fold(task, chosen.method, target, rows, patient_ids, seed)


def _chosen(
    task: Task, target: Labels, probability: Floats, patient_ids: NDArray[np.str_], seed: int
) -> tuple[Method, dict[Method, float]]:
    """The method with the lowest loss, and the loss of each."""
    patients, patient = np.unique(patient_ids, return_inverse=True)
    if len(patients) < 2 * FOLDS:
        return "none", {}
    known = [
        method
        for method in methods_for(task)
        if method != "isotonic" or len(patients) >= ISOTONIC_PATIENTS
    ]
    losses = {}
    for method in known:
        left_out = _out_of_fold(task, method, target, probability, patient_ids, seed)
        losses[method] = np.bincount(patient, _losses(task, target, left_out)) / len(target)
    candidates = {method: float(loss.sum()) for method, loss in losses.items()}
    others = [method for method in known if method != "isotonic"]
    best: Method = min(others, key=lambda method: candidates[method])
    if "isotonic" in known:
        gain = losses[best] - losses["isotonic"]
        if gain.sum() > np.sqrt(len(patients)) * gain.std(ddof=1):
            best = "isotonic"
    return best, candidates


def _out_of_fold(
    task: Task,
    method: Method,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    seed: int,
) -> Floats:
    if task.is_multi_label:
        binary = Task(kind="binary", class_names=("no", "yes"))
        columns = [
            _out_of_fold(binary, method, truth, no_and_yes(p), patient_ids, seed)[:, 1]
            for truth, p in zip(target.T, probability.T, strict=True)
        ]
        return np.stack(columns, axis=1)
    calibrated = probability.copy()
    fold = patient_folds(target, patient_ids, FOLDS, seed)
    for number in range(FOLDS):
        rest, here = fold != number, fold == number
        numbers = _fit(task, method, target[rest], probability[rest], patient_ids[rest])
        if numbers:
            calibrated[here] = apply_map(method, numbers, probability[here])
    return calibrated


def _fit(
    task: Task,
    method: Method,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
) -> Numbers:
    """The numbers of a method; none where there is nothing to learn from."""
    if method == "none":
        return ()
    if not task.is_multi_label:
        if not patients_of_each_class(target, patient_ids, task.n_classes).all():
            return ()
        return fit_map(method, target, probability, patient_ids)
    numbers: list[tuple[float, ...]] = []
    for truth, p in zip(target.T, probability.T, strict=True):
        if patients_of_each_class(truth, patient_ids, 2).all():
            numbers += fit_map(method, truth, no_and_yes(p), patient_ids)
        else:
            numbers += identity(method, 2)
    return tuple(numbers)


def _losses(task: Task, target: Labels, probability: Floats) -> Floats:
    """(N,) log loss of each scan; mean over labels for multi-label."""
    if task.is_multi_label:
        right = np.where(target == 1, logs(probability), logs(1 - probability))
        loss: Floats = -right.mean(axis=1)
        return loss
    return -logs(probability)[np.arange(len(target)), target]
