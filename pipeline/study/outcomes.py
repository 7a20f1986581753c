"""What fits do on the test scans: are probabilities true, and what is taken for what.

Counts and shares over scans, so that nothing here is of a single scan or patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.study.components import Truth
from pipeline.study.confusion import Confusion, Difficulty, confusion, difficulty, missed
from pipeline.study.reliability import Calibration, ReliabilityBin, calibration, reliability
from pipeline.study.terms import Cells, Floats


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One family at one size.

    Attributes:
        family, size: Which.
        bins: Its reliability diagram.
        calibration: In two numbers.
        confusion: Its confusion matrix (one for each label of a multi-label task).
        difficulty: How its fits agree, over all scans and class by class.
        missed: (N, Q) decisions that more than half of its fits get wrong.
    """

    family: str
    size: int
    bins: tuple[ReliabilityBin, ...]
    calibration: Calibration
    confusion: tuple[Confusion, ...]
    difficulty: tuple[Difficulty, ...]
    missed: NDArray[np.bool_]


def outcomes(family: str, size: int, p: Floats, truth: Truth) -> Outcomes:
    """Look at one family's predictions at one size.

    Args:
        family, size: Which.
        p: (D, S, N, K) probabilities on the test scans; NaN throughout where a cell failed.
        truth: Of the test scans.

    Raises:
        StudyError: ``study.no_cells``.
    """
    cells = Cells.of(p)
    bins = reliability(family, size, cells, truth)
    return Outcomes(
        family,
        size,
        bins=tuple(bins),
        calibration=calibration(bins),
        confusion=tuple(confusion(family, size, cells, truth)),
        difficulty=tuple(difficulty(family, size, cells, truth)),
        missed=missed(cells, truth),
    )
