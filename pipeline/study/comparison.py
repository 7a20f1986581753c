"""Paired comparisons: between families at one size, and between sizes of one family.

The difference of two families' mean scores is on the same test patients, the same subsets and the
same seeds. Its variance is the sum of three parts: test patients (for AUC DeLong's, clustered by
patient, of the mean placements over the cells; else the bootstrap's), subsets and seeds (spread of
the paired differences, over their number). Where a cell of one family failed, the other's cell of
that subset and seed is left out of all of it, the difference itself included: else it would be of
different draws of patients. The interaction of subset and seed is counted in both, which errs on
the safe side. The difference over its standard error is referred to Student's t with
Satterthwaite's degrees of freedom (``pipeline.study.mean_gain``), for subsets and seeds are few. On
simulated scores of equal families a test at 5 % rejects 4.5 to 6.2 % of the time, three subsets
included.

At each size the p-values of all pairs are adjusted by Holm's step-down rule (1979); the intervals
are Bonferroni's, so that they hold together. An interval without 0 is never "within noise"; Holm's
rule is the stronger, and may tell two families apart whose interval still holds 0.

Where a class has very few test patients (``pipeline.study.summary``), neither the bootstrap nor
DeLong's variance can be trusted: numbers stand, but no verdict is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

import numpy as np

from pipeline.metrics import higher_is_better
from pipeline.study.learning_curve import Curves, Draws, Floats, Where, distribution, interval
from pipeline.study.mean_gain import MeanGain, holm

FLAT_GAIN: Final = 0.01  # a gain whose interval stays below this is called none

Parts = Mapping[tuple[str, int], Floats]


@dataclass(frozen=True)
class Difference:
    """How much better one family's mean test score is than another's at one size.

    Attributes:
        first, second: The families.
        size: Number of training patients.
        pairs: Cells, by subset and seed, that both families have; all else is of these.
        gain: Advantage of ``first``, positive where it is better (for a loss: lower).
        low, high: Interval of ``gain``, widened so that all pairs of families of the size hold
            together at the study's level (Bonferroni).
        p: Of no difference, two-sided.
        p_holm: Adjusted for all pairs of families of the size.
        test: ``delong`` or ``bootstrap``: whence the test patients' part of the variance.
        level: Level of the verdict.
        few_patients: Whether the test patients are too few for a verdict.
    """

    first: str
    second: str
    size: int
    pairs: int
    gain: float
    low: float
    high: float
    p: float
    p_holm: float
    test: str
    level: float
    few_patients: bool

    @property
    def winner(self) -> str:
        """The better family, or "" where the difference is within noise, or not to be trusted."""
        if self.few_patients or not self.p_holm <= 1 - self.level:
            return ""
        return self.first if self.gain > 0 else self.second


@dataclass(frozen=True)
class Trend:
    """What more patients brought one family: from the last size but one to the last.

    Attributes:
        family: Which.
        start, end: The two sizes.
        gain: Improvement of the mean test score (for a loss: its fall).
        low, high: Interval of ``gain`` at the study's level.
        few_patients: Whether the test patients are too few for a verdict.
    """

    family: str
    start: int
    end: int
    gain: float
    low: float
    high: float
    few_patients: bool

    @property
    def verdict(self) -> str:
        """``rising``, ``falling``, ``flat``, ``not rising`` or ``open``.

        A gain of ``FLAT_GAIN`` is excluded where it is flat, and as much of a loss, and where it is
        not rising, but not such a loss.
        """
        if self.few_patients:
            return "open"
        if self.low > 0:
            return "rising"
        if self.high < 0:
            return "falling"
        if self.high >= FLAT_GAIN:
            return "open"
        return "flat" if self.low > -FLAT_GAIN else "not rising"


def differences(
    curves: Curves,
    families: Sequence[str],
    sizes: Sequence[int],
    metric: str,
    level: float,
    parts: Parts | None = None,
    *,
    few_patients: bool = False,
) -> list[Difference]:
    """Every pair of families at every size.

    Args:
        curves: The points, with the cells behind them.
        families, sizes: Which.
        metric: Of ``pipeline.metrics.METRICS``.
        level: Of intervals and verdicts.
        parts: (D, S, P) what each of P patients adds to the AUC of each cell of each family and
            size (``AucParts.patients``), NaN where it failed; used where ``metric`` is ``auc``.
        few_patients: Whether the test patients are too few for verdicts.
    """
    pairs = list(combinations(families, 2))
    adjusted = 1 - (1 - level) / max(1, len(pairs))
    delong = parts if metric == "auc" else None
    found = []
    for size in sizes:
        gains = [_paired(curves, pair, size, metric, delong) for pair in pairs]
        raw = [gain.p for gain in gains]
        for pair, gain, p, p_holm in zip(pairs, gains, raw, holm(raw), strict=True):
            ends = gain.interval(adjusted)
            test = "bootstrap" if delong is None else "delong"
            found.append(
                Difference(
                    *(*pair, size, gain.cells, gain.value, *ends, p, p_holm, test, level),
                    few_patients=few_patients,
                )
            )
    return found


def trends(
    curves: Curves,
    families: Sequence[str],
    sizes: Sequence[int],
    metric: str,
    level: float,
    draws: Draws,
    *,
    few_patients: bool = False,
) -> list[Trend]:
    """The last step of every family's curve; none where the study has one size.

    It is of the cells that both sizes have. A size that takes every training patient has one
    subset, which pairs with none of the others: there each size's mean over its cells counts.

    Args:
        curves, families, sizes, metric, level, few_patients: As in ``differences``.
        draws: What decides each resample.
    """
    found = []
    sign = 1 if higher_is_better(metric) else -1
    for start, end in list(pairwise(sizes))[-1:]:
        for family in families:
            then, now = (Where(family, size, "test", metric) for size in (start, end))
            if min(curves.points[then].subsets, curves.points[now].subsets) > 1:
                cells = curves.replicates[now].less(curves.replicates[then])
                gain, drawn, freedom = cells.mean, distribution(cells, draws), cells.freedom
            else:
                gain = curves.points[now].mean - curves.points[then].mean
                drawn = curves.drawn[now] - curves.drawn[then]
                freedom = min(curves.replicates[place].freedom for place in (then, now))
            ends = interval(sign * drawn, level, freedom)
            found.append(Trend(family, start, end, sign * gain, *ends, few_patients))
    return found


def _paired(
    curves: Curves, pair: tuple[str, str], size: int, metric: str, parts: Parts | None
) -> MeanGain:
    here, there = (Where(name, size, "test", metric) for name in pair)
    sign = 1 if higher_is_better(metric) else -1
    cells = curves.replicates[here].less(curves.replicates[there])
    both = ~np.isnan(cells.values)
    if parts is not None and both.any():
        apart = (parts[pair[0], size] - parts[pair[1], size])[both].mean(axis=0)
        patients = float(apart @ apart)
    else:
        patients = cells.variance_by_patients
    return MeanGain.of(sign * cells.mean, cells, patients)
