"""Ridge regression on one-hot targets as a classifier, its penalty by leaving patients out.

All penalties come from one decomposition, and leaving a patient out needs no refit: with the hat
matrix H, the residual of the left-out scans g is (I - H_gg)^-1 e_g (Allen 1974, "PRESS", for one
scan; Cook and Weisberg 1982 for a group). It is exact for rows and weights as they are
given: scales of features and shares of classes are those of all training scans, also of those that
are left out. Whole patients are left out, because a scan is no test of a model that saw the same
patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from data_prep.progress import Progress, silent
from data_prep.task import Task
from pipeline.balance import ClassWeights
from pipeline.dataset import Scans
from pipeline.families import logistic
from pipeline.families.axes import Axes, Floats, product, standard
from pipeline.families.base import FamilyError
from pipeline.families.logistic import Penalties, Weights


@dataclass(frozen=True, eq=False)
class Classifier:
    """A ridge classifier.

    Attributes:
        weights: Features, as they came, to logits.
        penalty: The chosen one.
        left_out_error: Mean squared error over left-out patients.
    """

    weights: Weights
    penalty: float
    left_out_error: float

    def chosen(self) -> dict[str, float]:
        """What was chosen, as ``Fit.chosen`` has it."""
        return {"penalty": self.penalty, "left_out_error": self.left_out_error}


class RidgeParams(Protocol):
    """What a family's parameters say of its ridge classifier, as ``fit_classifier`` takes it."""

    @property
    def penalties(self) -> Penalties: ...

    @property
    def class_weights(self) -> ClassWeights: ...


def fit_scans(
    task: Task,
    params: RidgeParams,
    features: NDArray[np.float32],
    train: Scans,
    progress: Progress = silent,
) -> Classifier:
    """The classifier of a family that has nothing else to fit.

    Args:
        task: What to predict.
        params: The family's.
        features: (N, D) of the training scans.
        train: Those scans.
        progress: Told (0, 1), and (1, 1) in the end.

    Raises:
        FamilyError: As ``fit_classifier``.
    """
    progress(0, 1)
    fitted = fit_classifier(
        task, features, train.target, train.patient_ids, params.penalties, params.class_weights
    )
    progress(1, 1)
    return fitted


def fit_classifier(
    task: Task,
    features: NDArray[np.float32],
    target: NDArray[np.int64],
    patient_ids: NDArray[np.str_],
    penalties: Sequence[float],
    class_weights: ClassWeights = "none",
) -> Classifier:
    """Standardise, solve for every penalty, and calibrate; neither needs validation scans.

    Args:
        task: What to predict.
        features: (N, D) of the training scans.
        target: (N,) class indices, or (N, L) 0/1 for multi-label.
        patient_ids: (N,) patient of each training scan.
        penalties: To choose from, relative to the mean squared length of a standardised row.
        class_weights: ``balanced``: each class weighs the same in the regression and in the choice
            of its penalty; labels, whose weights differ, get a regression each, and ``penalty`` is
            the geometric mean of theirs. The calibration is not weighted, so that probabilities
            are of the training frequencies.

    Raises:
        FamilyError: ``family.one_patient``: nobody can be left out.
    """
    if len(np.unique(patient_ids)) < 2:
        raise FamilyError(
            "family.one_patient",
            f"all {len(features)} training scans are of one patient",
            fix="add patients: the ridge penalty is chosen by leaving patients out",
        )
    wanted = logistic.columns(task, target)
    if class_weights == "none":
        return _fit(task, features, wanted, patient_ids, penalties, np.ones(len(wanted)))
    weights = logistic.balance(task, wanted)
    if weights.shape[1] == 1:
        return _fit(task, features, wanted, patient_ids, penalties, weights[:, 0])
    return _joined(
        [
            _fit(task, features, wanted[:, [label]], patient_ids, penalties, weights[:, label])
            for label in range(task.n_classes)
        ]
    )


def _fit(
    task: Task,
    features: NDArray[np.float32],
    wanted: Floats,
    patient_ids: NDArray[np.str_],
    penalties: Sequence[float],
    weights: Floats,
) -> Classifier:
    """One regression for all columns; scans have weights (N,) of mean 1."""
    mean, scale = standard(features, floor=1e-3)
    rows = (features - mean) / scale
    if weights.min() != weights.max():
        centre = product(rows.T, weights[:, None])[:, 0] / len(rows)
        rows = ((rows - centre) * np.sqrt(weights)[:, None]).astype(np.float32)
        mean = (mean + centre * scale).astype(np.float32)
    axes = Axes.of(rows)
    solved = solve(axes, wanted, patient_ids, penalties, weights)
    to_logits = calibrate(task, solved.left_out, wanted)
    on_features = Weights(
        axes.unproject(solved.weights.weight @ to_logits.weight),
        solved.weights.bias @ to_logits.weight + to_logits.bias,
    )
    return Classifier(on_features.on_raw(mean, scale), solved.penalty, solved.left_out_error)


def _joined(labels: Sequence[Classifier]) -> Classifier:
    return Classifier(
        Weights(
            np.concatenate([label.weights.weight for label in labels], axis=1),
            np.concatenate([label.weights.bias for label in labels]),
        ),
        float(np.exp(np.mean([np.log(label.penalty) for label in labels]))),
        float(np.mean([label.left_out_error for label in labels])),
    )


