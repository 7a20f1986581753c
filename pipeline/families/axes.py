"""Inputs turned onto their principal axes, where L2-penalised models are cheap to solve.

The best weights of an L2-penalised linear model lie in the span of the training rows, and an L2
norm does not change when the axes turn (Hastie and Tibshirani 2004, "Efficient quadratic
regularization for expression arrays"). So one decomposition, of the smaller of (scans x scans) and
(inputs x inputs), serves every penalty, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Inputs = NDArray[np.float32] | NDArray[np.float64]

_BLOCK = 4096  # rows or columns turned into float64 at a time
_FIXED_EFFORT = 1e9  # multiply-adds, as are those of each number: measured at 48 to 4,708 scans
_EFFORT_OF_A_NUMBER = 500.0
_RANK_TOLERANCE = 1e-10  # of the largest sum of squares: below lies the rounding of float32 inputs


def standard(
    x: NDArray[np.float32], floor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean (D,) and scale (D,) of each input; rows then have a mean squared length of 1.

    The deviation is at least ``floor`` times the largest: an input that hardly varies in training
    (a corner of the background) would otherwise be blown up in a scan where it does.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    deviation = x.std(axis=0, dtype=np.float64)
    varying = max(1, int((deviation > 0).sum()))
    least = floor * float(deviation.max()) or 1.0
    scale = np.maximum(deviation, least) * np.sqrt(varying)
    return mean.astype(np.float32), scale.astype(np.float32)


def product(x: Inputs, y: Floats) -> Floats:
    """``x @ y``, (n, m) by (m, k), in float64, without a float64 copy of all of ``x``."""
    out = np.empty((len(x), y.shape[1]))
    for start in range(0, len(x), _BLOCK):
        out[start : start + _BLOCK] = x[start : start + _BLOCK].astype(np.float64) @ y
    return out


@dataclass(frozen=True, eq=False)
class Axes:
    """Centred training inputs on their R principal axes.

    Attributes:
        projected: (N, R) the training inputs on the axes.
        squares: (R,) sum of squares along each axis, all above zero.
    """

    projected: Floats
    squares: Floats
    _rows: NDArray[np.float32] | None
    _turn: Floats

    @classmethod
    def of(cls, x: NDArray[np.float32]) -> Axes:
        """Turn centred inputs (N, D)."""
        n, d = x.shape
        if d <= n:
            squares, turn = _eigen(x)
            return cls(product(x, turn), squares, None, turn)
        # x x' = U S^2 U': the rows on the axes are U S, and the axes are the columns of x' U / S.
        squares, left = _eigen(x.T)
        lengths = np.sqrt(squares)
        return cls(left * lengths, squares, x, left / lengths)

    def project(self, x: NDArray[np.float32]) -> Floats:
        """Inputs (M, D), centred as the training inputs were -> (M, R) on the axes."""
        if self._rows is None:
            return product(x, self._turn)
        inner = np.zeros((len(x), len(self._rows)))
        for start in range(0, x.shape[1], _BLOCK):
            part = slice(start, start + _BLOCK)
            inner += x[:, part].astype(np.float64) @ self._rows[:, part].T.astype(np.float64)
        return inner @ self._turn

    def unproject(self, weight: Floats) -> Floats:
        """Weights (R, columns) on the axes -> the same weights (D, columns) on the inputs."""
        if self._rows is None:
            return self._turn @ weight
        return product(self._rows.T, self._turn @ weight)


def effort(n_scans: int, n_inputs: int) -> float:
    """Multiply-adds of a fit that rests on ``Axes.of``, to tell its time by; within a factor of 2.

    Products of inputs, the eigen-decomposition (LAPACK's divide and conquer takes some nine times
    the cube of the edge), and what time goes into besides: each number is read and standardised,
    and a few small optimisations do not grow.
    """
    edge = min(n_scans, n_inputs)
    return _FIXED_EFFORT + float(n_scans) * n_inputs * (edge + _EFFORT_OF_A_NUMBER) + 9.0 * edge**3


def _eigen(tall: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Positive eigenvalues of ``tall' tall``, rising, and their eigenvectors as columns."""
    gram = np.zeros((tall.shape[1], tall.shape[1]))
    for start in range(0, len(tall), _BLOCK):
        block = tall[start : start + _BLOCK].astype(np.float64)
        gram += block.T @ block
    squares, turn = np.linalg.eigh(gram)
    kept = squares > max(float(squares[-1]) * _RANK_TOLERANCE, np.finfo(np.float64).tiny)
    return squares[kept], turn[:, kept]
