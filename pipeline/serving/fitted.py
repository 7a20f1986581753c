"""A chosen family, fitted, with all that a package learns besides its weights.

Nothing here looks at the labels of test scans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.files import read_table
from data_prep.prep import AS_READ
from data_prep.progress import Progress
from data_prep.scan_look import AsRead, ScanLook, look_back
from data_prep.splits import check_leaks
from data_prep.store import IndexRow, Store
from data_prep.task import Task
from pipeline.dataset import load_rows, load_split, targets
from pipeline.families import FamilyConfig
from pipeline.families.base import Family
from pipeline.serving.card import RefitRecord
from pipeline.serving.refit import notes_of, refit_on_all
from pipeline.study.cell import pinned_threads
from pipeline.study.config import StudyConfig
from pipeline.study.grid import Cell
from pipeline.study.journal import Floats
from pipeline.study.nested_subsets import Positions
from pipeline.study.plan import Refit
from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.shift_folds import fold_reference
from pipeline.trust.shift_reference import ShiftError, ShiftReference
from pipeline.trust.trusted import Trusted, fit_trusted

_LOOKED_AT: Final = 256  # scans in memory at a time


@dataclass(frozen=True, eq=False)
class Used:
    """The scans that a cell was fitted on and chosen by, with what reading them noted of each."""

    train: list[IndexRow]
    val: list[IndexRow]
    as_read: Mapping[str, AsRead]


def _as_read(store: Store) -> dict[str, AsRead]:
    return {row.scan_id: row for row in read_table(store.folder / AS_READ, AsRead)}


@dataclass(frozen=True, eq=False)
class Made:
    """A fitted family with all that is learnt besides its weights, before test scans are looked at.

    Attributes:
        cell: That was chosen.
        family: Fitted.
        used: What it was fitted on and chosen by.
        trust, reference: Of the package.
        test: (N, n_classes) what it says of the test scans.
        refit: None for a cell of the study.
    """

    cell: Cell
    family: Family[Any]
    used: Used
    trust: Trusted
    reference: ShiftReference | None
    test: Floats
    refit: RefitRecord | None = None


def made_of_cell(config: StudyConfig, folder: Path, fitted: Refit) -> Made:
    """The very model of the study; the rest is learnt from the validation scans."""
    store = Store.open(folder, verify=False)  # refit has just verified it

    def chosen(split: str, positions: Positions) -> list[IndexRow]:
        rows = store.rows(split)
        return [rows[position] for position in positions]

    planned = fitted.planned
    used = Used(chosen("train", planned.train), chosen("val", planned.val), _as_read(store))
    trust = _trust(store.task, config, used.val, fitted.result.val[np.array(planned.val)])

    def learn() -> ShiftReference:
        return fit_shift_reference(
            *_looks(store, fitted.family, used.as_read, used.train),
            *_looks(store, fitted.family, used.as_read, used.val),
            config.trust.shift.false_alarms,
            [row.patient_id for row in used.val],
        )

    return Made(
        planned.cell, fitted.family, used, *_with_reference(trust, learn), fitted.result.test
    )


def made_of_all(
    config: StudyConfig,
    families: Mapping[str, FamilyConfig],
    folder: Path,
    cell: Cell,
    progress: Progress,
) -> Made:
    """The chosen family, fitted on validation scans as well; the rest is learnt out of fold."""
    store = Store.open(folder)
    config.trust.check(store.task)
    check_leaks(store.index)
    rows = store.rows("train") + store.rows("val")
    used = Used(rows, [], _as_read(store))
    scans, test = load_rows(store, rows), load_split(store, "test")
    looks = [
        look_back(used.as_read[r.scan_id], a) for r, a in zip(rows, scans.x.numpy(), strict=True)
    ]
    found = refit_on_all(
        *(families[cell.family], store.task, scans, looks, cell.seed, config.threads, progress)
    )
    trust = _trust(store.task, config, rows, found.probability)
    trust = trust.model_copy(update={"notes": (*notes_of(found, trust.conformal), *trust.notes)})

    def learn() -> ShiftReference:
        return fold_reference(
            looks,
            found.family.features(found.scans.x),
            found.shifts,
            scans.patient_ids.tolist(),
            config.trust.shift.false_alarms,
        )

    with pinned_threads(config.threads):
        trust, reference = _with_reference(trust, learn)
        said = found.family.predict_proba(found.family.prepare(test.x))
    patients = len(np.unique(scans.patient_ids))
    record = RefitRecord(
        patients=patients, scans=len(scans), folds=found.folds, chosen=dict(found.chosen)
    )
    return Made(cell, found.family, used, trust, reference, said, record)


def _trust(task: Task, config: StudyConfig, held: Sequence[IndexRow], said: Floats) -> Trusted:
    """Fit on scans that were held out what makes probabilities into answers."""
    return fit_trusted(
        config.trust,
        task,
        targets(task, [row.target for row in held]),
        said,
        np.array([row.patient_id for row in held], dtype=np.str_),
        seed=config.seed,
    )


def _with_reference(
    trust: Trusted, learn: Callable[[], ShiftReference]
) -> tuple[Trusted, ShiftReference | None]:
    """With what scans look like, and what a user must know of that."""
    try:
        reference = learn()
    except ShiftError as error:  # too few scans: the model answers, and says that it cannot tell
        return trust.model_copy(update={"notes": (*trust.notes, error.message)}), None
    return trust.model_copy(update={"notes": (*trust.notes, *reference.notes)}), reference


def _looks(
    store: Store, family: Family[Any], kept: Mapping[str, AsRead], rows: Sequence[IndexRow]
) -> tuple[list[ScanLook], NDArray[np.float32]]:
    """What was noted of scans, and what the family sees of them."""
    looks: list[ScanLook] = []
    features = []
    for start in range(0, len(rows), _LOOKED_AT):
        some = list(rows[start : start + _LOOKED_AT])
        arrays = store.read(some)
        looks += [look_back(kept[r.scan_id], a) for r, a in zip(some, arrays, strict=True)]
        features.append(family.features(family.prepare(torch.from_numpy(arrays))))
    return looks, np.concatenate(features)