@dataclass(frozen=True, eq=False)
class Ridge:
    """A solved ridge regression.

    Attributes:
        weights: On the axes; their outputs are scores, not yet logits.
        penalty: The chosen one.
        left_out: (N, columns) score of each training scan by the model fitted without its patient.
        left_out_error: Mean squared error of ``left_out``.
    """

    weights: Weights
    penalty: float
    left_out: Floats
    left_out_error: float


def solve(
    axes: Axes,
    wanted: Floats,
    patient_ids: NDArray[np.str_],
    penalties: Sequence[float],
    weights: Floats | float = 1.0,
) -> Ridge:
    """Minimise ``mean squared error + penalty * ||weight||^2`` (bias free), for the best penalty.

    With weights this is the plain problem for rows and targets times their square roots, in whose
    place the free bias has a column of those roots.

    Args:
        axes: The training inputs, centred by their weighted mean and times the weights' roots.
        wanted: (N, columns) targets.
        patient_ids: (N,) patient of each training scan.
        penalties: To choose from by the left-out squared error; of equals, the strongest.
        weights: (N,) of the scans in all mean squared errors, of mean 1.
    """
    n = len(wanted)
    root = np.sqrt(np.broadcast_to(weights, n))[:, None]
    mean = (root**2 * wanted).mean(axis=0)
    rows = axes.projected / np.sqrt(axes.squares)  # orthonormal columns
    aim = root * (wanted - mean)
    along = rows.T @ aim
    groups = _groups(patient_ids)
    best: Ridge | None = None
    for penalty in sorted(penalties, reverse=True):
        shrunk = axes.squares / (axes.squares + n * penalty)
        residual = aim - rows @ (shrunk[:, None] * along)
        left_out = wanted - _left_out_residual(rows, shrunk, root, residual, groups) / root
        error = float(((root * (wanted - left_out)) ** 2).mean())
        if best is None or error < best.left_out_error:
            weight = (shrunk / np.sqrt(axes.squares))[:, None] * along
            best = Ridge(Weights(weight, mean), penalty, left_out, error)
    assert best is not None  # a config has at least one penalty
    return best


def _groups(patient_ids: NDArray[np.str_]) -> list[NDArray[np.int64]]:
    """Scans of each patient that has several; patients of one scan need no list."""
    _, patient, count = np.unique(patient_ids, return_inverse=True, return_counts=True)
    return [np.flatnonzero(patient == p) for p in np.flatnonzero(count > 1)]


def _left_out_residual(
    rows: Floats, shrunk: Floats, root: Floats, residual: Floats, groups: list[NDArray[np.int64]]
) -> Floats:
    n = len(residual)
    # The diagonal of H; the first term (1/n without weights) is the free bias's share.
    leverage = root[:, 0] ** 2 / n + (rows**2) @ shrunk
    left_out = residual / (1 - leverage)[:, None]
    for group in groups:
        hat = root[group] @ root[group].T / n + (rows[group] * shrunk) @ rows[group].T
        left_out[group] = np.linalg.solve(np.eye(len(group)) - hat, residual[group])
    return left_out


def calibrate(task: Task, scores: Floats, wanted: Floats) -> Weights:
    """Slope and bias that turn scores into logits, by the log loss of left-out scores.

    Platt's scaling (Platt 1999) for binary tasks and each label; for several classes one slope for
    all (a temperature) and one bias a class. Targets are smoothed as Platt has it, (N_k + 1) /
    (N_k + K), so that a few scans that are perfectly separated do not give endless confidence. The
    slope stays positive: the order of the scores is ridge's, not the calibration's.

    Returns:
        ``weight`` (1 or columns, columns) is the diagonal matrix of slopes.
    """
    k = wanted.shape[1]
    soft = _smoothed(task, wanted)
    shared = not logistic.by_label(task)
    n_slopes = 1 if shared else k

    def objective(flat: Floats) -> tuple[float, Floats]:
        logits = scores * flat[:n_slopes] + flat[n_slopes:]
        inner = logistic.loss_slope(task, logits, soft)
        slopes = (scores * inner).sum(axis=0)
        by_slope = slopes.sum(keepdims=True) if shared else slopes
        return logistic.loss(task, logits, soft), np.concatenate([by_slope, inner.sum(axis=0)])

    first = np.concatenate([np.ones(n_slopes), np.zeros(k)])
    bounds = [(1e-3, None)] * n_slopes + [(None, None)] * k
    options = {"maxiter": 1000, "gtol": 1e-8, "ftol": 1e-14}
    found = minimize(
        objective, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    ).x
    return Weights(np.diag(np.broadcast_to(found[:n_slopes], k)), found[n_slopes:])


def _smoothed(task: Task, wanted: Floats) -> Floats:
    if logistic.by_label(task):
        positive = wanted.sum(axis=0)
        negative = len(wanted) - positive
        soft: Floats = np.where(wanted == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
        return soft
    own = wanted.sum(axis=0)[wanted.argmax(axis=1)][:, None]  # N_k of each scan's own class
    return np.asarray((wanted * own + 1) / (own + wanted.shape[1]))
