"""What limits a family at a size: bias, the choice of patients, the seed, or the labels' noise.

The rule, on the terms of the squared loss and their resamples (paired, so that a difference of two
terms has an interval of its own); "larger" means that the interval of the difference excludes 0:

1. *At the noise floor*: noise is known (a phantom) and the upper end of (total - noise) / total
   stays below ``FLOOR``.
2. *Bias-limited*: bias^2 is larger than all variance.
3. *Variance-limited*: variance is larger than bias^2; *(patients)* or *(seed)* if that part is
   larger than the other, or is the only one that was measured.
4. *Undecided* otherwise.

Rules 2 to 4 are applied to two estimates, for the correction for subsets that share patients is
exact for the part of a prediction that is a mean over patients only (see ``decomposition``). What a
fit owes to chance that no two fits share (with one seed it counts as variance by patients) is
divided by 1 - n/N like the rest, though it does not shrink as subsets come to overlap. So the
corrected variance is the most there can be, and the uncorrected the least. Where both say the same
(or both some kind of variance-limited: then that), it is the verdict; else it is *not settled*.

Where every training patient is used there is one subset, and the variance by choice of patients
stands in bias^2. The variance at the next smaller size is then taken for it, as the most it can be:
variance does not rise with more patients. What is bias-limited after that is so all the more; a
variance-limited verdict by patients is not given on borrowed numbers.

On real data bias^2 holds the labels' noise, so *bias-limited* there means bias or noise. The noise
is no more than the smallest bias^2 of any family at the size: what a family has beyond that is its
own (``beyond_noise``) if it is above 0 in a one-sided test at (1 - level)/2 by its bootstrapped
standard error, adjusted by Holm's rule for all families and sizes that are looked at. The smallest
is taken uncorrected and the family's corrected, the most and the least that they can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy.stats import norm

from pipeline.study.components import Decomposed
from pipeline.study.learning_curve import interval
from pipeline.study.mean_gain import holm
from pipeline.study.terms import Floats

FLOOR: Final = 0.1  # at most this share of the loss could still be saved

Limit = Literal[
    "at the noise floor",
    "bias-limited",
    "variance-limited (patients)",
    "variance-limited (seed)",
    "variance-limited",
    "undecided",
    "not settled",
]

_KINDS_OF_VARIANCE: Final[frozenset[Limit]] = frozenset(
    ("variance-limited (patients)", "variance-limited (seed)", "variance-limited")
)


@dataclass(frozen=True)
class Verdict:
    """What limits one family at one size.

    Attributes:
        family, size: Which.
        limit: The verdict.
        corrected, uncorrected: What the rule says with and without the correction for subsets that
            share patients.
        borrowed_from: Size whose variance_data stands in for that of this size; 0 if none.
        noise_known: Whether noise is a term of its own; else it is part of the bias.
        beyond_noise: Whether part of the bias is the family's own, of all families and sizes.
    """

    family: str
    size: int
    limit: Limit
    corrected: Limit
    uncorrected: Limit
    borrowed_from: int
    noise_known: bool
    beyond_noise: bool


def verdicts(found: Sequence[Decomposed], level: float) -> list[Verdict]:
    """The verdict of every family and size, in the given order."""
    places, own = [], []
    for one in found:
        below = [other for other in found if other.family == one.family and other.size < one.size]
        previous = max(below, key=lambda other: other.size, default=None)
        beside = [other for other in found if other.size == one.size]
        best = min(beside, key=_uncorrected_bias)
        places.append((one, previous))
        own.append(_above_zero(_own_bias(one, previous, best)))
    return [
        _verdict(one, previous, p <= (1 - level) / 2, level)
        for (one, previous), p in zip(places, holm(own), strict=True)
    ]


def _own_bias(one: Decomposed, previous: Decomposed | None, best: Decomposed) -> Floats:
    """(R,) the least that can be of bias^2 beyond the noise of the labels; NaN if not known."""
    least = one.squared["bias2"].drawn
    if _or_none(one, "variance_data") is None:
        borrowed = _borrowed(one, previous)
        least = least - (np.full_like(least, np.nan) if borrowed is None else borrowed)
    return least if _or_none(one, "noise") is not None else least - _uncorrected(best)[0]


def _borrowed(one: Decomposed, previous: Decomposed | None) -> Floats | None:
    """(R,) variance by patients at the size below, for a size that has none."""
    if previous is None or _or_none(one, "variance_data") is not None:
        return None
    return _or_none(previous, "variance_data")


def _above_zero(drawn: Floats) -> float:
    """One-sided p of a mean of 0 or less, by the resamples' spread; NaN where it is unknown."""
    known = drawn[~np.isnan(drawn)]
    if not known.size:
        return math.nan
    if not known.std() > 0:
        return 0.0 if known.mean() > 0 else 1.0
    return float(norm.sf(known.mean() / known.std()))


def _verdict(one: Decomposed, previous: Decomposed | None, beyond: bool, level: float) -> Verdict:
    noise, bias2 = _or_none(one, "noise"), one.squared["bias2"].drawn
    data, seed = _or_none(one, "variance_data"), _or_none(one, "variance_seed")
    borrowed = _borrowed(one, previous)
    lender = previous.size if previous is not None and borrowed is not None else 0
    corrected: Limit
    uncorrected: Limit
    if noise is not None and _high(_left(one, noise), level) < FLOOR:
        corrected, uncorrected, lender = "at the noise floor", "at the noise floor", 0
    elif data is not None:
        corrected = _limit(bias2, data, seed, level)
        uncorrected = _limit(*_uncorrected(one), seed, level)
    else:
        corrected = uncorrected = _with_one_subset(bias2, borrowed, seed, level)
    return Verdict(
        family=one.family,
        size=one.size,
        limit=_agreed(corrected, uncorrected),
        corrected=corrected,
        uncorrected=uncorrected,
        borrowed_from=lender,
        noise_known=noise is not None,
        beyond_noise=beyond,
    )


def _uncorrected(one: Decomposed) -> tuple[Floats, Floats]:
    """(R,) bias^2, and variance by patients, of subsets taken as if they shared no patient."""
    bias2, data = one.squared["bias2"].drawn, _or_none(one, "variance_data")
    if data is None:
        return bias2, np.zeros_like(bias2)
    return bias2 + one.overlap * data, (1 - one.overlap) * data


def _uncorrected_bias(one: Decomposed) -> float:
    data = one.squared["variance_data"].value
    return one.squared["bias2"].value + (0.0 if math.isnan(data) else one.overlap * data)


def _agreed(corrected: Limit, uncorrected: Limit) -> Limit:
    if corrected == uncorrected:
        return corrected
    both = {corrected, uncorrected} <= _KINDS_OF_VARIANCE
    return "variance-limited" if both else "not settled"


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
