"""A model of any task, fitted on noise, and what it answers to more of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from cohort_rows import image, row

from data_prep.manifest import ScanRecord
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers.policy import DEFAULT_POLICY
from data_prep.scan_look import look_at
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.evaluation.results import Evaluation
from pipeline.families import FamilyConfig, build_family
from pipeline.model_page.gather import AnsweredScans
from pipeline.serving.answers import answers
from pipeline.serving.card import TrainingRecord
from pipeline.serving.package import ModelPackage, save_package
from pipeline.trust.config import TrustConfig
from pipeline.trust.trusted import fit_trusted

SIDE = 6


def noise_model(
    folder: Path,
    task: Task,
    config: TrustConfig | None = None,
    n: int = 60,
    family: str = "linear",
) -> tuple[ModelPackage, AnsweredScans]:
    """A model of images, whose classes are where the first voxels are bright."""
    recipe = PrepRecipe(
        config=PrepConfig.model_validate({"shape": SIDE, "channels": 1}), spatial_ndim=2, channels=1
    )
    rng = np.random.default_rng(11)
    arrays = rng.standard_normal((2 * n, 1, SIDE, SIDE)).astype(np.float32)
    signal = arrays.reshape(2 * n, -1)[:, : task.n_classes] + rng.normal(
        0, 0.5, (2 * n, task.n_classes)
    )
    target = (signal > 0) if task.is_multi_label else signal.argmax(axis=1)
    target = target.astype(np.int64)
    names = np.array([f"p{k // 2}" for k in range(n)])
    family_config = FamilyConfig.model_validate({"family": family, "params": {}})
    built = build_family(family_config, task, (1, SIDE, SIDE), 0)
    scans = Scans(built.prepare(torch.from_numpy(arrays[:n])), target[:n], names, names)
    built.fit(scans, scans)
    said = built.predict_proba(scans.x)
    package = save_package(
        folder,
        built,
        family_config,
        DEFAULT_POLICY,
        recipe,
        TrainingRecord(
            data="noise", store="a" * 64, study="", cell="", patients=n, scans=n, chosen="-"
        ),
        fit_trusted(config or TrustConfig(), task, target[:n], said, names, seed=0),
        None,
        Evaluation(patients=0, scans=0, resamples=0, level=0.95, metrics={}),
    )
    volumes = [Volume(array, np.eye(4), has_geometry=False) for array in arrays[n:]]
    looks = [look_at(volume, volume.array) for volume in volumes]
    found = tuple(answers(package, list(arrays[n:]), looks))
    held = target[n:]
    return package, AnsweredScans(
        records=tuple(_record(k, task, held[k]) for k in range(n)),
        answers=found,
        looks=tuple(looks),
        target=held,
        probability=package.calibrate(np.stack([one.raw for one in found])),
        refused=(),
    )


def _record(number: int, task: Task, target: np.ndarray) -> ScanRecord:
    if task.is_multi_label:
        labels = tuple(n for n, yes in zip(task.class_names, target, strict=True) if yes)
    else:
        labels = (task.class_names[int(target)],)
    return row(
        number,
        patient_id=f"patient-{number // 2}",
        labels=labels,
        mean=float(number),
        pixel_sha256=f"{number:064x}",
        **image(modality="MR" if number % 3 else "CT", shape=(1, SIDE, SIDE), dtype="float32"),
    )
