"""The contract by which other things are written beside the tables of a batch.

Pictures, reports and maps are made of scans while these are at hand: each of them is a ``Beside``,
and ``inference.predict`` calls it. What it writes must not depend on how the work was cut (batch
size, workers, engine) nor on the date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import ScanError
from data_prep.readers.source import ScanSource
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import Prediction, PredictionSummary

EXTRA_FAILED: Final = "extra_failed"
EXTRA_FLAGS: Final = {
    EXTRA_FAILED: "what was to be written of the scan beside its row could not be: see extras.csv"
}


@dataclass(frozen=True, eq=False)
class ScoredScan:
    """One scan that got an answer.

    Attributes:
        row: As the tables have it.
        root: What the paths of ``source`` are relative to.
        source: Its files.
        array: (C, I, J[, K]) as the model saw it.
    """

    row: Prediction
    root: Path
    source: ScanSource
    array: NDArray[np.float32]


class Beside(Protocol):
    """Writes something of each scored scan, and something of the whole batch."""

    def scan(self, folder: Path, scored: ScoredScan) -> None:
        """Write what is to be written of one scan; called once for each, in any order.

        Args:
            folder: The output folder as it is being written, private to this batch.
            scored: The scan; its array is not kept after this call.

        Raises:
            ScanError: This scan's extra cannot be made. It costs that extra only: the scan's row
                gets the flag ``extra_failed``, and ``extras.csv`` says why.
        """

    def finish(self, folder: Path, package: ModelPackage, summary: PredictionSummary) -> None:
        """Write what is to be written of the batch; the tables stand in ``folder`` by then."""


@dataclass(frozen=True)
class FailedExtra:
    """A line of ``extras.csv``: what could not be written of a scan, and why."""

    scan: str
    code: str
    reason: str


def write_beside(
    beside: Sequence[Beside], folder: Path, scored: ScoredScan
) -> tuple[Prediction, list[FailedExtra]]:
    """Have every one write of a scan; its row, flagged if one could not, and which could not."""
    failed = []
    for one in beside:
        try:
            one.scan(folder, scored)
        except ScanError as error:
            failed.append(FailedExtra(scored.row.scan, error.code, error.message))
    row = scored.row
    return (replace(row, flags=(*row.flags, EXTRA_FAILED)) if failed else row), failed
