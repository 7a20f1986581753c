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

On real data bias^2 holds the labels' noise, so *bias-limited* there means bias or noise. The noise
is no more than the smallest bias^2 of any family at the size: what a family has beyond that, with
an interval that excludes 0, is its own (``beyond_noise``).
"""

from __future__ import annotations

from collections.abc import Sequence
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
        beyond_noise: Whether part of the bias is the family's own for certain.
    """

    family: str
    size: int
    limit: Limit
    borrowed_from: int
    noise_known: bool
    beyond_noise: bool


def verdicts(found: Sequence[Decomposed], level: float) -> list[Verdict]:
    """The verdict of every family and size, in the given order."""
    said = []
    for one in found:
        below = [other for other in found if other.family == one.family and other.size < one.size]
        previous = max(below, key=lambda other: other.size, default=None)
        beside = [other for other in found if other.size == one.size]
        best = min(beside, key=lambda other: other.squared["bias2"].value)
        said.append(_verdict(one, previous, best, level))
    return said


def _verdict(
    one: Decomposed, previous: Decomposed | None, best: Decomposed, level: float
) -> Verdict:
    noise, bias2 = _or_none(one, "noise"), one.squared["bias2"].drawn
    data, seed = _or_none(one, "variance_data"), _or_none(one, "variance_seed")
    borrowed = _or_none(previous, "variance_data") if data is None and previous else None
    lender = previous.size if previous is not None and borrowed is not None else 0
    own = bias2 - (np.zeros_like(bias2) if borrowed is None else borrowed)
    least = 0.0 if noise is not None else best.squared["bias2"].drawn
    limit: Limit
    if noise is not None and _high(_left(one, noise), level) < FLOOR:
        limit, lender = "at the noise floor", 0
    elif data is not None:
        limit = _limit(bias2, data, seed, level)
    else:
        limit = _with_one_subset(bias2, borrowed, seed, level)
    beyond = _low(own - least, level) > 0
    return Verdict(one.family, one.size, limit, lender, noise is not None, beyond)


def _left(one: Decomposed, noise: Floats) -> Floats:
    """(R,) share of the loss that is not noise."""
    total = one.squared["total"].drawn
    left: Floats = (total - noise) / total
    return left


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


def _or_none(one: Decomposed, name: str) -> Floats | None:
    """(R,) resamples of a term; None where there is no such term, or the cells cannot tell it."""
    if name not in one.squared or np.isnan(one.squared[name].drawn).all():
        return None
    return one.squared[name].drawn


def _low(drawn: Floats, level: float) -> float:
    return interval(drawn, level)[0]


def _high(drawn: Floats, level: float) -> float:
    return interval(drawn, level)[1]
