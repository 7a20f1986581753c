"""Which points of a claim's study make a line: over amounts of a shift, or of what a probe does."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.lecture.outcome import condition
from pipeline.probes import PROBES
from pipeline.shifts import NEUTRAL, Kind, shift_name
from pipeline.study.condition import Condition
from pipeline.study.learning_curve import Point

_PLAIN: Final = "as they are"
_AT: Final = re.compile(r"(.+) at ([0-9.e-]+)")  # a quantity that is measured at some amount


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Attributes:
        label: In the legend.
        number: Of its colour and marker.
        points: (place, point) of each, by rising place.
    """

    label: str
    number: int
    points: Sequence[tuple[float, Point]]


def by_kind(
    points: Sequence[Point], families: Sequence[str], conditions: Sequence[Condition]
) -> dict[Kind, list[Series]]:
    """Of each kind of shift that has several amounts: a line for each family and remedy."""
    curves = {}
    for kind in dict.fromkeys(one.kind for one in conditions):
        if _amounts(kind, conditions) > 1:
            places = {
                one: one.amount for one in conditions if one.kind == kind and not one.is_neutral
            }
            curves[kind] = _series(points, families, conditions, places, NEUTRAL[kind])
    return curves


def singly(
    points: Sequence[Point], families: Sequence[str], conditions: Sequence[Condition]
) -> tuple[list[str], list[Series]]:
    """Names of the shifts of one amount, first that of none, and the scores at each."""
    single = [
        one for one in conditions if _amounts(one.kind, conditions) == 1 and not one.is_neutral
    ]
    names = list(dict.fromkeys([_PLAIN, *(shift_name(one) for one in single)]))
    places = {one: float(names.index(shift_name(one))) for one in single}
    return names, _series(points, families, conditions, places, 0.0)


def _amounts(kind: Kind, conditions: Sequence[Condition]) -> int:
    return len({one.amount for one in conditions if one.kind == kind and not one.is_neutral})


def _series(
    points: Sequence[Point],
    families: Sequence[str],
    conditions: Sequence[Condition],
    places: Mapping[Condition, float],
    neutral: float,
) -> list[Series]:
    """Scores at the places of conditions, and at ``neutral`` of scans that are not shifted."""
    found = {(point.family, condition(point)): point for point in points}
    remedies = list(dict.fromkeys(["", *(_remedy(one) for one in conditions)]))
    unshifted = {"": ""} | {_remedy(one): str(one) for one in conditions if one.is_neutral}
    lines = []
    for number, (family, remedy) in enumerate((f, r) for f in families for r in remedies):
        placed = [
            (at, found[family, str(one)]) for one, at in places.items() if _remedy(one) == remedy
        ]
        if remedy in unshifted:
            placed.append((neutral, found[family, unshifted[remedy]]))
        label = f"{family}, then {remedy}" if remedy else family
        lines.append(Series(label, number, sorted(placed, key=lambda pair: pair[0])))
    return lines


def _remedy(one: Condition) -> str:
    return one.then.kind if one.then else ""


def quantity_of(name: str) -> str:
    """``probe/pgd accuracy at 0.02`` -> ``probe/accuracy``: what is measured, not where or how."""
    probe, _, quantity = name.partition("/")
    at = _AT.fullmatch(quantity)
    return f"{probe}/{at[1].split()[-1]}" if at else name


def sweeps(points: Sequence[Point], families: Sequence[str], name: str) -> list[Series]:
    """A line for each family, and each way to do it; at 0 what is measured untouched."""
    lines: dict[str, list[tuple[float, Point]]] = defaultdict(list)
    probe, _, quantity = name.partition("/")
    begins = quantity in PROBES[probe].untouched
    begin = {point.family: point for point in points if begins and point.metric == name}
    several = len({point.family for point in points}) > 1
    for point in sorted(points, key=lambda point: families.index(point.family)):
        if at := _AT.fullmatch(point.metric.partition("/")[2]):
            way = " ".join(at[1].split()[:-1])
            words = ([point.family] if several or not way else []) + ([way] if way else [])
            line = lines[", ".join(words)]
            if not line and point.family in begin:
                line.append((0.0, begin[point.family]))
            line.append((float(at[2]), point))
    looks = {name: number for number, name in enumerate(families)}
    return [
        Series(label, looks.get(label, number), line)
        for number, (label, line) in enumerate(lines.items())
    ]
