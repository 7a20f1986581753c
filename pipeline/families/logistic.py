"""L2-penalised logistic regression, every penalty from one decomposition of the inputs.

The best weights lie in the span of the training rows, and an L2 norm does not change when the axes
turn (Hastie and Tibshirani 2004, "Efficient quadratic regularization for expression arrays"). So
the inputs are turned once onto their principal axes, at most ``min(scans, inputs)`` of them, and
each penalty is solved there, exactly. On those axes the Hessian is almost diagonal, and scaling by
its diagonal lets L-BFGS converge in a few dozen steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from data_prep.task import Task

Floats = NDArray[np.float64]

_BLOCK = 4096  # rows or columns turned into float64 at a time


def columns(task: Task, target: NDArray[np.int64]) -> Floats:
    """Targets as the columns that logits have: one for binary (class 1), else one a class."""
    wanted = task.one_hot(target)
    return wanted[:, 1:] if task.kind == "binary" else wanted


def probability(task: Task, logits: Floats) -> Floats:
    """(N, 1) logits of a binary task, or (N, n_classes) -> probabilities (N, n_classes)."""
    if task.kind == "binary":
        positive = expit(logits[:, 0])
        return np.stack([expit(-logits[:, 0]), positive], axis=1)
    found: Floats = expit(logits) if task.is_multi_label else softmax(logits, axis=1)
    return found


def loss(task: Task, logits: Floats, wanted: Floats) -> float:
    """Mean cross-entropy per scan of logits against (soft) target columns, summed over labels."""
    if task.kind == "binary" or task.is_multi_label:
        return float((np.logaddexp(0, logits) - wanted * logits).sum(axis=1).mean())
    return float(-(wanted * log_softmax(logits, axis=1)).sum(axis=1).mean())


@dataclass(frozen=True)
class Axes:
    """Inputs on their principal axes.

    Attributes:
        projected: (N, R) inputs on the axes.
        squares: (R,) sum of squares along each axis.
        back: (D, R), so that weights on the axes ``a`` are ``back @ a`` on the inputs.
    """

    projected: Floats
    squares: Floats
    back: Floats

    @classmethod
    def of(cls, x: NDArray[np.float32]) -> Axes:
        """Turn centred inputs (N, D) onto their principal axes."""
        n, d = x.shape
        gram = np.zeros((min(n, d), min(n, d)))
        wide = x.T if d >= n else x  # (longer, shorter)
        for start in range(0, len(wide), _BLOCK):
            block = wide[start : start + _BLOCK].astype(np.float64)
            gram += block.T @ block
        squares, turned = np.linalg.eigh(gram)
        kept = squares > squares[-1] * 1e-10
        squares, turned = squares[kept], turned[:, kept]
        if (
            d >= n
        ):  # gram = X X': rows are turned * sqrt(squares), axes are X' turned / sqrt(squares)
            lengths = np.sqrt(squares)
            back = product(x.T, turned / lengths)
            return cls(projected=turned * lengths, squares=squares, back=back)
        return cls(projected=product(x, turned), squares=squares, back=turned)


def product(x: NDArray[np.float32] | Floats, y: Floats) -> Floats:
    """``x @ y`` in float64, without a float64 copy of all of ``x``."""
    out = np.empty((len(x), y.shape[1]))
    for start in range(0, len(x), _BLOCK):
        out[start : start + _BLOCK] = x[start : start + _BLOCK].astype(np.float64) @ y
    return out


@dataclass(frozen=True)
class Weights:
    """Logits are ``inputs @ weight + bias``.

    Attributes:
        weight: (D, columns) or, on axes, (R, columns).
        bias: (columns,).
    """

    weight: Floats
    bias: Floats

    def logits(self, inputs: NDArray[np.float32] | Floats) -> Floats:
        """(N, D) inputs -> (N, columns)."""
        return product(inputs, self.weight) + self.bias


def solve(task: Task, axes: Axes, wanted: Floats, penalty: float, start: Weights | None) -> Weights:
    """Weights on the axes that minimise ``loss + penalty / 2 * ||weight||^2``.

    Args:
        task: Decides between logistic and multinomial loss.
        axes: The training inputs.
        wanted: (N, columns) targets, or soft targets.
        penalty: Of the squared weights; the bias is free.
        start: Where to begin (the solution of a near penalty), or None.
    """
    n, k = wanted.shape
    r = len(axes.squares)
    # p (1 - p) is at most 1/4: the curvature that the scaling assumes.
    scale = 1 / np.sqrt(0.25 * axes.squares / n + penalty)[:, None]
    bias_scale = 2.0

    def unpack(flat: Floats) -> Weights:
        return Weights(flat[: r * k].reshape(r, k) * scale, flat[r * k :] * bias_scale)

    def objective(flat: Floats) -> tuple[float, Floats]:
        now = unpack(flat)
        logits = axes.projected @ now.weight + now.bias  # a hot line: no copy
        value = loss(task, logits, wanted) + penalty / 2 * float((now.weight**2).sum())
        inner = (_predicted(task, logits) - wanted) / n
        slope = (axes.projected.T @ inner + penalty * now.weight) * scale
        return value, np.concatenate([slope.ravel(), inner.sum(axis=0) * bias_scale])

    first = np.zeros((r + 1) * k)
    if start is not None:
        first = np.concatenate([(start.weight / scale).ravel(), start.bias / bias_scale])
    options = {"maxiter": 1000, "maxcor": 20, "gtol": 1e-7, "ftol": 1e-14}
    return unpack(minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x)


def _predicted(task: Task, logits: Floats) -> Floats:
    """Probability of each column (class 1 only for binary)."""
    return probability(task, logits)[:, 1:] if task.kind == "binary" else probability(task, logits)
