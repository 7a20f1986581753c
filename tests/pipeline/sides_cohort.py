"""A cohort whose classes differ by the side of a bright block, and a linear model that learned it.

What the model must mind is known: left for right turns every prediction round; gain and bias do
nothing behind a z-score; where the header tells the truth, the order of axes does nothing either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import yaml

from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers.policy import DEFAULT_POLICY
from data_prep.scan_look import look_at
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline import stages
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.serving.card import Evaluation, TrainingRecord
from pipeline.serving.package import ModelPackage, load_package, save_package
from pipeline.serving.seen import SeenScans
from pipeline.trust.config import TrustConfig
from pipeline.trust.shift_fit import fit_shift_reference
from pipeline.trust.trusted import fit_trusted
from pipeline.workspace import Workspace, open_workspace

TASK = Task(kind="binary", class_names=("left", "right"))
SHAPE = (8, 6, 5)
PREP = {
    "orientation": "RAS",
    "spacing_mm": None,
    "shape": SHAPE,
    "fit": "resize",
    "intensity": {"kind": "z_score"},
    "channels": 1,
}
N_SCANS = 60
NOTHING_SEEN = SeenScans()


def scan_of(label: str, seed: int) -> np.ndarray:
    """(8, 6, 5) int16 in RAS: noise, and a bright block on the side of the class."""
    array = np.random.default_rng(seed).normal(100, 12, SHAPE)
    array[(5 if label == "right" else 0) :][:3, 1:4] += 60
    return array.astype(np.int16)


def volume_of(array: np.ndarray) -> Volume:
    return Volume(array[None], np.eye(4))


@dataclass(frozen=True)
class Place:
    """Where the cohort and its model lie."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def data(self) -> str:
        return str(self.folder / "sides.yaml")

    @property
    def model(self) -> Path:
        return self.runs / "sides" / "model-linear"

    @property
    def package(self) -> ModelPackage:
        return load_package(self.model)

    @property
    def workspace(self) -> Workspace:
        return open_workspace(self.runs, self.data)


def write_cohort(folder: Path) -> Place:
    place = Place(folder)
    (folder / "scans").mkdir(parents=True)
    lines = ["scan,patient_id,label"]
    for number in range(N_SCANS):
        label = TASK.class_names[number % 2]
        array, affine = scan_of(label, number), np.eye(4)
        if number % 3 == 0:  # stored from right to left, as the header says
            array, affine = array[::-1], np.diag([-1.0, 1, 1, 1])
        nib.save(nib.Nifti1Image(array, affine), folder / "scans" / f"{number:02}.nii")
        lines.append(f"{number:02}.nii,P{number},{label}")
    (folder / "scans" / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "prep.yaml").write_text(yaml.safe_dump({**PREP, "shape": list(SHAPE)}))
    content = {
        "name": "sides",
        "source": {"kind": "folder", "root": str(folder / "scans")},
        "labels": {"kind": "table", "task": "binary", "classes": list(TASK.class_names)},
        "split": {"test": 0.4},
        "prep": str(folder / "prep.yaml"),
    }
    Path(place.data).write_text(yaml.safe_dump(content))
    stages.ingest_stage(place.workspace, 1)
    stages.split_stage(place.workspace)
    save_model(place.model)
    return place


def save_model(
    folder: Path, *, doubtful: bool = False, seen: SeenScans = NOTHING_SEEN
) -> ModelPackage:
    """Fit a linear model on scans that are not of the cohort, whatever it claims to have ``seen``.

    A doubtful one learned a third of its labels wrong, and knows what its training scans look like.
    """
    labels = [n % 2 for n in range(40)]
    volumes = [volume_of(scan_of(TASK.class_names[y], 1000 + n)) for n, y in enumerate(labels)]
    recipe = PrepRecipe.fit(PrepConfig.model_validate(PREP), volumes)
    if doubtful:
        labels = [1 - y if n % 3 == 0 else y for n, y in enumerate(labels)]
    x = torch.from_numpy(np.stack([recipe.apply(volume) for volume in volumes]))
    names = np.array([f"s{n}" for n in range(40)])
    scans = Scans(x, np.array(labels, dtype=np.int64), names, names)
    config = FamilyConfig.model_validate({"family": "linear", "params": {}})
    fitted = build_family(config, TASK, (1, *SHAPE), 0)
    prepared = scans.with_x(fitted.prepare(x))
    fitted.fit(prepared, prepared)
    record = TrainingRecord(
        data="sides",
        store="a" * 64,
        study="",
        cell="",
        patients=40,
        scans=40,
        chosen="-",
        seen=seen,
    )
    probability = fitted.predict_proba(prepared.x)
    trust = fit_trusted(TrustConfig(), TASK, scans.target, probability, names, seed=0)
    none = Evaluation(patients=0, scans=0, resamples=0, level=0.95, metrics={})
    reference = None
    if doubtful:
        arrays = [recipe.apply(volume) for volume in volumes]
        looks = [look_at(volume, array) for volume, array in zip(volumes, arrays, strict=True)]
        features = fitted.features(prepared.x)
        reference = fit_shift_reference(looks[::2], features[::2], looks[1::2], features[1::2])
    return save_package(
        folder, fitted, config, DEFAULT_POLICY, recipe, record, trust, reference, none
    )
