"""Score against the number of training patients, with honest intervals.

A cell's score varies for three reasons: which patients are tested, which are trained on, and the
seed. The mean over the cells of one family and size gets one interval for all three, by a
bootstrap that resamples test patients, subsets and seeds independently of each other (the
pigeonhole bootstrap: McCullagh 2000, Owen 2007). In resample b,

    value_b = mean_b + sqrt(D / (D - 1)) (mean over drawn subsets_b - mean_b)
                     + sqrt(S / (S - 1)) (mean over drawn seeds_b - mean_b)

where mean_b is over all D subsets and S seeds on the resampled test patients. The factors undo the
bootstrap's shrinkage of a variance estimated from few replicates (Davison and Hinkley 1997, p. 71);
with one subset (or seed) its term is absent and the interval does not cover that choice. That few
replicates tell their variance only roughly is undone as well: the ends move away from the median as
Student's t does from the normal, at Satterthwaite's (1946) degrees of freedom of the mean. Where
test patients decide there are many and nothing moves; where two subsets do there is one, and the
interval is six times as wide. On simulated scores 95 % intervals cover 92 to 95 % of the time, and
88 % with two subsets whose spread is three times that of the test patients
(``benchmarks/curve_coverage.py``).

All families and sizes share the draws, so differences between them are paired.

What the intervals leave out: subsets are drawn from the training patients of one cohort, so near
the full size they overlap and resemble each other more than draws of new patients would.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm as normal
from scipy.stats import t as student

from pipeline.metrics import METRICS, within_range
from pipeline.probes import bounds_of
from pipeline.study.quantity import MEASURED

_STREAM: Final = 0xC0DE  # keeps these draws apart from those of patients into subsets

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Where:
    """What a number is of: a family at a size; a split (``train``, ``val``, ``test``, or
    ``test/...``: under a condition) and a metric, or ``measured`` and what a probe measures.
    """

    family: str
    size: int
    split: str
    metric: str


@dataclass(frozen=True)
class Point:
    """One point of a learning curve.

    Attributes:
        family, size, split, metric: What it is of.
        mean: Over all cells; NaN where the metric is undefined.
        low, high: Ends of the interval of the mean.
        sd_subsets: Standard deviation between subsets (means over seeds); NaN with one subset.
        sd_seeds: Standard deviation between seeds within a subset; NaN with one seed.
        subsets, seeds, cells: How many there are; fewer cells than subsets x seeds if some failed.
    """

    family: str
    size: int
    split: str
    metric: str
    mean: float
    low: float
    high: float
    sd_subsets: float
    sd_seeds: float
    subsets: int
    seeds: int
    cells: int


@dataclass(frozen=True, eq=False)
class Replicates:
    """The cells of one family and size under one metric.

    Attributes:
        values: (D, S) score of each cell; NaN where it failed or is undefined.
        resampled: (D, S, R) the same on each resample of the test patients.
    """

    values: Floats
    resampled: Floats

    @property
    def mean(self) -> float:
        """Over the cells that there are."""
        return float(_mean(self.values, axis=None))

    @property
    def resampled_mean(self) -> Floats:
        """(R,) the same on each resample of the test patients."""
        return _mean(self.resampled.reshape(-1, self.resampled.shape[-1]), axis=0)

    @property
    def variance_by_patients(self) -> float:
        """What the choice of test patients adds to the variance of ``mean``."""
        drawn = self.resampled_mean
        return math.nan if np.isnan(drawn).all() else float(np.nanvar(drawn))

    def less(self, other: Replicates) -> Replicates:
        """This minus another, cell by cell; NaN where either is."""
        return Replicates(self.values - other.values, self.resampled - other.resampled)

    def variance_of_mean(self, patients: float) -> tuple[float, float]:
        """Variance of ``mean`` by test patients, subsets and seeds, and its degrees of freedom.

        Args:
            patients: What the choice of test patients adds to it, known as if from endlessly many.
        """
        variance, spread = patients, 0.0
        for axis in (1, 0):  # subsets, seeds
            rows = _mean(self.values, axis=axis)
            n = int((~np.isnan(rows)).sum())
            if n > 1:
                part = _sd(rows) ** 2 / n
                variance += part
                spread += part**2 / (n - 1)
        return variance, variance**2 / spread if spread > 0 else math.inf

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance of ``mean``; infinite where nothing is known of it."""
        _, freedom = self.variance_of_mean(self.variance_by_patients)
        return math.inf if math.isnan(freedom) else freedom


@dataclass(frozen=True, eq=False)
class Draws:
    """What decides each of R resamples, apart from the test patients.

    Attributes:
        subsets, seeds: (R, n) uniform numbers: which replicates are taken.
        seed: Of the study; what ``cohort`` draws begins with it.
    """

    subsets: Floats
    seeds: Floats
    seed: int

    @classmethod
    def of(cls, n_subsets: int, n_seeds: int, resamples: int, seed: int) -> Draws:
        """Draw for a study of that many subsets and seeds."""
        rng = np.random.default_rng([seed, _STREAM])
        return cls(
            rng.random((resamples, n_subsets)),
            rng.random((resamples, n_seeds)),
            seed,
        )

    def cohort(self, family: str) -> Floats:
        """(R,) standard normal: how far off the training patients of the study put a family.

        Only forecasts look at it, which are for other patients. Each family has draws of its own:
        what one makes of the patients says little of what another does, and if all shared them,
        what the patients do to a difference of families would drop out of it.
        """
        own = zlib.crc32(family.encode())
        return np.random.default_rng([self.seed, _STREAM, own]).standard_normal(len(self.subsets))


