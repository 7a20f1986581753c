"""A family fitted once more, on training and validation patients together.

No patient is then left whose probabilities the rest of the package could be learnt from. They come
from folds: the same family is fitted on all folds but one, and asked about that one (the scheme of
scikit-learn's ``CalibratedClassifierCV(ensemble=False)``). What validation would choose (an epoch,
a penalty) is chosen by each fold's left-out patients first; the median of these choices is then
fixed for every fold's model and for the one that is released, so that all are fitted alike.

The recipe stays the one that was fitted on the training scans: the family was chosen on scans that
it prepared, and the test scans stay as they were.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data_prep.progress import Progress
from data_prep.scan_look import ScanLook
from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family
from pipeline.study.cell import pinned_threads
from pipeline.study.journal import Floats
from pipeline.trust.conformal import Conformal
from pipeline.trust.patient_folds import patient_folds
from pipeline.trust.shift_folds import FoldShift, fold_shift
from pipeline.weighted_metrics import Labels

FOLDS: Final = 5
_STEPS: Final = 100  # of a fit, as progress is told

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Refitted:
    """A family fitted on all of some scans, and what is known of them without it.

    Attributes:
        family: Fitted on all.
        scans: (N) all, prepared by it.
        chosen: What validation would choose, as it was fixed for all fits.
        folds: How many.
        probability: (N, n_classes) of each scan, by a model fitted without its fold.
        shifts: Of each fold, how far its scans lie from the others.
    """

    family: Family[Any]
    scans: Scans
    chosen: Mapping[str, float]
    folds: int
    probability: Floats
    shifts: tuple[FoldShift, ...]


def refit_on_all(
    config: FamilyConfig,
    task: Task,
    scans: Scans,
    looks: Sequence[ScanLook],
    seed: int,
    threads: int,
    progress: Progress,
) -> Refitted:
    """Fit a family on all scans, and on all but each fold, twice: to choose, and to ask.

    Args:
        config: Of the family.
        task: What to predict.
        scans: (N) raw scans of training and validation patients.
        looks: (N) what was noted as they were read.
        seed: Of the family; it also decides the folds.
        threads: Threads to compute with.
        progress: Told (parts done, parts in all).

    Raises:
        FamilyError: Where a fold leaves the others without a class.
    """
    family = build_family(config, task, scans.scan_shape, seed)
    folds = list(_folds(task, scans, seed))
    told = _Told(progress, 2 * len(folds) + 1)
    with pinned_threads(threads):
        prepared = scans.with_x(family.prepare(scans.x))

        def another() -> Family[Any]:
            return build_family(config, task, scans.scan_shape, seed)

        fixed = _median(
            [
                another().fit(prepared.take(rest), prepared.take(held), told.part(n)).chosen
                for n, (rest, held) in enumerate(folds)
            ]
        )
        probability = np.empty((len(scans), task.n_classes))
        shifts = []
        for n, (rest, held) in enumerate(folds, start=len(folds)):
            model = another()
            model.fit_chosen(prepared.take(rest), fixed, told.part(n))
            probability[held] = model.predict_proba(prepared.take(held).x)
            shifts.append(fold_shift(looks, model.features(prepared.x), held))
        fit = family.fit_chosen(prepared, fixed, told.part(2 * len(folds)))
    return Refitted(family, prepared, fit.chosen, len(folds), probability, tuple(shifts))


def notes_of(refitted: Refitted, conformal: Conformal) -> tuple[str, ...]:
    """What a user must know of a model that was fitted on its validation patients as well."""
    patients = len(np.unique(refitted.scans.patient_ids))
    return (
        f"The model was fitted once more, on all {patients} training and validation patients. "
        "Calibration, decision, prediction sets and the shift threshold were learnt from "
        f"{refitted.folds} models like it, each fitted without one fold of these patients and "
        "asked about it; where validation patients are spoken of, it is these.",
        f"Sets of a refitted model have no guarantee of {conformal.coverage:g} coverage as sets "
        "from separate validation patients have: they are near it where leaving out a fold "
        "changes the fit little. Even sets that keep every fold's model (CV+, Barber et al. 2021) "
        f"are guaranteed about {max(0.0, 2 * conformal.coverage - 1):g} only.",
    )


def _folds(task: Task, scans: Scans, seed: int) -> Iterator[tuple[Positions, Positions]]:
    """Positions of all others, and of each fold: patients whole, classes dealt out evenly."""
    fold = patient_folds(_strata(task, scans.target), scans.patient_ids, FOLDS, seed)
    for number in np.unique(fold):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _strata(task: Task, target: Labels) -> Labels:
    """(N,) class indices; for multi-label one number for each combination of labels."""
    if not task.is_multi_label:
        return target
    return np.unique(target, axis=0, return_inverse=True)[1].reshape(-1)


def _median(chosen: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each choice the median of the folds, of two the lower: one that a fold has made."""
    return {name: statistics.median_low(one[name] for one in chosen) for name in chosen[0]}


@dataclass(frozen=True)
class _Told:
    """Progress of several fits as one."""

    progress: Progress
    fits: int

    def part(self, number: int) -> Progress:
        """For the fit of that number, from 0."""

        def tell(done: int, total: int) -> None:
            self.progress(_STEPS * number + _STEPS * done // total, _STEPS * self.fits)

        return tell
