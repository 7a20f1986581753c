"""What scans look like to a model that was fitted on all of them: held out fold by fold.

A network knows by heart the scans that it was fitted on, so what it sees of them tells nothing of
new ones. Each fold is therefore measured in spaces of the other folds, as models see them that were
fitted on those (cross-conformal p-values: Vovk 2015, "Cross-conformal predictors"). The spaces that
new scans are measured in are made of as many scans: of all folds but the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.scan_look import ScanLook
from pipeline.trust.shift_cloud import Rows, some
from pipeline.trust.shift_fit import one_of_each, refuse_few
from pipeline.trust.shift_reference import MAX_HELD_OUT, MAX_HELD_POINTS, ShiftFacts, ShiftReference
from pipeline.trust.shift_spaces import Spaces

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FoldShift:
    """How far the scans of one fold lie from all others.

    Attributes:
        held: (M,) their positions.
        distances: (M, parts x 2) float32, as ``Spaces.distances``.
        features: (M, D) as the model sees them that was fitted on the others.
    """

    held: Positions
    distances: NDArray[np.float32]
    features: NDArray[np.float32]


def fold_shift(
    looks: Sequence[ScanLook], features: NDArray[np.float32], held: Positions
) -> FoldShift:
    """Measure the scans at ``held`` by all the others.

    Args:
        looks: N scans.
        features: (N, D) as a model sees them that was fitted on the others.
        held: (M,) positions of a fold.
    """
    spaces = _spaces(looks, features, np.delete(np.arange(len(looks)), held))
    own = [looks[n] for n in held]
    return FoldShift(held, spaces.distances(own, features[held]), features[held])


def fold_reference(
    looks: Sequence[ScanLook],
    features: NDArray[np.float32],
    folds: Sequence[FoldShift],
    patients: Sequence[str],
    false_alarms: float = 0.05,
) -> ShiftReference:
    """The reference of a model that was fitted on all scans.

    Of each patient one scan counts, as in ``fit_shift_reference``. A batch is compared with scans
    of the first fold; by what the model sees of them only where that does not depend on whom it was
    fitted on (features of fixed filters), since the model has seen these.

    Args:
        looks: N scans.
        features: (N, D) as the model sees them.
        folds: Of ``fold_shift``; together they hold every scan once.
        patients: (N,) whose scans they are.
        false_alarms: Share of scans like them that may be flagged.

    Raises:
        ShiftError: ``shift.too_few_scans``.
    """
    kept = one_of_each(patients)
    rest = np.delete(np.arange(len(looks)), folds[0].held)
    refuse_few(len(rest), len(kept))
    distances = np.empty((len(looks), folds[0].distances.shape[1]), dtype=np.float32)
    for fold in folds:
        distances[fold.held] = fold.distances
    spaces = _spaces(looks, features, rest)
    alike = np.intersect1d(kept, folds[0].held)
    alike = alike[some(len(alike), MAX_HELD_POINTS)]
    fixed = all(np.array_equal(fold.features, features[fold.held]) for fold in folds)
    points = spaces.coordinates([looks[n] for n in alike], features[alike])
    held = distances[kept[some(len(kept), MAX_HELD_OUT)]]
    return ShiftReference(
        facts=ShiftFacts(
            false_alarms=false_alarms,
            training=len(rest),
            held_out=len(held),
            spatial_ndim=looks[0].spatial_ndim,
            small=len(looks[0].small),
            features=features.shape[1],
            kinds=spaces.kinds,
            batches_by_features=fixed,
        ),
        spaces=spaces,
        held=held,
        points={part: at for part, at in points.items() if fixed or part != "features"},
    )


def _spaces(looks: Sequence[ScanLook], features: Rows, of: Positions) -> Spaces:
    return Spaces.fit([looks[n] for n in of], features[of])
