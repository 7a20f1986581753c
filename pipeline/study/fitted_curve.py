"""One family's learning curve as a law, fitted again in every resample.

A forecast is for other patients than the study's, so a resample moves the curve by test patients,
subsets and seeds and also by what the choice of the N training patients may have done: the mean
over subsets of n of them has correlation n/N with that choice (see ``decomposition``), and at n = N
it is all of it, which the spread at the next smaller size stands for. Each family is moved by draws
of its own: were they shared, what the patients do to a difference of families would drop out of
where they cross (``benchmarks/crossing_coverage.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics import higher_is_better
from pipeline.study.learning_curve import Curves, Draws, Point, Where
from pipeline.study.power_law import Floats, Laws, fit


@dataclass(frozen=True, eq=False)
class Fitted:
    """The law of one family.

    Attributes:
        family, metric: Of what.
        sizes: It was fitted to.
        laws: R + 1 laws: of the means, then of each resample.
    """

    family: str
    metric: str
    sizes: tuple[int, ...]
    laws: Laws

    def scores(self, sizes: Sequence[float] | Floats) -> Floats:
        """(R + 1, m) scores that the laws say."""
        return score_of(self.metric, self.laws.error(sizes))


def resampled_errors(
    curves: Curves, points: Sequence[Point], train_patients: int, draws: Draws
) -> Floats:
    """(R + 1, m) errors at the points of one curve: their means, then each resample's."""
    columns, spread, cohort = [], 0.0, draws.cohort(points[0].family)
    for point in points:
        where = Where(point.family, point.size, point.split, point.metric)
        share = point.size / train_patients
        if point.subsets > 1 and share < 1:
            spread = point.sd_subsets / math.sqrt(1 - share)  # of independent subsets
        moved = curves.drawn[where] + math.sqrt(share) * spread * cohort
        columns.append(error_of(point.metric, np.append(point.mean, moved)))
    return np.stack(columns, axis=1)


def fit_curve(family: str, points: Sequence[Point], errors: Floats) -> Fitted:
    """The law of a curve; ``errors`` as of ``resampled_errors``, their variances its weights."""
    sizes = tuple(point.size for point in points)
    laws = fit(sizes, errors, np.nanvar(errors[1:], axis=0))
    return Fitted(family, points[0].metric, sizes, laws)


def error_of(metric: str, score: Floats) -> Floats:
    """What a law is fitted to, of scores (...): 1 - score, or the loss."""
    return 1 - score if higher_is_better(metric) else score


def score_of(metric: str, error: Floats) -> Floats:
    """The score, or loss, of errors (...)."""
    return error_of(metric, error)  # its own inverse


def ordered_interval(drawn: Floats, level: float) -> tuple[float, float]:
    """Percentile interval of resamples (R,), NaN left out, that may end at infinity.

    Its ends are order statistics: nothing is interpolated.
    """
    defined = drawn[~np.isnan(drawn)]
    if not defined.size:
        return math.nan, math.nan
    ends = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(ends[0]), float(ends[1])
