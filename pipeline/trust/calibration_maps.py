"""Maps from probabilities to calibrated ones, and how each is fitted: plain arrays of numbers.

All but isotonic regression are linear in their parameters on the scale of logits, so that one
convex fit serves them all. With p clipped to the machine epsilon, as the log loss has it:

* ``temperature``: softmax(s log p), s = 1 / temperature (Guo et al. 2017, "On calibration of modern
  neural networks"). (s,)
* ``vector``: softmax(s_k log p_k + b_k) (ibid.). (s_1 ... s_K, b_1 ... b_K)
* ``platt``: logit q = s logit p + b (Platt 1999). (s, b)
* ``beta``: logit q = s log p - t log(1 - p) + b (Kull et al. 2017, "Beta calibration"); vector
  scaling of two classes is the same family. (s, t, b)
* ``isotonic``: the rising step function of least squares, interpolated (Zadrozny and Elkan 2002);
  of several classes one against the rest, rows then divided by their sum.

Two things keep a fit from being surer than its patients allow. Parameters have a normal prior of
standard deviation 0.25 around those that change nothing, against the likelihood of as many scans as
there are patients: so few patients move a map a little, many move it as far as they say, and
classes that are told apart without error on validation still give finite numbers. And slopes lie
in 0.01 to 100: none is negative or 0, which would turn the order of the scans or level it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from pipeline.weighted_metrics import Floats, Labels, no_and_yes

Method = Literal["none", "temperature", "platt", "beta", "vector", "isotonic"]
Numbers = tuple[tuple[float, ...], ...]

SLOPES: Final = (0.01, 100.0)
# Of 0.15, 0.25 and 0.5 the least loss on new scans where 78 patients calibrate, and as good as any
# where 98 or 524 do (docs/calibration.md).
_PRIOR_SD: Final = 0.25
_EPSILON: Final = float(np.finfo(np.float64).eps)


def logs(probability: Floats) -> Floats:
    """Logarithms of probabilities (...) clipped to the machine epsilon, as metrics do it."""
    clipped: Floats = np.log(np.clip(probability, _EPSILON, 1 - _EPSILON))
    return clipped


def slopes(method: Method, n_classes: int) -> int:
    """How many of the parameters are slopes: the first ones."""
    return {"temperature": 1, "platt": 1, "beta": 2, "vector": n_classes}[method]


def parameters(method: Method, n_classes: int) -> int:
    """How many parameters a map of logits has."""
    return {"temperature": 1, "platt": 2, "beta": 3, "vector": 2 * n_classes}[method]


def identity(method: Method, n_classes: int) -> Numbers:
    """The numbers with which the map changes nothing."""
    if method == "isotonic":
        return ((0.0, 1.0), (0.0, 1.0)) * (1 if n_classes == 2 else n_classes)
    count = slopes(method, n_classes)
    return ((1.0,) * count + (0.0,) * (parameters(method, n_classes) - count),)


def apply_map(method: Method, numbers: Sequence[Sequence[float]], probability: Floats) -> Floats:
    """(N, K) calibrated probabilities whose rows sum to 1.

    Args:
        method: Which map; not ``none``.
        numbers: Its numbers: one row of parameters, or for ``isotonic`` two rows for each class
            (of two classes for the second only): where the steps are, and how high.
        probability: (N, K) whose rows sum to 1.
    """
    if method == "isotonic":
        return _apply_steps(numbers, probability)
    scores = _design(method, logs(probability)) @ np.array(numbers[0])
    calibrated: Floats = np.exp(log_softmax(scores, axis=1))
    return calibrated


def fit_map(
    method: Method, target: Labels, probability: Floats, patient_ids: NDArray[np.str_]
) -> Numbers:
    """The numbers of a map, as ``apply_map`` takes them.

    Args:
        method: Which map; not ``none``.
        target: (N,) class indices; N is at least 1.
        probability: (N, K) whose rows sum to 1.
        patient_ids: (N,) patient of each scan.
    """
    if method == "isotonic":
        return _fit_steps(target, probability, patient_ids)
    design = _design(method, logs(probability))
    n_classes = probability.shape[1]
    unchanged = np.array(identity(method, n_classes)[0])
    bounds = [SLOPES] * slopes(method, n_classes)
    bounds += [(-np.inf, np.inf)] * (len(unchanged) - len(bounds))
    wanted = np.eye(n_classes)[target]
    variance = _PRIOR_SD**2 * len(np.unique(patient_ids))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scores = log_softmax(design @ parameters, axis=1)
        change = parameters - unchanged
        gradient = np.einsum("nkp,nk->p", design, np.exp(scores) - wanted) / len(target)
        value = -(wanted * scores).sum() / len(target) + change @ change / (2 * variance)
        return float(value), gradient + change / variance

    found = minimize(
        loss, unchanged, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-9}
    )
    return (tuple(map(float, found.x)),)


def patients_of_each_class(
    target: Labels, patient_ids: NDArray[np.str_], n_classes: int
) -> NDArray[np.int64]:
    """(K,) how many patients have a scan of each class."""
    pairs = np.unique(np.stack([np.unique(patient_ids, return_inverse=True)[1], target]), axis=1)
    return np.bincount(pairs[1], minlength=n_classes)


def _design(method: Method, z: Floats) -> Floats:
    """(N, K, P): what each parameter adds to the score of each class; ``z`` are logarithms."""
    n, k = z.shape
    if method == "temperature":
        return z[:, :, None]
    design = np.zeros((n, k, parameters(method, k)))
    if method == "vector":
        at = np.arange(k)
        design[:, at, at], design[:, at, k + at] = z, 1
    elif method == "platt":
        design[:, 1, 0], design[:, 1, 1] = z[:, 1] - z[:, 0], 1
    else:
        design[:, 1, 0], design[:, 1, 1], design[:, 1, 2] = z[:, 1], -z[:, 0], 1
    return design


def _fit_steps(target: Labels, probability: Floats, patient_ids: NDArray[np.str_]) -> Numbers:
    """No step is surer than a class without a single exception among as many patients."""
    # Imported for fitting alone: it takes a second, and a batch of scans is to begin soon.
    from sklearn.isotonic import IsotonicRegression

    rows: list[tuple[float, ...]] = []
    n_classes = probability.shape[1]
    for label in (1,) if n_classes == 2 else range(n_classes):
        truth = (target == label).astype(np.int64)
        no, yes = patients_of_each_class(truth, patient_ids, 2)
        steps = IsotonicRegression(y_min=1 / (no + 2), y_max=(yes + 1) / (yes + 2))
        steps.fit(probability[:, label], truth)
        rows += [
            tuple(map(float, steps.X_thresholds_)),
            tuple(map(float, steps.y_thresholds_)),
        ]
    return tuple(rows)


def _apply_steps(numbers: Sequence[Sequence[float]], probability: Floats) -> Floats:
    if probability.shape[1] == 2:
        yes = np.interp(probability[:, 1], numbers[0], numbers[1])
        return no_and_yes(yes)
    columns = [
        np.interp(probability[:, label], numbers[2 * label], numbers[2 * label + 1])
        for label in range(probability.shape[1])
    ]
    rows = np.stack(columns, axis=1)
    shares: Floats = rows / rows.sum(axis=1, keepdims=True)
    return shares
