"""Is a whole batch drawn like the cohort that a model was trained on?

One scan of a cohort whose scanner is a little brighter is nothing odd; a hundred of them are.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.files import digest
from data_prep.scan_look import ScanLook
from pipeline.trust.shift_reference import ShiftReference
from pipeline.trust.two_sample import MAX_SCANS, batch_test

# Fewer scans are told nothing from: no division of them could differ much.
LEAST_SCANS = 5
_DECIMALS = 3  # of 999 permutations


@dataclass(frozen=True)
class BatchShift:
    """What the test of a batch found.

    Attributes:
        scans: Scans that were compared.
        p_value: Of all sides together: small where the batch is drawn otherwise.
        p_values: Side -> of it alone.
    """

    scans: int
    p_value: float
    p_values: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        return {"scans": self.scans, "p_value": self.p_value, "p_values": self.p_values}


@dataclass(order=True)
class _Kept:
    rank: int
    look: ScanLook = field(compare=False)
    features: NDArray[np.float32] = field(compare=False)
    patient: str = field(compare=False)


class BatchSample:
    """At most 400 scans of a batch, the same ones in whatever order they come."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []  # a heap, the largest rank on top

    def add(self, name: str, look: ScanLook, features: NDArray[np.float32], patient: str) -> None:
        """Take note of a scan; ``patient`` is "" where it is not known."""
        rank = -int(digest(["batch", name])[:12], 16)
        if len(self._kept) == MAX_SCANS and rank < self._kept[0].rank:
            return
        # Copies: what a child sent is a view of memory that holds its whole chunk of scans.
        numbers = {
            part: getattr(look, part).copy() for part in ("raw", "prepared", "texture", "small")
        }
        kept = _Kept(rank, replace(look, **numbers), features.copy(), patient or f"scan {name}")
        heapq.heappush(self._kept, kept)
        if len(self._kept) > MAX_SCANS:
            heapq.heappop(self._kept)

    def test(self, reference: ShiftReference | None) -> BatchShift | None:
        """Compare the scans with those held out of training; None where there is too little."""
        if reference is None or len(self._kept) < LEAST_SCANS:
            return None
        kept = sorted(self._kept)
        found = batch_test(
            reference,
            [one.look for one in kept],
            np.stack([one.features for one in kept]),
            [one.patient for one in kept],
        )
        return BatchShift(
            scans=len(kept),
            p_value=round(found.p_value, _DECIMALS),
            p_values={side: round(p, _DECIMALS) for side, p in found.p_values.items()},
        )
