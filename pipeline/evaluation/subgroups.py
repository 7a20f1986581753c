"""Which scans have an attribute in common: one sex, one scanner, one quarter of the ages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

FEWEST_PATIENTS: Final = 10  # a group of fewer is not told by name
UNKNOWN: Final = "unknown"
OTHER: Final = "other"  # groups of few patients, together
_MOST_NUMBERS: Final = 8  # of more distinct numbers, quarters are made

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Group:
    """Scans with one value of an attribute.

    Attributes:
        attribute, name: Which.
        chosen: (N,) which scans are in it.
        also: What the same scans, and no others, have in common besides: ``attribute: name``.
    """

    attribute: str
    name: str
    chosen: Mask
    also: tuple[str, ...] = ()


def divisions(subgroups: Mapping[str, NDArray[np.str_]], patient: NDArray[np.int64]) -> list[Group]:
    """The groups of every attribute that divides the scans, attribute after attribute.

    Groups of fewer than 10 patients are one, ``other``, whose values nobody is told: a rare value
    tells who it is. It is left out where it is of one patient. An attribute that divides the scans
    as one before it does is told with that one's groups.

    Args:
        subgroups: Attribute -> (N,) text; "" where it is unknown.
        patient: (N,) patient of each scan.
    """
    found: dict[tuple[bytes, ...], list[Group]] = {}
    for attribute, values in subgroups.items():
        groups = [Group(attribute, name, chosen) for name, chosen in groups_of(values)]
        told = _without_few(groups, patient)
        if len(told) < 2:  # all scans, or all but a patient's
            continue
        ordered = sorted(told, key=lambda group: group.chosen.tobytes())
        key = tuple(group.chosen.tobytes() for group in ordered)
        if key in found:
            found[key] = [_joined(group, ordered) for group in found[key]]
        else:
            found[key] = told
    return [group for told in found.values() for group in told]


def _without_few(groups: Sequence[Group], patient: NDArray[np.int64]) -> list[Group]:
    def patients(chosen: Mask) -> int:
        return len(np.unique(patient[chosen]))

    few = [group for group in groups if patients(group.chosen) < FEWEST_PATIENTS]
    if not few:
        return list(groups)
    rest = [group for group in groups if group not in few and group.name != OTHER]
    named = [group for group in groups if group not in few and group.name == OTHER]
    together = np.any([group.chosen for group in (*few, *named)], axis=0)
    if patients(together) == 1:
        return rest
    return [*rest, Group(groups[0].attribute, OTHER, together)]


def _joined(group: Group, same: Sequence[Group]) -> Group:
    (twin,) = (one for one in same if np.array_equal(one.chosen, group.chosen))
    return replace(group, also=(*group.also, f"{twin.attribute}: {twin.name}"))


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
