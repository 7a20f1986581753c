"""error(n) = a + b n^-c: the law that learning curves are fitted with, many curves at once.

a is the error that no number of patients removes, b n^-c what more patients still can (Cortes et
al. 1993; Figueroa et al. 2012; Hestness et al. 2017). a >= 0, b >= 0, and c lies in
[0.1, 2]: theory has 1/2 for the slowest and 1 for the usual rates, a slower curve cannot be told
from a straight line in log n over the sizes of a study, and a faster one is over before it starts.

For a given c the least squares in a and b under their constraints have a closed form; c is the best
of a fixed grid, so a fit is exact, quick, and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXPONENTS: Final = np.geomspace(0.1, 2.0, 121)


@dataclass(frozen=True, eq=False)
class Laws:
    """R laws: ``asymptote`` a, ``scale`` b and ``exponent`` c, each (R,); NaN where not fitted."""

    asymptote: Floats
    scale: Floats
    exponent: Floats

    def error(self, sizes: Sequence[float] | Floats) -> Floats:
        """(R, m) error at m numbers of patients."""
        n = np.asarray(sizes, dtype=np.float64)
        power = n ** -self.exponent[:, None]
        found: Floats = self.asymptote[:, None] + self.scale[:, None] * power
        return found

    def patients(self, error: float) -> Floats:
        """(R,) patients from which the error is no more than this.

        0 where a constant law is always below it; infinite where the law never comes down to it.
        """
        left = error - self.asymptote
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            n = (self.scale / left) ** (1 / self.exponent)
        n = np.where(left > 0, n, np.where((left == 0) & (self.scale == 0), 0.0, np.inf))
        found: Floats = np.where(np.isnan(self.asymptote), np.nan, n)
        return found


def fit(sizes: Sequence[int], errors: Floats, variances: Floats) -> Laws:
    """Weighted least squares under the constraints.

    Args:
        sizes: m numbers of patients, at least 3.
        errors: (R, m) error at each; a row with a NaN is not fitted.
        variances: (m,) of the error at each size: its weight is one over it.

    Raises:
        ValueError: If there are fewer than 3 sizes.
    """
    if len(sizes) < 3:
        raise ValueError(f"a law of three parameters needs 3 sizes, not {len(sizes)}")
    n = np.asarray(sizes, dtype=np.float64)
    # Weights are relative; an error without any variance weighs no more than a millionth's.
    weights = 1 / np.maximum(variances, 1e-6 * max(float(variances.max()), 1e-300))
    weights /= weights.sum()
    x = (n / n[0]) ** -EXPONENTS[:, None]  # (C, m), in units of the smallest size
    y = errors @ weights  # weighted means, as the weights sum to 1
    mean_x, mean_xx = x @ weights, x**2 @ weights
    mean_xy = (errors * weights) @ x.T
    slope = np.maximum((mean_xy - y[:, None] * mean_x) / (mean_xx - mean_x**2), 0)
    level = y[:, None] - slope * mean_x
    slope = np.where(level < 0, np.maximum(mean_xy / mean_xx, 0), slope)
    level = np.maximum(level, 0)
    lost = (
        level**2
        + 2 * level * slope * mean_x
        + slope**2 * mean_xx
        - 2 * level * y[:, None]
        - 2 * slope * mean_xy
    )
    best = np.argmin(np.nan_to_num(lost, nan=np.inf), axis=1)[:, None]
    exponent = EXPONENTS[best[:, 0]]
    scale = np.take_along_axis(slope, best, 1)[:, 0] * n[0] ** exponent
    asymptote = np.take_along_axis(level, best, 1)[:, 0]
    nothing = np.isnan(errors).any(axis=1)
    return Laws(*(np.where(nothing, np.nan, part) for part in (asymptote, scale, exponent)))
