"""Every shipped family config on real ultrasound images: BreastMNIST, full size, seed 0.

The floors lie below what each config's header states by about two standard errors of the AUC of
156 test images, so that another processor's rounding passes and a broken family does not.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import build_family, load_family_config
from pipeline.metrics import score

TASK = Task(kind="binary", class_names=("malignant", "normal or benign"))
FLOORS = {"linear": 0.77, "random_features": 0.86, "cnn_scratch": 0.85}


@cache
def breastmnist() -> dict[str, Scans]:
    """The official splits, one scale for all images, as configs/prep/medmnist28.yaml has it."""
    root = os.environ.get("MEDCURVE_DATA")
    if not root:
        pytest.skip("MEDCURVE_DATA is not set: the scores on BreastMNIST are not checked")
    path = Path(root) / "medmnist" / "breastmnist.npz"
    if not path.is_file():
        pytest.skip("medmnist/breastmnist.npz is not in MEDCURVE_DATA")
    with np.load(path, allow_pickle=False) as arrays:
        train = arrays["train_images"].astype(np.float64)
        return {
            split: Scans(
                x=torch.from_numpy(
                    ((arrays[f"{split}_images"] - train.mean()) / train.std())[:, None]
                ).float(),
                target=arrays[f"{split}_labels"][:, 0].astype(np.int64),
                patient_ids=np.arange(len(arrays[f"{split}_labels"])).astype(np.str_),
                scan_ids=np.arange(len(arrays[f"{split}_labels"])).astype(np.str_),
            )
            for split in ("train", "val", "test")
        }


@pytest.mark.parametrize("name", FLOORS)
def test_the_shipped_config_reaches_its_score(name: str) -> None:
    scans = breastmnist()
    family = build_family(load_family_config(name), TASK, scans["train"].scan_shape, seed=0)
    ready = {split: part.with_x(family.prepare(part.x)) for split, part in scans.items()}
    family.fit(ready["train"], ready["val"])
    rows = family.predict_proba(ready["test"].x)
    assert score(TASK, ready["test"].target, rows)["auc"] > FLOORS[name]
