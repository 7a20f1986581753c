"""Learning curves as laws: how many patients a target takes, and which family overtakes which.

Each family's mean test errors (1 - score, or the loss) at all sizes are fitted with a + b n^-c
(``pipeline.study.power_law``), weighted by their variances, and fitted again in every resample of
test patients, subsets, seeds and training patients (``pipeline.study.fitted_curve``). Where laws
cross is told by ``pipeline.study.crossing``.

Written rules:

* A law is fitted to 4 sizes or more (three parameters, and one to be wrong by), and not to a curve
  that falls beyond noise from its first size to its last: the law cannot.
* *Reached below*: the upper end of the interval is no more than the smallest size; what is said of
  fewer patients than that would be guessed.
* *Not reachable*: all but (1 - level)/2 of the resampled laws level off short of the target.
* *Not identifiable*: there is no law, or the upper end of the interval is beyond ``FURTHEST`` times
  the largest size. What can be said then is the lower end, as far as ``FURTHEST`` times.
* *Reached* otherwise, with the interval of the resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

import numpy as np

from pipeline.metrics import within_range
from pipeline.study.crossing import AHEAD, Crossing, crossing
from pipeline.study.fitted_curve import (
    Fitted,
    error_of,
    fit_curve,
    ordered_interval,
    resampled_errors,
    score_of,
)
from pipeline.study.learning_curve import Curves, Draws, Point, interval
from pipeline.study.power_law import Floats

POINTS: Final = 4
FURTHEST: Final = 10.0
_BAND: Final = 7  # sizes from the largest to twice it

Status = Literal["reached below", "reached", "not reachable", "not identifiable"]


@dataclass(frozen=True)
class Forecast:
    """How many patients a family needs for a target.

    Attributes:
        family, metric, target: Of what.
        status: By the rules above.
        patients, low, high: Infinite where never. No less than the smallest size, below which
            nothing was measured. NaN where not identifiable, but for ``low`` where fewer patients
            than that are known to be too few.
        asymptote, asymptote_low, asymptote_high: Score that the law levels off at; NaN without one.
    """

    family: str
    metric: str
    target: float
    status: Status
    patients: float
    low: float
    high: float
    asymptote: float
    asymptote_low: float
    asymptote_high: float


@dataclass(frozen=True)
class Foretold:
    """A score that a law says, with interval.

    Attributes:
        family, metric, size: Of what.
        fitted_to: Largest size that the law was fitted to.
        value, low, high: The score.
        measured: The mean score there is, NaN beyond the study. For a size of the study low and
            high are those of what the law makes of the same resample's measurement, so that they
            hold ``measured`` where law and measurement agree.
    """

    family: str
    metric: str
    size: int
    fitted_to: int
    value: float
    low: float
    high: float
    measured: float

    @property
    def covered(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, eq=False)
class Outlook:
    """Everything that the laws of a study say.

    Attributes:
        fitted: Law of each family that has one.
        forecasts: For each target and family.
        ahead: Scores at twice the largest size.
        band: Scores from the largest size to there.
        backtest: Scores at the larger sizes, from laws that were fitted to the smaller half.
        crossings: Of pairs of families whose laws cross.
    """

    fitted: Mapping[str, Fitted]
    forecasts: tuple[Forecast, ...]
    ahead: tuple[Foretold, ...]
    band: tuple[Foretold, ...]
    backtest: tuple[Foretold, ...]
    crossings: tuple[Crossing, ...]


def outlook(
    curves: Curves,
    families: Sequence[str],
    metric: str,
    targets: Sequence[float],
    *,
    train_patients: int,
    draws: Draws,
    level: float,
    few_patients: bool = False,
) -> Outlook:
    """Fit every family's law and say what follows from it.

    Args:
        curves: Points and their resamples.
        families: Which.
        metric: Of ``pipeline.metrics.METRICS``.
        targets: Scores to forecast.
        train_patients: All there are, of which subsets are drawn.
        draws: Of the study.
        level: Of the intervals.
        few_patients: Whether the test patients are too few to settle a crossing.
    """
    fitted, ahead, band, backtest = {}, [], [], []
    for family in families:
        points = [p for p in curves.curve(family, metric) if not math.isnan(p.mean)]
        if len(points) < POINTS:
            continue
        moved = resampled_errors(curves, points, train_patients, draws)
        if interval(moved[1:, -1] - moved[1:, 0], level)[0] > 0:
            continue
        law = fit_curve(family, points, moved)
        fitted[family] = law
        largest = points[-1].size
        ahead.append(_foretell(law, AHEAD * largest, level))
        between = np.geomspace(largest, AHEAD * largest, _BAND).round().astype(int)
        band += [_foretell(law, size, level) for size in np.unique(between).tolist()]
        backtest += _tested(points, moved, level)
    return Outlook(
        fitted=fitted,
        forecasts=tuple(
            forecast(fitted.get(family), family, metric, target, level)
            for target in targets
            for family in families
        ),
        ahead=tuple(ahead),
        band=tuple(band),
        backtest=tuple(backtest),
        crossings=tuple(
            found
            for first, second in combinations(fitted.values(), 2)
            if (found := crossing(first, second, level, few_patients)) is not None
        ),
    )


def forecast(
    fitted: Fitted | None, family: str, metric: str, target: float, level: float
) -> Forecast:
    """Patients for a target, by the rules above.

    Args:
        fitted: The family's law; None where there is none.
        family: Its name.
        metric: Of ``pipeline.metrics.METRICS``.
        target: Score to be reached.
        level: Of the interval.
    """
    if fitted is None:
        nothing = (math.nan,) * 6
        return Forecast(family, metric, target, "not identifiable", *nothing)
    laws = fitted.laws
    patients = laws.patients(float(error_of(metric, np.array(target))))
    patients = np.maximum(patients, fitted.sizes[0])
    low, high = ordered_interval(patients[1:], level)
    levels = score_of(metric, laws.asymptote)
    status: Status = "reached"
    likely = float(patients[0])
    if math.isinf(low):
        status, likely = "not reachable", math.inf
    elif high > (furthest := FURTHEST * fitted.sizes[-1]):
        status, likely, high = "not identifiable", math.nan, math.nan
        low = min(low, furthest) if low > fitted.sizes[0] else math.nan
    elif high <= fitted.sizes[0]:
        status = "reached below"
    ends = _scores(metric, levels[1:], level)
    return Forecast(family, metric, target, status, likely, low, high, float(levels[0]), *ends)


def _foretell(law: Fitted, size: int, level: float) -> Foretold:
    scores = law.scores([size])[:, 0]
    low, high = _scores(law.metric, scores[1:], level)
    largest = law.sizes[-1]
    return Foretold(law.family, law.metric, size, largest, float(scores[0]), low, high, math.nan)


def _scores(metric: str, drawn: Floats, level: float) -> tuple[float, float]:
    """The interval of a score, within what it can be."""
    low, high = interval(drawn, level)
    return within_range(metric, low), within_range(metric, high)


def _tested(points: Sequence[Point], errors: Floats, level: float) -> list[Foretold]:
    """Fit to the smaller half of the sizes (three at least), and foretell the others."""
    half = max(3, len(points) // 2)
    law = fit_curve(points[0].family, points[:half], errors[:, :half])
    found = []
    for column, point in enumerate(points[half:], start=half):
        scores = law.scores([point.size])[:, 0]
        measured = score_of(point.metric, errors[:, column])
        low, high = _scores(point.metric, scores[1:] - measured[1:] + measured[0], level)
        found.append(
            Foretold(
                law.family,
                law.metric,
                point.size,
                law.sizes[-1],
                float(scores[0]),
                low,
                high,
                measured=float(measured[0]),
            )
        )
    return found
