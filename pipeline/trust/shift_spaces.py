"""The four sides from which a scan is compared with the training scans, as numbers.

``metadata`` is how it was taken, ``histogram`` its intensities as read and as prepared and the
steps between neighbouring voxels, ``pixels`` the prepared scan in small, ``features`` what the
model sees of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.scan_look import ScanLook
from pipeline.trust.shift_cloud import Cloud, Rows, fold

Part = Literal["metadata", "histogram", "pixels", "features"]
PARTS: Final[tuple[Part, ...]] = ("metadata", "histogram", "pixels", "features")

# Field -> value -> training scans that have it.
Kinds = dict[str, dict[str, int]]

# A spacing or a size counts as differing by 2 % at least.
LEAST_LENGTH: Final = 0.02
_MOST_KINDS: Final = 64  # a volume can lie in 48 ways
OTHER: Final = "(other)"


@dataclass(frozen=True, eq=False)
class Spaces:
    """Where the training scans lie, seen from each side.

    Attributes:
        clouds: Part -> its numbers. ``features`` is left out of a model that looks at nothing.
        kinds: The words of their metadata.
    """

    clouds: Mapping[Part, Cloud]
    kinds: Kinds

    @classmethod
    def fit(cls, looks: Sequence[ScanLook], features: Rows) -> Spaces:
        """Of the training scans (N looks, (N, D) features), N at least 2."""
        parts = [part for part in PARTS if part != "features" or features.shape[1]]
        clouds = {}
        for part in parts:
            rows = rows_of(part, looks, features)
            clouds[part] = Cloud.fit(rows, LEAST_LENGTH) if part == "metadata" else Cloud.fit(rows)
        return cls(clouds, _kinds_of(looks))

    def coordinates(
        self, looks: Sequence[ScanLook], features: Rows
    ) -> dict[Part, NDArray[np.float32]]:
        """Part -> (N, K) coordinates of unit variance, with a column for each word."""
        found = {
            part: cloud.coordinates(rows_of(part, looks, features))
            for part, cloud in self.clouds.items()
        }
        words = kinds_columns(self.kinds, looks)
        found["metadata"] = np.hstack([found["metadata"], words])
        return {part: values.astype(np.float32) for part, values in found.items()}

    def distances(self, looks: Sequence[ScanLook], features: Rows) -> NDArray[np.float32]:
        """(N, parts x 2): of each part, ``Cloud.distances``; words count as in the first."""
        columns = []
        for part, cloud in self.clouds.items():
            found = cloud.distances(rows_of(part, looks, features))
            if part == "metadata":
                found[:, 0] = np.sqrt(found[:, 0] ** 2 + kinds_surprise(self.kinds, looks))
            columns.append(found)
        return np.hstack(columns).astype(np.float32)

    @property
    def widths(self) -> dict[Part, int]:
        """Part -> K of ``coordinates``."""
        words = sum(len(counts) + 1 for counts in self.kinds.values())
        return {
            part: len(cloud.variances) + (words if part == "metadata" else 0)
            for part, cloud in self.clouds.items()
        }


def rows_of(part: Part, looks: Sequence[ScanLook], features: Rows) -> Rows:
    """(N, D) numbers of each scan; of ``metadata`` those that are no words (``kinds_columns``)."""
    match part:
        case "metadata":
            return np.array([look.lengths for look in looks])
        case "histogram":
            return np.array([[*look.raw, *look.prepared, *look.texture] for look in looks])
        case "pixels":
            return fold(np.array([look.small for look in looks]))
        case "features":
            return fold(np.asarray(features))


def _kinds_of(looks: Sequence[ScanLook]) -> Kinds:
    """How many scans have each word of their metadata; the 64 commonest by name."""
    found = {}
    for field in looks[0].kinds:
        counts = Counter(look.kinds[field] for look in looks)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = dict(ordered[:_MOST_KINDS])
        if rest := sum(n for _, n in ordered[_MOST_KINDS:]):
            kept[OTHER] = rest
        found[field] = kept
    return found


def kinds_surprise(kinds: Kinds, looks: Sequence[ScanLook]) -> NDArray[np.float64]:
    """(N,) minus twice the log probability of each scan's words, as if they were independent.

    A word that no training scan has counts as half a scan (Krichevsky and Trofimov 1981). Of
    Gaussian numbers the same is the squared Mahalanobis distance, so that the two can be added.
    """
    return np.array([_surprise(kinds, look) for look in looks])


def _surprise(kinds: Kinds, look: ScanLook) -> float:
    total = 0.0
    for field, value in look.kinds.items():
        counts = kinds[field]
        scans = sum(counts.values())
        seen = counts.get(value, 0)
        total -= 2 * math.log((seen + 0.5) / (scans + 0.5 * (len(counts) + 1)))
    return total


def kinds_columns(kinds: Kinds, looks: Sequence[ScanLook]) -> NDArray[np.float64]:
    """(N, words + fields) 0 or 1: which word each scan has, the last of a field: none of them."""
    rows = []
    for look in looks:
        row: list[bool] = []
        for field, counts in kinds.items():
            value = look.kinds[field]
            row += [*(value == name for name in counts), value not in counts]
        rows.append(row)
    return np.array(rows, dtype=np.float64)
