"""Builders for the serving tests: a cohort of hand-made scans and a small fitted model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.serving.package import (
    MetricInterval,
    ModelPackage,
    TestRecord,
    TrainingRecord,
    save_package,
)

BINARY = Task(kind="binary", class_names=("healthy", "lesion"))
MULTI_LABEL = Task(kind="multi-label", class_names=("mass", "effusion", "nodule"))

MakePackage = Callable[..., ModelPackage]


def prep_config(shape: tuple[int, ...]) -> PrepConfig:
    """Z-scored scans of one shape, in a stated orientation."""
    return PrepConfig.model_validate(
        {
            "orientation": "RAS" if len(shape) == 3 else "as stored",
            "spacing_mm": None,
            "shape": shape,
            "fit": "resize",
            "intensity": {"kind": "z_score"},
            "channels": 1,
        }
    )


def random_volume(shape: tuple[int, ...], seed: int) -> Volume:
    """Noise in 0..255 without geometry."""
    array = np.random.default_rng(seed).integers(0, 256, size=(1, *shape)).astype(np.int16)
    return Volume(array, np.eye(4), has_geometry=False)


@pytest.fixture
def make_package(tmp_path: Path) -> MakePackage:
    """Fit ``linear`` on noise and save it as a package."""

    def build(
        shape: tuple[int, ...] = (6, 5, 4), task: Task = BINARY, name: str = "model"
    ) -> ModelPackage:
        recipe = PrepRecipe.fit(prep_config(shape), [random_volume(shape, s) for s in range(4)])
        rng = np.random.default_rng(7)
        x = torch.from_numpy(rng.standard_normal((24, 1, *shape)).astype(np.float32))
        signal = x.reshape(24, -1)[:, : task.n_classes].numpy()
        if task.is_multi_label:
            target = (signal > 0).astype(np.int64)
        else:
            target = np.argmax(signal, axis=1).astype(np.int64)
        names = np.array([f"s{n}" for n in range(24)])
        scans = Scans(x, target, names, names)
        config = FamilyConfig.model_validate({"family": "linear", "params": {}})
        family = build_family(config, task, (1, *shape), 3)
        family.fit(scans, scans)
        return save_package(
            tmp_path / name,
            family,
            config,
            recipe,
            TrainingRecord(
                data="noise", store="a" * 64, study="", cell="", patients=24, scans=24, chosen="-"
            ),
            TestRecord(
                patients=8,
                scans=8,
                resamples=100,
                level=0.95,
                metrics={"auc": MetricInterval(value=0.75, low=0.5, high=0.9)},
            ),
        )

    return build
