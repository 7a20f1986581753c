"""Which scans have an attribute in common: one sex, one scanner, one quarter of the ages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

FEWEST_PATIENTS: Final = 10  # of fewer, a subgroup is told and not scored
UNKNOWN: Final = "unknown"
_MOST_NUMBERS: Final = 8  # of more distinct numbers, quarters are made


def groups_of(values: NDArray[np.str_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The groups of an attribute, in order; unknown comes last.

    Args:
        values: (N,) text; "" where it is unknown.

    Yields:
        Name of the group, and (N,) which scans are in it.
    """
    known = values != ""
    numbers = _numbers(values[known])
    if numbers is not None and len(np.unique(numbers)) > _MOST_NUMBERS:
        yield from _quarters(known, numbers)
    else:
        ordered = sorted(set(values[known].tolist()), key=_by_number)
        yield from ((value, values == value) for value in ordered)
    if not known.all():
        yield UNKNOWN, ~known


def _quarters(
    known: NDArray[np.bool_], numbers: NDArray[np.float64]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    edges = np.unique(np.quantile(numbers, (0.25, 0.5, 0.75)))
    quarter = np.searchsorted(edges, numbers, side="left")  # an edge belongs to what is below it
    for number in np.unique(quarter):
        mine = numbers[quarter == number]
        chosen = np.zeros(len(known), dtype=bool)
        chosen[known] = quarter == number
        yield f"{mine.min():g} to {mine.max():g}", chosen


def _numbers(values: NDArray[np.str_]) -> NDArray[np.float64] | None:
    try:
        numbers = values.astype(np.float64)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _by_number(value: str) -> tuple[float, str]:
    """Numbers by size, then words."""
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value
