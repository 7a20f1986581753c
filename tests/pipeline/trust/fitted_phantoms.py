"""Phantom cohorts and a small network that was fitted on them: a few seconds for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.phantom import PhantomConfig, PhantomPatient, PhantomScan, draw_patient
from data_prep.phantom_law import LesionLaw
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import Family

TASK = Task(kind="binary", class_names=("benign", "malignant"))
_TRAIN = {2: 120, 3: 90}
_TEST = 16
_PREP: dict[int, dict[str, Any]] = {
    2: {"orientation": "PL", "spacing_mm": 4, "shape": 24},
    3: {"orientation": "RAS", "spacing_mm": 5, "shape": [20, 16, 20]},
}
_NETWORK = {"widths": [12, 24, 32], "convolutions": 1, "dropout": 0.0}
_TRAINING = {"epochs": 5, "min_steps": 200, "batch_size": 32, "learning_rate": 0.01}


@dataclass(frozen=True, eq=False)
class FittedPhantoms:
    """A network, the recipe of its scans, and patients that it has not seen."""

    family: Family[Any]
    recipe: PrepRecipe
    patients: tuple[PhantomPatient, ...]

    def scans(self) -> list[tuple[Volume, NDArray[np.bool_]]]:
        """First scan of each patient as it is read, and its lesion."""
        first = [(patient, patient.scans[0]) for patient in self.patients]
        return [(as_read(scan), patient.lesion_mask(scan.volume)) for patient, scan in first]


def as_read(scan: PhantomScan) -> Volume:
    """A PNG states no geometry."""
    return replace(scan.volume, has_geometry=scan.format != "png")


@cache
def fitted_phantoms(ndim: int) -> FittedPhantoms:
    """The same object for every test: nobody is to change it."""
    law = LesionLaw(
        diameter_mm=(14.0, 22.0), contrast=(0.1, 1.7), strength=40, side_weight=0, size_weight=0
    )
    config = PhantomConfig(ndim=ndim, seed=5, law=law, texture=0.0, lobe=0.02, vessels=0)
    patients = [draw_patient(config, number) for number in range(_TRAIN[ndim] + _TEST)]
    prep = {"fit": "crop_or_pad", "intensity": {"kind": "z_score"}, "channels": 1}
    recipe = PrepRecipe.fit(
        PrepConfig.model_validate(_PREP[ndim] | prep), [as_read(patients[0].scans[0])]
    )
    seen = patients[: _TRAIN[ndim]]
    x = torch.from_numpy(np.stack([recipe.apply(as_read(p.scans[0])) for p in seen]))
    target = np.array([TASK.class_names.index(p.label) for p in seen])
    names = np.array([p.patient_id for p in seen])
    scans = Scans(x, target, names, names)
    params = _NETWORK | {"stem_stride": ndim - 1, "train": _TRAINING}
    family = build_family(
        FamilyConfig.model_validate({"family": "cnn_scratch", "params": params}),
        TASK,
        recipe.scan_shape,
        0,
    )
    family.fit(scans, scans)
    return FittedPhantoms(family, recipe, tuple(patients[_TRAIN[ndim] :]))
