"""Fitting what the training scans are like, with a threshold from scans that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.scan_look import ScanLook
from pipeline.trust.shift_cloud import Rows, some
from pipeline.trust.shift_reference import (
    MAX_HELD_OUT,
    MAX_HELD_POINTS,
    ShiftError,
    ShiftFacts,
    ShiftReference,
)
from pipeline.trust.shift_spaces import Spaces

# Fewer scans than these say nothing of a cohort.
LEAST_TRAINING: Final = 8
LEAST_HELD_OUT: Final = 4
_DRAW: Final = 0x0E4C


def fit_shift_reference(
    training: Sequence[ScanLook],
    training_features: Rows,
    held_out: Sequence[ScanLook],
    held_out_features: Rows,
    false_alarms: float = 0.05,
    held_out_patients: Sequence[str] = (),
) -> ShiftReference:
    """Fit on training scans; take the threshold from scans of the same cohort that were held out.

    Held-out scans must be of other patients, and must not have taken part in the model's weights.
    Of each held-out patient one scan is kept, drawn with a fixed seed: scans of one patient are no
    independent witnesses, neither for the threshold nor against a batch.

    Args:
        training: N scans, at least 8.
        training_features: (N, D) as ``Family.features`` gives them.
        held_out: M scans, at least 4. A rate of 5 % needs 19: with fewer the rate is 1 / (M + 1),
            and ``ShiftReference.notes`` says so.
        held_out_features: (M, D).
        false_alarms: Share of scans like the held-out ones that may be flagged.
        held_out_patients: (M,) whose scans they are; left out: each is of another patient.

    Raises:
        ShiftError: ``shift.too_few_scans``.
    """
    one_each = one_of_each(held_out_patients or [str(n) for n in range(len(held_out))])
    held_out, held_out_features = [held_out[n] for n in one_each], held_out_features[one_each]
    refuse_few(len(training), len(held_out))
    spaces = Spaces.fit(training, training_features)
    held = spaces.distances(held_out, held_out_features)[some(len(held_out), MAX_HELD_OUT)]
    kept = some(len(held_out), MAX_HELD_POINTS)
    points = spaces.coordinates([held_out[n] for n in kept], held_out_features[kept])
    return ShiftReference(
        facts=ShiftFacts(
            false_alarms=false_alarms,
            training=len(training),
            held_out=len(held),
            spatial_ndim=training[0].spatial_ndim,
            small=len(training[0].small),
            features=training_features.shape[1],
            kinds=spaces.kinds,
        ),
        spaces=spaces,
        held=held,
        points=points,
    )


def refuse_few(training: int, held_out: int) -> None:
    """Refuse scans that say nothing of a cohort.

    Raises:
        ShiftError: ``shift.too_few_scans``.
    """
    if training < LEAST_TRAINING or held_out < LEAST_HELD_OUT:
        raise ShiftError(
            "shift.too_few_scans",
            f"there are {training} training and {held_out} held-out scans; what the training "
            f"scans are like needs {LEAST_TRAINING} and {LEAST_HELD_OUT}",
            fix="add patients, or give the split stage a larger validation share",
        )


def one_of_each(patients: Sequence[str]) -> NDArray[np.intp]:
    """Positions (P,) of one scan of each of P patients, rising; drawn with a fixed seed."""
    order = np.random.default_rng(_DRAW).permutation(len(patients))
    _, first = np.unique(np.array(patients, dtype=np.str_)[order], return_index=True)
    return np.sort(order[first])
