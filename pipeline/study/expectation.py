"""Whether a study's outcome is what its claim expects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pipeline.study.claim import Expectation, Ranking, Relation
from pipeline.study.components import Measured
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.learning_curve import Curves, Floats, Where, interval, possible
from pipeline.study.quantity import ALL, MEASURED, Quantity
from pipeline.study.rank_correlation import permutation_p, rank_correlation

_UNDEFINED: Final = "one of the two numbers is undefined"
_FEW: Final = "the study has too few subsets or seeds for one"
_FITTED: Final = (
    "the score is on training scans, of one subset: a fact of these fits, which tells nothing of "
    "other patients"
)


@dataclass(frozen=True, eq=False)
class StudyOutcome:
    """What one cohort's study found.

    Attributes:
        config: Of the study.
        sizes: Numbers of training patients, ascending.
        curves: Its points and the resamples behind them.
        terms: (family, size) -> terms of the expected squared loss.
    """

    config: StudyConfig
    sizes: Sequence[int]
    curves: Curves
    terms: Mapping[tuple[str, int], Mapping[str, Measured]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """One expectation, and what came out.

    Attributes:
        expectation: In words.
        relation: ``above``, ``below``, ``near`` or ``ranks``.
        value, of: The two numbers; of ranks their correlation, and 0.
        difference: ``value - of``.
        low, high: Interval of the difference at the study's level, paired by test patients,
            subsets and seeds.
        holds: Whether it came out as expected.
        why: What decided, in words.
        no_interval: Why ``low`` and ``high`` are NaN, in words; "" where they are not.
    """

    expectation: str
    relation: Relation
    value: float
    of: float
    difference: float
    low: float
    high: float
    holds: bool
    why: str
    no_interval: str = ""


def judge(
    expectation: Expectation | Ranking,
    outcomes: Mapping[str, StudyOutcome],
    *,
    slack: float = 0.0,
    significant: bool = True,
) -> Judgement:
    """Hold an expectation against what came out.

    Args:
        expectation: What was said beforehand.
        outcomes: Of each cohort by the name that the claim has for it, its first one first.
        slack: Eases ``by`` and ``within``.
        significant: Whether an interval must bear it out (of ranks: a permutation test); else the
            difference itself decides.
    """
    if isinstance(expectation, Ranking):
        return _judge_ranks(expectation, outcomes, slack, significant=significant)
    significant = significant and not expectation.fitted
    value, drawn = _numbers(expectation.value, outcomes)
    of, of_drawn = (
        _numbers(expectation.of, outcomes)
        if isinstance(expectation.of, Quantity)
        else (expectation.of, expectation.of)
    )
    level = next(iter(outcomes.values())).config.level
    least, largest = _possible(expectation, outcomes)
    ends = interval(drawn - of_drawn, level, _freedom(expectation, outcomes))
    low, high = (min(max(end, least), largest) for end in ends)
    difference = value - of
    untold = _untold(expectation, outcomes, difference) if math.isnan(low) else ""
    holds, why = _decide(
        expectation, difference, (low, high), untold, slack, significant=significant
    )
    return Judgement(
        str(expectation), expectation.relation, value, of, difference, low, high, holds, why, untold
    )


def _untold(
    expectation: Expectation, outcomes: Mapping[str, StudyOutcome], difference: float
) -> str:
    """Why there is no interval of the difference: what other patients would give is not known."""
    if math.isnan(difference):
        return _UNDEFINED
    for one in expectation.quantities:
        outcome = _outcome(one, outcomes)
        if one.scans == "train" and outcome.curves.points[_where(one, outcome)].subsets < 2:
            return _FITTED
    return _FEW


def _freedom(expectation: Expectation, outcomes: Mapping[str, StudyOutcome]) -> float:
    """Degrees of freedom of the difference's variance; of a term's none are known."""
    numbers = [expectation.value, expectation.of]
    quantities = [one for one in numbers if isinstance(one, Quantity)]
    if any(one.term for one in quantities):
        return math.inf
    found = [(_outcome(one, outcomes), one) for one in quantities]
    places = [(outcome.curves, _where(one, outcome)) for outcome, one in found]
    cells = [curves.replicates[where] for curves, where in places]
    if len({curves.points[where].subsets for curves, where in places}) == 1:
        return (cells[0].less(cells[1]) if len(cells) > 1 else cells[0]).freedom
    return min(one.freedom for one in cells)  # one subset pairs with none of the others


def _judge_ranks(
    ranking: Ranking, outcomes: Mapping[str, StudyOutcome], slack: float, *, significant: bool
) -> Judgement:
    level = next(iter(outcomes.values())).config.level
    found = [_numbers(quantity, outcomes) for quantity in ranking.quantities]
    count = len(ranking.ranks)
    means = np.array([mean for mean, _ in found])
    rho = rank_correlation(means[:count], means[count:])
    p = permutation_p(means[:count], means[count:])
    drawn = np.stack([resamples for _, resamples in found], axis=1)
    low, high = interval(
        np.array([rank_correlation(row[:count], row[count:]) for row in drawn]), level
    )
    if math.isnan(rho):
        holds, why = False, "one of the scores is undefined, or all of them are equal"
    elif rho < ranking.by - slack:
        holds, why = False, f"it is {rho:.2f}"
    elif significant and p > 1 - level:
        holds, why = False, f"chance orders {count} families as well with p = {p:.2g}"
    else:
        holds, why = True, f"p = {p:.2g} over the orders of {count} families"
    untold = why if math.isnan(rho) else ""
    return Judgement(str(ranking), "ranks", rho, 0.0, rho, low, high, holds, why, untold)


def _decide(
    expectation: Expectation,
    difference: float,
    ends: tuple[float, float],
    untold: str,
    slack: float,
    *,
    significant: bool,
) -> tuple[bool, str]:
    if math.isnan(difference):
        return False, _UNDEFINED
    if significant and untold:
        return False, f"there is no interval: {untold}"
    if expectation.relation == "near":
        allowed = expectation.within + slack
        if not significant:
            near = abs(difference) <= allowed
            return near, f"the difference is {'within' if near else 'beyond'} {allowed:g}"
        if max(-ends[0], ends[1]) <= allowed:
            return True, f"the whole interval lies within {allowed:g}"
        return False, f"the interval reaches beyond {allowed:g}"
    sign = 1 if expectation.relation == "above" else -1
    least = max(expectation.by - slack, 0.0)
    if sign * difference < least or sign * difference <= 0:
        return False, f"it is not {expectation.relation} by {least:g}"
    if significant and min(sign * ends[0], sign * ends[1]) <= 0:
        return False, "the interval of the difference holds 0: within noise"
    return True, "the interval does not hold 0" if significant else "it lies on that side"


def _possible(
    expectation: Expectation, outcomes: Mapping[str, StudyOutcome]
) -> tuple[float, float]:
    """Least and largest difference that the two numbers can have."""
    low, high = _range(expectation.value, outcomes)
    of = expectation.of
    of_low, of_high = _range(of, outcomes) if isinstance(of, Quantity) else (of, of)
    return low - of_high, high - of_low


def _range(quantity: Quantity, outcomes: Mapping[str, StudyOutcome]) -> tuple[float, float]:
    outcome = _outcome(quantity, outcomes)
    return (-math.inf, math.inf) if quantity.term else possible(_where(quantity, outcome))


def _outcome(quantity: Quantity, outcomes: Mapping[str, StudyOutcome]) -> StudyOutcome:
    return outcomes[quantity.cohort] if quantity.cohort else next(iter(outcomes.values()))


def _where(quantity: Quantity, outcome: StudyOutcome) -> Where:
    """Among the points of the outcome; not for a term."""
    size = outcome.sizes[-1] if quantity.size == ALL else quantity.size
    if quantity.measured:
        return Where(quantity.family, size, MEASURED, quantity.measured)
    split = f"test/{quantity.under}" if quantity.under else quantity.scans
    return Where(quantity.family, size, split, quantity.metric or outcome.config.metric)


def _numbers(quantity: Quantity, outcomes: Mapping[str, StudyOutcome]) -> tuple[float, Floats]:
    """Mean and resamples.

    Raises:
        StudyError: ``study.no_such_number``: the cohort's scans do not have it.
    """
    outcome = _outcome(quantity, outcomes)
    if quantity.term:
        size = outcome.sizes[-1] if quantity.size == ALL else quantity.size
        terms = outcome.terms.get((quantity.family, size), {})
        if quantity.term not in terms:
            raise _absent(quantity, terms)
        return terms[quantity.term].value, terms[quantity.term].drawn
    where = _where(quantity, outcome)
    if where not in outcome.curves.points:
        alike = [one for one in outcome.curves.points if one.family == where.family]
        raise _absent(quantity, [one.metric for one in alike if one.split == where.split])
    return outcome.curves.points[where].mean, outcome.curves.drawn[where]


def _absent(quantity: Quantity, found: Iterable[str]) -> StudyError:
    there = ", ".join(dict.fromkeys(found))
    return StudyError(
        "study.no_such_number",
        f"claim.expect: '{quantity}' did not come out of the study; there is "
        f"{there or 'nothing of the kind'}",
        fix="expect one of these, or give the family the probe or condition for it",
    )
