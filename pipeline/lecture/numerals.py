"""Numbers as a claim's page writes them."""

from __future__ import annotations

import math
from typing import Final

_COUNTS_FROM: Final = 1000.0  # where a number is a count and no score
_TINY_BELOW: Final = 0.0005  # where three decimals would say 0
_ROUNDING_BELOW: Final = 1e-12  # what sums of doubles leave of 0


def number(value: float, sign: str = "-") -> str:
    """A number in words: three decimals, whole above 1000, by its magnitude where tiny; a dash for
    what is undefined.
    """
    if math.isnan(value):
        return "–"
    if abs(value) >= _COUNTS_FROM:
        return f"{value:{sign},.0f}"
    if _ROUNDING_BELOW < abs(value) < _TINY_BELOW:
        return f"{value:{sign}.1e}"
    return f"{value:{sign}z.3f}"


def estimate(mean: float, low: float, high: float) -> str:
    """With its interval, where there is one that has a width."""
    if low == high == mean:
        return number(mean)
    return " ".join([number(mean), *spans(low, high)])


def spans(low: float, high: float, sign: str = "-") -> list[str]:
    """The interval in words; nothing where there is none."""
    return [] if math.isnan(low) else [f"[{number(low, sign)}, {number(high, sign)}]"]
