"""How claims are put to the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.study.claim import ClaimMode


@dataclass(frozen=True)
class Mode:
    """How claims are put to the test.

    Attributes:
        quick: Run them small, and ask for directions only.
        flip: Undo the mechanism of each: it must then fail.
        real: Run them on public cohorts too; else a page keeps what it says of them.
    """

    quick: bool = False
    flip: bool = False
    real: bool = False

    @property
    def recorded(self) -> ClaimMode:
        """As the study and its runs in MLflow have it; real scans are cohorts of their own."""
        if self.flip:
            return "quick flipped" if self.quick else "flipped"
        return "quick" if self.quick else "full"


FULL: Final = Mode()
