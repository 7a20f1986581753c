"""Paired comparisons: between families at one size, and between sizes of one family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

from pipeline.metrics import higher_is_better
from pipeline.study.learning_curve import Curves, Where, interval

FLAT_GAIN: Final = 0.01  # a gain whose interval stays below this is called none


@dataclass(frozen=True)
class Difference:
    """How much better one family's mean test score is than another's at one size.

    Attributes:
        first, second: The families.
        size: Number of training patients.
        gain: Advantage of ``first``, positive where it is better (for a loss: lower).
        low, high: Interval of ``gain``, widened so that all pairs of families of the size hold
            together at the study's level (Bonferroni).
    """

    first: str
    second: str
    size: int
    gain: float
    low: float
    high: float

    @property
    def winner(self) -> str:
        """The better family, or "" where the difference is within noise."""
        if self.low > 0:
            return self.first
        return self.second if self.high < 0 else ""


@dataclass(frozen=True)
class Trend:
    """What more patients brought one family: from the last size but one to the last.

    Attributes:
        family: Which.
        start, end: The two sizes.
        gain: Improvement of the mean test score (for a loss: its fall).
        low, high: Interval of ``gain`` at the study's level.
    """

    family: str
    start: int
    end: int
    gain: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``rising``, ``falling``, ``flat`` (a gain of ``FLAT_GAIN`` is excluded) or ``open``."""
        if self.low > 0:
            return "rising"
        if self.high < 0:
            return "falling"
        return "flat" if self.high < FLAT_GAIN else "open"


def differences(
    curves: Curves, families: Sequence[str], sizes: Sequence[int], metric: str, level: float
) -> list[Difference]:
    """Every pair of families at every size."""
    pairs = list(combinations(families, 2))
    adjusted = 1 - (1 - level) / max(1, len(pairs))
    found = []
    for size in sizes:
        for first, second in pairs:
            here, there = (Where(name, size, "test", metric) for name in (first, second))
            gain, low, high = _gain(curves, here, there, adjusted)
            found.append(Difference(first, second, size, gain, low, high))
    return found


def trends(
    curves: Curves, families: Sequence[str], sizes: Sequence[int], metric: str, level: float
) -> list[Trend]:
    """The last step of every family's curve; none where the study has one size."""
    found = []
    for start, end in list(pairwise(sizes))[-1:]:
        for family in families:
            then, now = (Where(family, size, "test", metric) for size in (start, end))
            found.append(Trend(family, start, end, *_gain(curves, now, then, level)))
    return found


def _gain(curves: Curves, here: Where, there: Where, level: float) -> tuple[float, float, float]:
    sign = 1 if higher_is_better(here.metric) else -1
    gain = sign * (curves.points[here].mean - curves.points[there].mean)
    return gain, *interval(sign * (curves.drawn[here] - curves.drawn[there]), level)
