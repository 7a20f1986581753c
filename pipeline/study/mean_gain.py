"""A mean over cells as an advantage: its standard error, Student's t, and Holm's rule for many.

The variance of a mean over cells is the sum of three parts: test patients, subsets and seeds (their
spread over their number; ``pipeline.study.learning_curve``). Subsets and seeds are few, so that the
mean over its standard error is referred to Student's t with Satterthwaite's degrees of freedom
(1946). Many tests are adjusted by Holm's step-down rule (1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from pipeline.study.learning_curve import Replicates


@dataclass(frozen=True)
class MeanGain:
    """A mean over cells as an advantage.

    Attributes:
        cells: How many have a score.
        value: The advantage.
        error, freedom: Its standard error, and the degrees of freedom of that.
    """

    cells: int
    value: float
    error: float
    freedom: float

    def interval(self, level: float) -> tuple[float, float]:
        """Both ends, by Student's t."""
        half = float(student.ppf((1 + level) / 2, self.freedom)) * self.error
        return self.value - half, self.value + half

    @classmethod
    def of(cls, value: float, cells: Replicates, patients: float) -> MeanGain:
        """``value``, which moves as the mean of cells; ``patients``: variance by test patients."""
        variance, freedom = cells.variance_of_mean(patients)
        known = int((~np.isnan(cells.values)).sum())
        return cls(known, value, math.sqrt(variance), freedom)

    @property
    def p(self) -> float:
        """Of no advantage, two-sided."""
        if self.error == 0:  # every patient and cell says the same
            return 1.0 if self.value == 0 else 0.0
        return float(2 * student.sf(abs(self.value) / self.error, self.freedom))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order; a NaN stays, and counts as no test."""
    tested = sorted((value, at) for at, value in enumerate(p) if not math.isnan(value))
    adjusted, reached = [math.nan] * len(p), 0.0
    for rank, (value, at) in enumerate(tested):
        reached = max(reached, min(1.0, (len(tested) - rank) * value))
        adjusted[at] = reached
    return adjusted
