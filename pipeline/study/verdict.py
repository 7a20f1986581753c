"""What limits a family at a size: bias, the choice of patients, the seed, or the labels' noise.

The rule, on the terms of the squared loss and their resamples (paired, so that a difference of two
terms has an interval of its own); "larger" means that the interval of the difference excludes 0:

1. *At the noise floor*: noise is known (a phantom) and the upper end of (total - noise) / total
   stays below ``FLOOR``.
2. *Bias-limited*: bias^2 is larger than all variance.
3. *Variance-limited*: variance is larger than bias^2; *(patients)* or *(seed)* if that part is
   larger than the other, or is the only one that was measured.
4. *Undecided* otherwise.

Where every training patient is used there is one subset, and the variance by choice of patients
stands in bias^2. The variance at the next smaller size is then taken for it, as the most it can be:
variance does not rise with more patients. What is bias-limited after that is so all the more; a
variance-limited verdict by patients is not given on borrowed numbers.

On real data bias^2 holds the labels' noise, so *bias-limited* there means bias or noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from pipeline.study.components import Decomposed
from pipeline.study.learning_curve import interval
from pipeline.study.terms import Floats

FLOOR: Final = 0.1  # at most this share of the loss could still be saved

Limit = Literal[
    "at the noise floor",
    "bias-limited",
    "variance-limited (patients)",
    "variance-limited (seed)",
    "variance-limited",
    "undecided",
]


@dataclass(frozen=True)
class Verdict:
    """What limits one family at one size.

    Attributes:
        family, size: Which.
        limit: The verdict.
        borrowed_from: Size whose variance_data stands in for that of this size; 0 if none.
        noise_known: Whether noise is a term of its own; else it is part of the bias.
    """

    family: str
    size: int
    limit: Limit
    borrowed_from: int
    noise_known: bool


def verdicts(found: Sequence[Decomposed], level: float) -> list[Verdict]:
    """The verdict of every family and size, in the given order."""
    by_place = {(one.family, one.size): one for one in found}
    said = []
    for one in found:
        below = [size for family, size in by_place if family == one.family and size < one.size]
        previous = by_place[one.family, max(below)] if below else None
        said.append(_verdict(one, previous, level))
    return said


def _verdict(one: Decomposed, previous: Decomposed | None, level: float) -> Verdict:
    drawn = {name: measured.drawn for name, measured in one.squared.items()}
    known = "noise" in drawn
    if known and _high((drawn["total"] - drawn["noise"]) / drawn["total"], level) < FLOOR:
        return Verdict(one.family, one.size, "at the noise floor", 0, known)
    seed = _or_none(drawn, "variance_seed")
    data = _or_none(drawn, "variance_data")
    if data is not None:
        limit = _limit(drawn["bias2"], data, seed, level)
        return Verdict(one.family, one.size, limit, 0, known)
    borrowed = None
    if previous is not None:
        borrowed = _or_none({n: m.drawn for n, m in previous.squared.items()}, "variance_data")
    limit = _with_one_subset(drawn["bias2"], borrowed, seed, level)
    lender = previous.size if previous is not None and borrowed is not None else 0
    return Verdict(one.family, one.size, limit, lender, known)


def _limit(bias2: Floats, data: Floats, seed: Floats | None, level: float) -> Limit:
    variance = data if seed is None else data + seed
    if _low(bias2 - variance, level) > 0:
        return "bias-limited"
    if not _high(bias2 - variance, level) < 0:
        return "undecided"
    if seed is None or _low(data - seed, level) > 0:
        return "variance-limited (patients)"
    return "variance-limited (seed)" if _high(data - seed, level) < 0 else "variance-limited"


def _with_one_subset(
    mixed: Floats, borrowed: Floats | None, seed: Floats | None, level: float
) -> Limit:
    """``mixed`` is bias^2 with the variance by patients in it, which is at most ``borrowed``."""
    nothing = np.zeros_like(mixed)
    seed = nothing if seed is None else seed
    if borrowed is not None and _low(mixed - 2 * borrowed - seed, level) > 0:
        return "bias-limited"
    return "variance-limited (seed)" if _low(seed - mixed, level) > 0 else "undecided"


def _or_none(drawn: Mapping[str, Floats], name: str) -> Floats | None:
    return None if np.isnan(drawn[name]).all() else drawn[name]


def _low(drawn: Floats, level: float) -> float:
    return interval(drawn, level)[0]


def _high(drawn: Floats, level: float) -> float:
    return interval(drawn, level)[1]
