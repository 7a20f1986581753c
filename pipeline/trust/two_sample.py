"""Are two groups of scans drawn alike? The kernel two-sample test, with patients kept whole.

Gretton et al. 2012, "A kernel two-sample test": the squared maximum mean discrepancy (MMD) under a
Gaussian kernel as wide as the median distance. Its p-value is the share of random divisions of the
same patients into two groups that differ as much, which is exact for any number of scans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from data_prep.scan_look import ScanLook
from pipeline.trust.shift_cloud import Rows, some
from pipeline.trust.shift_reference import ShiftReference

PERMUTATIONS: Final = 999
# Scans of a group that are compared at most: the kernel grows with their square.
MAX_SCANS: Final = 400
_SEED: Final = 0x7E57


@dataclass(frozen=True)
class TwoSample:
    """What a test of several sides of the same scans found.

    Attributes:
        scans: Of both groups, that were compared.
        groups: Patients of both, which were divided anew.
        p_values: Side -> p-value of that side alone.
        p_value: Of all sides together (Westfall and Young 1993: the same divisions for each).
    """

    scans: tuple[int, int]
    groups: tuple[int, int]
    p_values: Mapping[str, float]
    p_value: float


def two_sample(
    first: Mapping[str, Rows],
    second: Mapping[str, Rows],
    first_groups: Sequence[str],
    second_groups: Sequence[str],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = _SEED,
) -> TwoSample:
    """Test whether two sets of scans are drawn alike, from each of several sides.

    Args:
        first: Side -> (N, D) numbers of its scans.
        second: The same sides, (M, D).
        first_groups: (N,) the patient of each scan; patients are divided, never their scans.
        second_groups: (M,).
        permutations: Random divisions; no p-value is below 1 / (permutations + 1).
        seed: Decides which, and which scans stand for more than 400.
    """
    kept = [some(len(groups), MAX_SCANS) for groups in (first_groups, second_groups)]
    patients = [
        [(side, groups[n]) for n in chosen]
        for side, (groups, chosen) in enumerate(
            zip((first_groups, second_groups), kept, strict=True)
        )
    ]
    divisions = _divisions(*patients, permutations=permutations, seed=seed)
    statistics = {
        name: _discrepancies(np.vstack([rows[kept[0]], second[name][kept[1]]]), divisions)
        for name, rows in first.items()
    }
    # (sides, 1 + permutations): of each division the p-value that it would have itself.
    ranks = np.array([_p_values(found) for found in statistics.values()])
    least = ranks.min(axis=0)
    return TwoSample(
        scans=(len(patients[0]), len(patients[1])),
        groups=(len(set(patients[0])), len(set(patients[1]))),
        p_values={name: float(row[0]) for name, row in zip(statistics, ranks, strict=True)},
        p_value=float(np.mean(least <= least[0] + 1e-12)),
    )


def batch_test(
    reference: ShiftReference,
    looks: Sequence[ScanLook],
    features: Rows,
    patients: Sequence[str] = (),
) -> TwoSample:
    """Test whether a batch of scans is drawn like the scans held out of a model's training.

    Held-out scans, as a network has learnt its training scans' features by heart.

    Args:
        reference: Of the model.
        looks: N scans of the batch, at least 1.
        features: (N, D) as ``Family.features`` gives them.
        patients: The patient of each scan. Left out: each scan counts as a patient's only one, and
            where that is wrong p-values are too small.

    Raises:
        ShiftError: ``shift.other_scans``.
    """
    points = {str(part): rows for part, rows in reference.points.items()}
    coordinates = reference.coordinates(looks, features)
    held = [f"held out {n}" for n in range(len(points["metadata"]))]
    new = list(patients) or [f"new {n}" for n in range(len(looks))]
    return two_sample(points, {str(part): rows for part, rows in coordinates.items()}, held, new)


def _divisions(
    first: Sequence[tuple[int, str]],
    second: Sequence[tuple[int, str]],
    *,
    permutations: int,
    seed: int,
) -> NDArray[np.float64]:
    """(scans, 1 + permutations) weights: 1/n in the first group, -1/m in the second.

    Column 0 is the division as it is.
    """
    names = list(dict.fromkeys([*first, *second]))
    numbers = {name: n for n, name in enumerate(names)}
    of_scan = np.array([numbers[name] for name in (*first, *second)])
    n_first = len(set(first))
    rng = np.random.default_rng(seed)
    orders = [np.arange(len(names)), *(rng.permutation(len(names)) for _ in range(permutations))]
    inside = np.array([order[of_scan] < n_first for order in orders]).T
    weights = np.where(inside, 1 / inside.sum(axis=0), -1 / (~inside).sum(axis=0))
    return np.asarray(weights)


def _discrepancies(rows: Rows, divisions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 + permutations,) squared MMD of each division, the biased estimate."""
    distances = cdist(rows.astype(np.float64), rows.astype(np.float64), "sqeuclidean")
    apart = distances[distances > 0]
    if not len(apart):
        return np.zeros(divisions.shape[1])
    kernel = np.exp(-distances / np.median(apart))
    return np.asarray((divisions * (kernel @ divisions)).sum(axis=0))


def _p_values(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 + permutations,): of each division the share that differ as much, itself among them."""
    ordered = np.sort(statistics)
    # Equal divisions differ by rounding.
    below = np.searchsorted(ordered, statistics - 1e-12 - 1e-9 * np.abs(statistics), side="left")
    return np.asarray((len(statistics) - below) / len(statistics))
