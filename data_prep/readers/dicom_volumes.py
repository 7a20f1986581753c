"""Several volumes in one series: other planes, time points, echoes, diffusion directions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from data_prep.readers.dicom_header import SliceHeader
from data_prep.readers.dicom_stack import on_same_grid, places, same_orientation, unit_normal

# Fewer images cannot show that they are evenly spaced, and so a stack of their own.
_LEAST_STACK: Final = 3


def split_grids(headers: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Part placed images by matrix, pixel spacing and orientation, where each part is a volume.

    A slice or two that differ are a fault of the one volume, and so are two grids that share out
    its length: then the images stay together, for ``check_same_grid`` to refuse.
    """
    parts: list[list[SliceHeader]] = []
    for header in headers:
        part = next((part for part in parts if on_same_grid(part[0], header)), None)
        if part is None:
            parts.append([header])
        else:
            part.append(header)
    whole = all(len(part) >= _LEAST_STACK for part in parts)
    if whole and not any(_share_out(a, b) for a, b in combinations(parts, 2)):
        return parts
    return [list(headers)]


def _share_out(a: Sequence[SliceHeader], b: Sequence[SliceHeader]) -> bool:
    """True for stacks of one orientation that cover less than half of one another's length."""
    if not same_orientation(a[0], b[0]):
        return False
    ends = [_extent(part, a[0]) for part in (a, b)]
    common = min(high for _, high in ends) - max(low for low, _ in ends)
    return common < min(high - low for low, high in ends) / 2


def _extent(part: Sequence[SliceHeader], first: SliceHeader) -> tuple[float, float]:
    """Where a stack begins and ends along the normal of ``first``."""
    distance = np.array([h.position for h in part]) @ unit_normal(first)
    return float(distance.min()), float(distance.max())


def split_volumes(headers: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Split images of one orientation into volumes that hold each position once.

    The images are parted by each of ``TIME_KEYS`` in turn, wherever every part then still covers
    all positions. If that leaves repeats, and the header states as many time points as there are
    images at each position, the instance number orders them.

    Returns:
        Volumes in order of the keys; one with repeats in it if they cannot be told apart.
    """
    place = places(headers)
    if len(set(place)) == len(headers):
        return [list(headers)]
    everywhere = set(place)
    parts = [list(range(len(headers)))]
    for key in range(len(headers[0].time_key)):
        finer: list[list[int]] = []
        for part in parts:
            by_value: dict[str, list[int]] = defaultdict(list)
            for n in part:
                by_value[headers[n].time_key[key]].append(n)
            whole = all({place[n] for n in half} == everywhere for half in by_value.values())
            finer += [by_value[v] for v in sorted(by_value, key=_natural)] if whole else [part]
        parts = finer
    repeats = {len(part) / len(everywhere) for part in parts}
    if repeats != {1.0} and repeats == {float(headers[0].time_points or 0) / len(parts)}:
        parts = [point for part in parts for point in _by_instance(part, place, headers)]
    return [[headers[n] for n in part] for part in parts]


def _by_instance(
    part: list[int], place: list[int], headers: Sequence[SliceHeader]
) -> list[list[int]]:
    """The t-th image at each position, by instance number, makes volume t."""
    at: dict[int, list[int]] = defaultdict(list)
    for n in sorted(part, key=lambda n: headers[n].instance_number):
        at[place[n]].append(n)
    if len({len(images) for images in at.values()}) != 1:
        return [part]
    return [list(volume) for volume in zip(*at.values(), strict=True)]


def _natural(value: str) -> tuple[float, str]:
    try:
        return (float(value), value)
    except ValueError:
        return (0.0, value)
