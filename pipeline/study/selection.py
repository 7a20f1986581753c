"""Which cell is released: decided by validation scores at the largest size, never by test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from pipeline.metrics import higher_is_better
from pipeline.study.config import METRIC_WORDS, RuleName, StudyConfig
from pipeline.study.grid import Cell
from pipeline.study.learning_curve import Curves, Where


@dataclass(frozen=True)
class ScoredCell:
    """A finished cell with its scores on the three splits by metric; NaN where undefined."""

    cell: Cell
    key: str
    train: dict[str, float]
    val: dict[str, float]
    test: dict[str, float]


@dataclass(frozen=True)
class Choice:
    """The cell to release.

    Attributes:
        cell: The one of the chosen family with the best validation score.
        key: Its key.
        reason: Why, in one sentence.
    """

    cell: Cell
    key: str
    reason: str


def choose_by_each(
    config: StudyConfig,
    families: Sequence[str],
    largest: int,
    curves: Curves,
    cells: Sequence[ScoredCell],
) -> dict[RuleName, Choice | None]:
    """What every rule would release, by the study's metric: a release may ask for another rule."""
    rules: tuple[RuleName, ...] = get_args(RuleName)
    asked = {rule: config.release.model_copy(update={"rule": rule}) for rule in rules}
    return {
        rule: choose(config.model_copy(update={"release": one}), families, largest, curves, cells)
        for rule, one in asked.items()
    }


def choose(
    config: StudyConfig,
    families: Sequence[str],
    largest: int,
    curves: Curves,
    cells: Sequence[ScoredCell],
) -> Choice | None:
    """Apply the release rule; None where no cell of the largest size has a validation score.

    Args:
        config: The study's, with the rule.
        families: In the study's order, from cheap to dear.
        largest: Size of the training sets that are released from.
        curves: The points, with the cells behind them.
        cells: Every finished cell.
    """
    metric = config.release_metric
    words = METRIC_WORDS[metric]
    sign = 1 if higher_is_better(metric) else -1
    places = {family: Where(family, largest, "val", metric) for family in families}
    means = {family: sign * curves.points[where].mean for family, where in places.items()}
    ranked = {family: mean for family, mean in means.items() if not math.isnan(mean)}
    if not ranked:
        return None
    best = max(ranked, key=lambda family: ranked[family])  # of equals the first, the simplest
    chosen, why = best, f"the best mean validation {words} at {largest} patients"
    if config.release.rule == "one_standard_error":
        error = float(np.nanstd(curves.drawn[places[best]]))
        chosen = next(family for family in ranked if ranked[family] >= ranked[best] - error)
        if chosen != best:
            why = (
                f"the simplest family within one standard error ({error:.3f}) of {best}'s mean "
                f"validation {words} at {largest} patients"
            )
    candidates = [
        scored
        for scored in cells
        if scored.cell.family == chosen
        and scored.cell.size == largest
        and not math.isnan(scored.val[metric])
    ]
    winner = min(candidates, key=lambda scored: (-sign * scored.val[metric], scored.cell))
    value = curves.points[places[chosen]].mean
    reason = f"{chosen} is released: {why}, {value:.2f} (seed {winner.cell.seed})."
    return Choice(cell=winner.cell, key=winner.key, reason=reason)
