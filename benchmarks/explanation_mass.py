"""How much of an explanation lies in the lesion, on phantoms whose lesion is known.

``cnn_scratch`` with its shipped config is fitted on 150 phantom patients, and what it says of 50
others is explained, each for the class that it gives and for "malignant". The mass ratio of a scan
is the share of the map's positive values that lies in the lesion, over the lesion's share of the
scan; a map that knows nothing has 1. All in the scan's own voxels, whose axes lie in an order and
direction of their own in every DICOM and NIfTI scan. Intervals: 95 %, bootstrap over patients.

The last rows look at the network's very last map, as Grad-CAM is often used.

    python benchmarks/explanation_mass.py       (about 3 minutes on one core)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from data_prep.config import find_config, read_config
from data_prep.phantom import PhantomConfig, PhantomPatient, PhantomScan, draw_patient
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.families import build_family, load_family_config
from pipeline.families.base import Family
from pipeline.trust import explain_grad_cam
from pipeline.trust.explain_methods import METHODS, Method
from pipeline.trust.explain_scan import explain

TRAIN, VALIDATION, TEST = 150, 60, 50
LESION = "malignant"


def main() -> None:
    """Print the table."""
    print("| Scans | Method | Class given | Class malignant, on malignant scans |")
    print("|---|---|---|---|")
    for ndim in (2, 3):
        family, recipe, patients = fitted(ndim)
        for method in METHODS:
            show(f"{ndim}D", method, method, family, recipe, patients)
        least = explain_grad_cam.LEAST_PLACES
        explain_grad_cam.LEAST_PLACES = 2
        show(f"{ndim}D", "grad_cam, very last map", "grad_cam", family, recipe, patients)
        explain_grad_cam.LEAST_PLACES = least


def fitted(ndim: Any) -> tuple[Family[Any], PrepRecipe, list[PhantomPatient]]:
    """A network, its recipe, and patients that it has not seen."""
    config = PhantomConfig(ndim=ndim, seed=1)
    patients = [draw_patient(config, number) for number in range(TRAIN + VALIDATION + TEST)]
    prep = read_config(find_config("prep", f"phantom{ndim}d"), PrepConfig)
    recipe = PrepRecipe.fit(prep, (as_read(p.scans[0]) for p in patients[:TRAIN]))
    task = Task(kind="binary", class_names=config.law.class_names)
    seen = patients[: TRAIN + VALIDATION]
    x = torch.from_numpy(np.stack([recipe.apply(as_read(p.scans[0])) for p in seen]))
    target = np.array([task.class_names.index(p.label) for p in seen])
    names = np.array([p.patient_id for p in seen])
    train, val = (
        Scans(x[part], target[part], names[part], names[part])
        for part in (slice(TRAIN), slice(TRAIN, None))
    )
    family = build_family(load_family_config("cnn_scratch"), task, recipe.scan_shape, 0)
    family.fit(train, val)
    return family, recipe, patients[TRAIN + VALIDATION :]


def as_read(scan: PhantomScan) -> Volume:
    """A PNG states no geometry."""
    return replace(scan.volume, has_geometry=scan.format != "png")


def show(
    scans: str,
    name: str,
    method: Method,
    family: Family[Any],
    recipe: PrepRecipe,
    patients: Sequence[PhantomPatient],
) -> None:
    """Print a row."""
    given = [ratio(family, recipe, patient, method, None) for patient in patients]
    ill = [patient for patient in patients if patient.label == LESION]
    lesion = [ratio(family, recipe, patient, method, LESION) for patient in ill]
    print(f"| {scans} | {name} | {interval(given)} | {interval(lesion)} |", flush=True)


def ratio(
    family: Family[Any],
    recipe: PrepRecipe,
    patient: PhantomPatient,
    method: Method,
    target_class: str | None,
) -> float:
    """Of one scan; 0 where nothing speaks for the class."""
    scan = patient.scans[0]
    found = explain(family, recipe, as_read(scan), method, target_class)
    lesion = patient.lesion_mask(scan.volume)
    evidence = np.maximum(found.map, 0)
    return float(evidence[lesion].sum() / max(evidence.sum(), 1e-30) / lesion.mean())


def interval(values: Sequence[float]) -> str:
    """Mean and its 95 % interval over patients."""
    rng = np.random.default_rng(0)
    drawn = np.array(values)[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{np.mean(values):.1f} [{low:.1f}, {high:.1f}], n = {len(values)}"


if __name__ == "__main__":
    main()