def distribution(replicates: Replicates, draws: Draws) -> Floats:
    """(R,) bootstrap values of the mean; NaN where no cell is defined."""
    subsets = _rows(_mean(replicates.resampled, axis=1))
    seeds = _rows(_mean(replicates.resampled, axis=0))
    value: Floats = (
        replicates.resampled_mean
        + deviation(subsets, draws.subsets)
        + deviation(seeds, draws.seeds)
    )
    return value


def point(where: Where, replicates: Replicates, drawn: Floats, level: float) -> Point:
    """Summarise the cells of one family and size; ``drawn`` is their ``distribution``."""
    low, high = interval(drawn, level, replicates.freedom)
    least, largest = possible(where)
    low, high = (min(max(end, least), largest) for end in (low, high))
    values = replicates.values
    return Point(
        **vars(where),
        mean=replicates.mean,
        low=low,
        high=high,
        sd_subsets=_sd(_rows(_mean(values, axis=1)[:, None])[:, 0]),
        sd_seeds=float(np.sqrt(_mean(np.array([_sd(row) ** 2 for row in values]), axis=None))),
        subsets=int((~np.isnan(values)).any(axis=1).sum()),
        seeds=int((~np.isnan(values)).any(axis=0).sum()),
        cells=int((~np.isnan(values)).sum()),
    )


def possible(where: Where) -> tuple[float, float]:
    """Least and largest value of such a number: the end of an interval may lie beyond."""
    if where.split == MEASURED:
        return bounds_of(where.metric)
    if where.metric not in METRICS:
        return -math.inf, math.inf
    return within_range(where.metric, -math.inf), within_range(where.metric, math.inf)


def interval(drawn: Floats, level: float, freedom: float = math.inf) -> tuple[float, float]:
    """Percentile interval of the resamples in which the value is defined.

    Args:
        drawn: (R,) values of the resamples.
        level: Its nominal coverage.
        freedom: Degrees of freedom of their variance: with few, both ends lie farther out.
    """
    defined = drawn[~np.isnan(drawn)]
    if not defined.size:
        return math.nan, math.nan
    low, middle, high = np.quantile(defined, [(1 - level) / 2, 0.5, (1 + level) / 2])
    out = float(student.ppf((1 + level) / 2, freedom) / normal.ppf((1 + level) / 2))
    return float(middle - out * (middle - low)), float(middle + out * (high - middle))


@dataclass(frozen=True, eq=False)
class Curves:
    """Every point of a study, and the resamples that comparisons rest on.

    Attributes:
        points: Family by family, size by size.
        drawn: Resamples of the mean at each place, paired across places.
        replicates: The cells behind each point.
    """

    points: Mapping[Where, Point]
    drawn: Mapping[Where, Floats]
    replicates: Mapping[Where, Replicates]

    def curve(self, family: str, metric: str, split: str = "test") -> list[Point]:
        """The points of one curve, by rising size."""
        found = [
            point
            for point in self.points.values()
            if (point.family, point.metric, point.split) == (family, metric, split)
        ]
        return sorted(found, key=lambda point: point.size)


def curves(replicates: Mapping[Where, Replicates], draws: Draws, level: float) -> Curves:
    """Points and resamples of all places."""
    drawn = {where: distribution(cells, draws) for where, cells in replicates.items()}
    points = {
        where: point(where, cells, drawn[where], level) for where, cells in replicates.items()
    }
    return Curves(points=points, drawn=drawn, replicates=dict(replicates))


def deviation(rows: Floats, uniform: Floats) -> Floats | float:
    """(R,) by how much the mean of drawn rows deviates from the mean of all; 0 with one row.

    Args:
        rows: (n, R) value of each replicate in each resample.
        uniform: (R, n or more) of ``Draws``: which replicates each resample takes.
    """
    n = len(rows)
    if n < 2:
        return 0.0
    chosen = np.minimum((uniform[:, :n] * n).astype(np.int64), n - 1)
    drawn = _mean(rows[chosen, np.arange(rows.shape[1])[:, None]], axis=1)
    deviation: Floats = math.sqrt(n / (n - 1)) * (drawn - _mean(rows, axis=0))
    return deviation


def _rows(rows: Floats) -> Floats:
    """Rows that hold any number: replicates of which at least one cell is done."""
    return rows[~np.isnan(rows).all(axis=1)]


def _mean(values: Floats, axis: int | None) -> Floats:
    """Mean of what is not NaN; NaN where nothing is."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0).sum(axis=axis)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _sd(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else math.nan
