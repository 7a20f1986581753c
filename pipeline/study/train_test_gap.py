"""How much better a family scores on the scans that it was fitted on than on test scans.

A wide gap that closes as patients are added is what variance looks like in scores; a gap of
nothing with a poor score is bias. The training score of a cell is of its own patients, so that
drawing subsets draws those as well: no patient of it is resampled on top of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics import higher_is_better
from pipeline.study.learning_curve import (
    Curves,
    Draws,
    Floats,
    Replicates,
    Where,
    distribution,
    interval,
)


@dataclass(frozen=True)
class Gap:
    """The mean gap of one family at one size.

    Attributes:
        family, size, metric: Whose, by what.
        value: Positive where training scans score better (for a loss: lower); NaN where undefined.
        low, high: Interval over test patients, subsets and seeds.
    """

    family: str
    size: int
    metric: str
    value: float
    low: float
    high: float


def on_training_scans(values: Floats, resamples: int) -> Replicates:
    """Cells by their training scores, resampled by subset and seed only.

    With one subset nothing says how another choice of patients would have scored, so there is no
    interval.

    Args:
        values: (D, S) of each cell; NaN where it failed or is undefined.
        resamples: How many.
    """
    several = (~np.isnan(values)).any(axis=1).sum() > 1
    drawn = values if several else np.full_like(values, np.nan)
    return Replicates(values, np.broadcast_to(drawn[..., None], (*values.shape, resamples)))


def gaps(
    curves: Curves,
    families: Sequence[str],
    sizes: Sequence[int],
    metric: str,
    draws: Draws,
    level: float,
) -> list[Gap]:
    """The gap of every family at every size, from scores paired cell by cell.

    Args:
        curves: The points, with the cells behind them.
        families, sizes: Which.
        metric: Of ``pipeline.metrics.METRICS``.
        draws: What decides each resample.
        level: Of intervals.
    """
    sign = 1 if higher_is_better(metric) else -1
    found = []
    for family in families:
        for size in sizes:
            train, test = (
                curves.replicates[Where(family, size, split, metric)] for split in ("train", "test")
            )
            cells = Replicates(
                sign * (train.values - test.values),
                sign * (train.values[..., None] - test.resampled),
            )
            ends = interval(distribution(cells, draws), level, cells.freedom)
            found.append(Gap(family, size, metric, cells.mean, *ends))
    return found
