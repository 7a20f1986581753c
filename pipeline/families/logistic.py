"""Logits, probabilities and L2-penalised logistic regression, for every kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logsumexp, softmax
from torch import Tensor, nn

from data_prep.task import Task
from pipeline.balance import balanced_weights, prior_shift
from pipeline.families.axes import Axes, Floats, Inputs, product

# L2 penalties to choose from, relative to the mean squared length of a standardised row of inputs,
# so that one grid serves any number of them: logistic regression's and ridge's alike.
Penalties = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
PENALTIES: Final[Penalties] = (
    *(1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3),
    *(3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6),
)


def columns(task: Task, target: NDArray[np.int64]) -> Floats:
    """Targets as the columns that logits have: one for binary (class 1), else one a class."""
    wanted = task.one_hot(target)
    return wanted[:, 1:] if task.kind == "binary" else wanted


def n_columns(task: Task) -> int:
    """How many logits a scan has."""
    return 1 if task.kind == "binary" else task.n_classes


def by_label(task: Task) -> bool:
    """Whether each column is a question of its own: one binary logit, or one for each label."""
    return task.kind == "binary" or task.is_multi_label


def balance(task: Task, wanted: Floats) -> Floats:
    """Weights (N, 1 or columns) of mean 1 under which all classes weigh the same."""
    return balanced_weights(wanted, by_label=by_label(task))


def refit_bias(task: Task, logits: Floats, wanted: Floats) -> Floats:
    """(columns,) to add to logits so that they fit unweighted targets best.

    The way back from a fit with ``balance`` to the frequencies of ``wanted``. Of a model without a
    penalty that has seen endless scans it is ``prior_shift``; of one that is held back by a penalty
    or by few rounds it is less, and the whole shift would all but forget the rare classes. The mean
    probability of each class is then its share. A class that all or no scans have is left alone:
    beside the others taken together it stays as likely as it was.
    """
    share = wanted.mean(axis=0)
    free = (share > 0) & (share < 1)
    if not by_label(task) and 0 < free.sum() < len(free):
        shift = np.zeros(len(free))
        shift[free] = refit_bias(task, logits[:, free], wanted[:, free])
        grown = logsumexp((logits + shift)[:, free], axis=1) - logsumexp(logits[:, free], axis=1)
        shift[free] -= grown.mean()
        return shift

    def objective(shift: Floats) -> tuple[float, Floats]:
        moved = logits + shift
        return loss(task, moved, wanted), loss_slope(task, moved, wanted).sum(axis=0)

    first = np.where(free, prior_shift(wanted, by_label=by_label(task)), 0.0)
    bounds = [(None, None) if column else (0.0, 0.0) for column in free]
    options = {"maxiter": 1000, "gtol": 1e-9, "ftol": 1e-15}
    found: Floats = minimize(
        objective, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    ).x
    return found


def probability(task: Task, logits: Floats) -> Floats:
    """(N, columns) logits -> (N, n_classes) probabilities."""
    if task.kind == "binary":
        return np.concatenate([expit(-logits), expit(logits)], axis=1)
    found: Floats = expit(logits) if task.is_multi_label else softmax(logits, axis=1)
    return found


def traced_probability(task: Task, logits: Tensor) -> Tensor:
    """``probability`` of logits (N, columns) in torch operations alone: (N, n_classes)."""
    if task.kind == "binary":
        return torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1)
    return logits.sigmoid() if task.is_multi_label else logits.softmax(dim=1)


def loss(task: Task, logits: Floats, wanted: Floats, weights: Floats | float = 1.0) -> float:
    """Mean cross-entropy per scan of logits against (soft) target columns, summed over labels.

    Args:
        task: What is predicted.
        logits, wanted: (N, columns).
        weights: (N, 1 or columns) of scans, or of each label of each.
    """
    if by_label(task):
        terms = np.logaddexp(0, logits) - wanted * logits
    else:
        terms = -(wanted * log_softmax(logits, axis=1))
    return float((weights * terms).sum(axis=1).mean())


def loss_slope(task: Task, logits: Floats, wanted: Floats, weights: Floats | float = 1.0) -> Floats:
    """Derivative (N, columns) of ``loss`` by the logits.

    For target columns that sum as one-hot ones do.
    """
    predicted = probability(task, logits)
    if task.kind == "binary":
        predicted = predicted[:, 1:]
    return weights * (predicted - wanted) / len(wanted)


@dataclass(frozen=True, eq=False)
class Weights:
    """Logits are ``inputs @ weight + bias``.

    Attributes:
        weight: (D, columns) or, on axes, (R, columns).
        bias: (columns,).
    """

    weight: Floats
    bias: Floats

    @classmethod
    def zeros(cls, inputs: int, n_columns: int) -> Weights:
        """A model that has seen nothing."""
        return cls(np.zeros((inputs, n_columns)), np.zeros(n_columns))

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Weights:
        """The model whose ``arrays`` these are."""
        return cls(arrays["weight"].astype(np.float64), arrays["bias"].astype(np.float64))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a family stores of it, by name."""
        return {"weight": self.weight, "bias": self.bias}

    def logits(self, inputs: Inputs) -> Floats:
        """(N, D) inputs -> (N, columns)."""
        return product(inputs, self.weight) + self.bias

    def probability(self, task: Task, inputs: Tensor) -> Tensor:
        """(N, D) inputs -> (N, n_classes) float64 probabilities, in torch operations alone."""
        weight, bias = torch.from_numpy(self.weight), torch.from_numpy(self.bias)
        return traced_probability(task, inputs.double() @ weight + bias)

    def layer(self) -> nn.Linear:
        """The same as a layer, in float32."""
        layer = nn.Linear(*self.weight.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight.T))
            layer.bias.copy_(torch.from_numpy(self.bias))
        return layer

    def shifted(self, shift: Floats) -> Weights:
        """The same model with ``shift`` (columns,) added to its logits."""
        return Weights(self.weight, self.bias + shift)

    def on_raw(self, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> Weights:
        """The same model for inputs before ``(inputs - mean) / scale``."""
        weight = self.weight / scale.astype(np.float64)[:, None]
        return Weights(weight, self.bias - mean.astype(np.float64) @ weight)


def solve(
    task: Task,
    axes: Axes,
    wanted: Floats,
    penalty: float,
    start: Weights | None,
    weights: Floats | float = 1.0,
) -> Weights:
    """Weights on the axes that minimise ``loss + penalty / 2 * ||weight||^2``; the bias is free.

    On principal axes the Hessian is almost diagonal: scaled by that diagonal, L-BFGS converges in
    a few dozen steps whatever the penalty.

    Args:
        task: Decides between logistic (binary, each label) and multinomial loss.
        axes: The training inputs.
        wanted: (N, columns) targets, or soft targets.
        penalty: Of the squared weights.
        start: Where to begin (the solution of a near penalty), or None.
        weights: As ``loss`` has them; of mean 1.
    """
    n, k = wanted.shape
    r = len(axes.squares)
    # p (1 - p) is at most 1/4, which is the curvature that the scaling assumes.
    scale = 1 / np.sqrt(0.25 * axes.squares / n + penalty)[:, None]
    bias_scale = 2.0

    def unpack(flat: Floats) -> Weights:
        return Weights(flat[: r * k].reshape(r, k) * scale, flat[r * k :] * bias_scale)

    def objective(flat: Floats) -> tuple[float, Floats]:
        now = unpack(flat)
        logits = axes.projected @ now.weight + now.bias
        value = loss(task, logits, wanted, weights) + penalty / 2 * float((now.weight**2).sum())
        inner = loss_slope(task, logits, wanted, weights)
        slope = (axes.projected.T @ inner + penalty * now.weight) * scale
        return value, np.concatenate([slope.ravel(), inner.sum(axis=0) * bias_scale])

    first = np.zeros((r + 1) * k)
    if start is not None:
        first = np.concatenate([(start.weight / scale).ravel(), start.bias / bias_scale])
    options = {"maxiter": 1000, "maxcor": 20, "gtol": 1e-7, "ftol": 1e-14}
    return unpack(minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x)
