"""The reliability diagram of one classifier: predicted against observed, each bin with an interval.

Questions and bins are those of the calibration error (``pipeline.evaluation.calibration_error``),
so that the diagram shows what the number sums up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Config
from data_prep.task import Task
from pipeline.evaluation.calibration_error import bins_of, predictions
from pipeline.metrics import check
from pipeline.shares import clustered_share
from pipeline.weighted_metrics import Floats, Labels


class ReliabilityBin(Config):
    """The predictions between two probabilities.

    Attributes:
        predicted: Mean predicted probability.
        observed, low, high: Share that came true, with its interval over patients.
        predictions: How many there are.
    """

    predicted: float
    observed: float
    low: float
    high: float
    predictions: int


def reliability(
    task: Task,
    target: Labels,
    probability: Floats,
    patient_ids: NDArray[np.str_],
    level: float = 0.95,
) -> tuple[ReliabilityBin, ...]:
    """How often what was predicted with a probability came true, by rising probability.

    Args:
        task: What was predicted.
        target: (N,) class indices, or (N, L) 0/1 for multi-label; N at least 1.
        probability: (N, n_classes).
        patient_ids: (N,) patient of each scan.
        level: Coverage of the intervals.

    Raises:
        ValueError: If the shapes do not fit, or a probability is NaN or infinite.
    """
    check(task, target, probability)
    said, true = (rows.ravel() for rows in predictions(task, target, probability))
    _, patient = np.unique(patient_ids, return_inverse=True)
    whose = np.repeat(patient, len(said) // len(patient))
    place = bins_of(said)
    found = []
    for number in range(int(place.max()) + 1):
        here = place == number
        whole = np.bincount(whose[here]).astype(np.float64)
        part = np.bincount(whose[here], true[here]).astype(np.float64)
        low, high = clustered_share(part[whole > 0], whole[whole > 0], level)
        found.append(
            ReliabilityBin(
                predicted=float(said[here].mean()),
                observed=float(true[here].mean()),
                low=low,
                high=high,
                predictions=int(here.sum()),
            )
        )
    return tuple(found)
