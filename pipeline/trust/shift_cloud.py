"""Where the training scans lie in a space of numbers, and how far from them another scan is.

Two distances, for each misses what the other finds (docs/shift.md). The first is to the middle of a
Gaussian whose covariance is shrunk (Ledoit and Wolf 2004, "A well-conditioned estimator for
large-dimensional covariance matrices") and, beyond its leading directions, alike in all: the
Mahalanobis distance of Lee et al. 2018, "A simple unified framework for detecting
out-of-distribution samples", with what the leading directions leave over, which Wang et al. 2022,
"ViM", found to tell most. It finds scans that differ where training scans hardly do. The second is
to the third nearest of some training scans (Sun et al. 2022, "Out-of-distribution detection with
deep nearest neighbors"). It finds scans that lie in the midst of training scans of several kinds
and are like none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Rows = NDArray[np.floating[Any]]

MAX_DIRECTIONS: Final = 32
MAX_POINTS: Final = 150
_NEIGHBOUR: Final = 3
_SEED: Final = 0x5EED
# More numbers than this are folded together before anything else.
MAX_WIDTH: Final = 256
# A number that hardly differs between training scans counts as differing by this share of what the
# others differ by, or of its own size: else its first rounding error would be the greatest shift.
_LEAST_OF_OTHERS: Final = 0.1
_LEAST_OF_SIZE: Final = 1e-3
_LEAST: Final = 1e-6
# Of numbers that are divided by their scales.
_LEAST_VARIANCE: Final = 1e-3
# Distances are cut here, which also stands for NaN: further is no different.
FARTHEST: Final = 1e6


@dataclass(frozen=True, eq=False)
class Cloud:
    """The training scans in one space.

    Attributes:
        mean: (D,) float32.
        scale: (D,) float32, what each number is divided by.
        directions: (K, D) float32 orthonormal, of largest variance first.
        variances: (K + 1,) float32 along each direction; the last along every other one.
        points: (at most 150, K + 1) float32 training scans: along each direction, and how far off.
    """

    ARRAYS: ClassVar = ("mean", "scale", "directions", "variances", "points")

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    directions: NDArray[np.float32]
    variances: NDArray[np.float32]
    points: NDArray[np.float32]

    @classmethod
    def fit(cls, rows: Rows, least: float = _LEAST) -> Cloud:
        """Of (N, D) training scans, N at least 2; ``least``: the smallest scale of a number."""
        # Imported for fitting alone: it takes a second, and a batch of scans is to begin soon.
        from sklearn.covariance import ledoit_wolf_shrinkage

        rows = rows.astype(np.float64)
        n, width = rows.shape
        mean, spread = rows.mean(axis=0), rows.std(axis=0, ddof=1)
        floor = max(_LEAST_OF_OTHERS * _size(spread), _LEAST_OF_SIZE * _size(mean), least)
        scale = np.maximum(spread, floor)
        standard = (rows - mean) / scale
        shrinkage = float(ledoit_wolf_shrinkage(standard, assume_centered=True))
        _, singular, directions = np.linalg.svd(standard, full_matrices=False)
        found = singular**2 / n
        average = found.sum() / width
        kept = min(MAX_DIRECTIONS, len(found), max(1, n // 4))
        beyond = found[kept:].sum() / max(1, width - kept)
        shrunk = (1 - shrinkage) * np.append(found[:kept], beyond) + shrinkage * average
        cloud = cls(
            mean=mean.astype(np.float32),
            scale=scale.astype(np.float32),
            directions=directions[:kept].astype(np.float32),
            variances=np.maximum(shrunk, _LEAST_VARIANCE).astype(np.float32),
            points=np.zeros((0, kept + 1), dtype=np.float32),
        )
        return replace(cloud, points=cloud._along(rows[some(n, MAX_POINTS)]).astype(np.float32))

    def coordinates(self, rows: Rows) -> NDArray[np.float64]:
        """(N, D) -> (N, K + 1) of unit variance; the last is the length of what is left over."""
        found = self._along(rows) / np.sqrt(self.variances.astype(np.float64))
        return np.clip(found, -FARTHEST, FARTHEST)

    def distances(self, rows: Rows) -> NDArray[np.float64]:
        """(N, D) -> (N, 2): Mahalanobis distance, and that to the third nearest of ``points``."""
        along, points = self._along(rows), self.points.astype(np.float64)
        middle = np.sqrt((along**2 / self.variances.astype(np.float64)).sum(axis=1))
        near = np.partition(cdist(along, points), min(_NEIGHBOUR, len(points)) - 1, axis=1)
        nearest = near[:, min(_NEIGHBOUR, len(points)) - 1]
        found: NDArray[np.float64] = np.minimum(np.column_stack([middle, nearest]), FARTHEST)
        return found

    def _along(self, rows: Rows) -> NDArray[np.float64]:
        standard = np.nan_to_num((rows.astype(np.float64) - self.mean) / self.scale, nan=FARTHEST)
        standard = np.clip(standard, -FARTHEST, FARTHEST)
        along = standard @ self.directions.T.astype(np.float64)
        left = np.sqrt(np.maximum((standard**2).sum(axis=1) - (along**2).sum(axis=1), 0))
        return np.column_stack([along, left])

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What ``of_arrays`` makes the same cloud of."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Cloud:
        """The cloud that ``arrays`` described.

        Raises:
            ValueError: With the array that does not fit.
        """
        width = arrays["mean"].shape[0] if arrays["mean"].ndim == 1 else -1
        kept = len(arrays["directions"])
        wanted = {
            "mean": (width,),
            "scale": (width,),
            "directions": (kept, width),
            "variances": (kept + 1,),
            "points": (len(arrays["points"]), kept + 1),
        }
        for name, shape in wanted.items():
            found = arrays[name]
            if found.shape != shape or found.dtype != np.float32:
                raise ValueError(f"'{name}' is {found.shape} {found.dtype}, not {shape} float32")
            if not np.isfinite(found).all():
                raise ValueError(f"'{name}' holds NaN or infinite numbers")
            if name in ("scale", "variances") and not (found > 0).all():
                raise ValueError(f"'{name}' holds numbers that are not above 0")
        return cls(**{name: arrays[name] for name in wanted})


def fold(rows: Rows) -> Rows:
    """(N, D) -> (N, at most 256): wide rows are summed into places with signs, both fixed.

    Feature hashing (Weinberger et al. 2009) keeps distances in expectation, needs no stored matrix
    and no random numbers.
    """
    width = rows.shape[1]
    if width <= MAX_WIDTH:
        return rows
    mixed = _mix(np.arange(width, dtype=np.uint64))
    places = (mixed % np.uint64(MAX_WIDTH)).astype(np.intp)
    signs = np.where(mixed >> np.uint64(63), 1.0, -1.0)
    folded = np.zeros((len(rows), MAX_WIDTH))
    np.add.at(folded.T, places, (rows * signs).T)
    return folded


def some(n: int, most: int) -> NDArray[np.intp]:
    """Positions (min(n, most),) of ``n`` scans, rising; drawn with a fixed seed."""
    return np.sort(np.random.default_rng(_SEED).permutation(n)[:most])


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit depends on every bit."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _size(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
