"""Do probabilities mean what they say? Predicted against observed, in bins, on the test scans.

What is asked depends on the task: how often class 1 is true where p was predicted for it (binary);
the same over all labels (multi-label); how often the most probable class is right where it had
probability p (multi-class and ordinal: Guo et al. 2017, "On calibration of modern neural
networks"). Every fit of a family counts alike: the diagram is of one classifier as a user would
have it, not of the mean of several.

Bins hold equal numbers of predictions, for bins of equal width are mostly empty where a classifier
is sure (Nixon et al. 2019, "Measuring calibration in deep learning"). The calibration error is the
mean distance of observed from predicted, weighted by predictions (Naeini et al. 2015). It is never
0 on a finite test set, so bins whose interval leaves the prediction out are counted as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.task import Task
from pipeline.study.components import Truth
from pipeline.study.rates import rate
from pipeline.study.terms import Cells, Floats

_MOST_BINS: Final = 10
_FEWEST_BINS: Final = 3
_SCANS_PER_BIN: Final = 15  # fewer say nothing


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions of one family between two probabilities.

    Attributes:
        family, size: Whose.
        bin: From 1, by rising probability.
        predicted: Mean predicted probability.
        observed, low, high: Share that came true, with interval.
        predictions: How many there are, on average over the fits.
    """

    family: str
    size: int
    bin: int
    predicted: float
    observed: float
    low: float
    high: float
    predictions: float


@dataclass(frozen=True)
class Calibration:
    """All bins of one family in two numbers.

    Attributes:
        family, size: Whose.
        error: Expected calibration error: mean distance of observed from predicted.
        off: Bins whose interval leaves the prediction out.
        bins: How many there are.
    """

    family: str
    size: int
    error: float
    off: int
    bins: int


def reliability(family: str, size: int, cells: Cells, truth: Truth) -> list[ReliabilityBin]:
    """The reliability diagram of one family at one size.

    Args:
        family, size: Which.
        cells: Probabilities on the test scans.
        truth: Of the test scans.
    """
    p, right = _questions(truth.task, truth.target, cells.p)
    placed = _placed(p, cells.present)
    found: list[ReliabilityBin] = []
    for place in range(int(placed.max()) + 1):
        here = placed == place
        counted = cells.term(here.sum(axis=3).astype(np.float64))
        if not counted.value.any():
            continue  # many predictions are equal, and stand together in another bin
        came_true = cells.term((here & right).sum(axis=3).astype(np.float64))
        predicted = cells.term(np.where(here, p, 0).sum(axis=3))
        observed = rate(came_true, counted, truth.patients, truth.level)
        found.append(
            ReliabilityBin(
                family,
                size,
                bin=len(found) + 1,
                predicted=float(predicted.value.sum() / counted.value.sum()),
                observed=observed.value,
                low=observed.low,
                high=observed.high,
                predictions=float(counted.value.sum()),
            )
        )
    return found


def calibration(bins: list[ReliabilityBin]) -> Calibration:
    """Summarise the bins of one family; at least one."""
    counts = np.array([one.predictions for one in bins])
    gaps = np.array([abs(one.observed - one.predicted) for one in bins])
    return Calibration(
        bins[0].family,
        bins[0].size,
        error=float(counts @ gaps / counts.sum()),
        off=sum(not one.low <= one.predicted <= one.high for one in bins),
        bins=len(bins),
    )


def _questions(
    task: Task, target: NDArray[np.int64], p: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """(D, S, N, Q) probability of each of Q answers to a scan, and whether it is true."""
    if task.is_multi_label:
        return p, np.broadcast_to(target.astype(bool), p.shape)
    if task.kind == "binary":
        right = np.broadcast_to((target == 1)[:, None], (*p.shape[:3], 1))
        return p[..., 1:], right
    return p.max(axis=3, keepdims=True), p.argmax(axis=3)[..., None] == target[:, None]


def _placed(p: Floats, present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Bin of each prediction; -1 where a cell is missing."""
    said = p[present]
    n_bins = min(_MOST_BINS, max(_FEWEST_BINS, p.shape[2] // _SCANS_PER_BIN))
    edges = np.unique(np.quantile(said, np.linspace(0, 1, n_bins + 1)[1:-1]))
    placed = np.searchsorted(edges, p, side="right")
    return np.where(present[..., None, None], placed, -1)
