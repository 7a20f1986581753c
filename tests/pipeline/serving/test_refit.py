"""What is learnt of a refitted model comes from models that had not seen the scans asked about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from data_prep.progress import silent
from data_prep.scan_look import ScanLook, look_at
from data_prep.task import Task, TaskKind
from data_prep.volume import Volume
from pipeline.dataset import Scans
from pipeline.families import FamilyConfig, build_family
from pipeline.families.base import FamilyError
from pipeline.serving.refit import FOLDS, Refitted, refit_on_all

MLP = {"widths": [4], "train": {"epochs": 4, "min_steps": 8, "batch_size": 16}}


def task_of(kind: TaskKind) -> Task:
    return Task(kind=kind, class_names=("a", "b") if kind == "binary" else ("a", "b", "c"))


def scans_of(task: Task, patients: int, seed: int = 0, signal: float = 0.0) -> Scans:
    """Two scans a patient, 6 x 5 pixels; the labels are noise unless there is a signal."""
    rng = np.random.default_rng(seed)
    if task.is_multi_label:
        target = rng.integers(0, 2, (patients, task.n_classes)).repeat(2, axis=0)
    else:
        target = (np.arange(patients) % task.n_classes).repeat(2)
    x = rng.standard_normal((2 * patients, 1, 6, 5)).astype(np.float32)
    x[:, 0, 0, : task.n_classes] += signal * task.one_hot(target).astype(np.float32)
    names = [f"p{n}" for n in range(patients)]
    ids = np.array([f"{name}-{scan}" for name in names for scan in "01"])
    return Scans(torch.from_numpy(x), target, np.repeat(names, 2), ids)


def looks_of(scans: Scans) -> list[ScanLook]:
    return [look_at(Volume(a, np.eye(4), has_geometry=False), a) for a in scans.x.numpy()]


def config_of(family: str, params: dict[str, Any] | None = None) -> FamilyConfig:
    return FamilyConfig.model_validate({"family": family, "params": params or {}})


def refit(config: FamilyConfig, task: Task, scans: Scans, progress: Any = silent) -> Refitted:
    return refit_on_all(config, task, scans, looks_of(scans), 3, 1, progress)


def test_what_is_learnt_by_heart_does_not_show() -> None:
    task = task_of("binary")
    scans = scans_of(task, 100)
    found = refit(config_of("knn", {"neighbours": [1]}), task, scans)
    own = found.family.predict_proba(found.scans.x)
    assert (own.argmax(axis=1) == scans.target).all()
    # 100 coin tosses, a patient's two scans alike at worst: a standard deviation of 5 %.
    assert abs((found.probability.argmax(axis=1) == scans.target).mean() - 0.5) < 0.16


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label", "ordinal"])
def test_folds_hold_every_scan_once_and_patients_whole(kind: TaskKind) -> None:
    task = task_of(kind)
    scans = scans_of(task, 24)
    found = refit(config_of("prior"), task, scans)
    held = [fold.held for fold in found.shifts]
    assert found.folds == len(held) == FOLDS
    assert np.array_equal(np.sort(np.concatenate(held)), np.arange(len(scans)))
    patients = [set(scans.patient_ids[part]) for part in held]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 24
    assert {len(part) for part in patients} <= {4, 5}
    # The frequencies of the others, by which each fold was asked about.
    for part in held:
        rest = np.delete(np.arange(len(scans)), part)
        other = build_family(config_of("prior"), task, scans.scan_shape, 3)
        train = scans.take(rest)
        other.fit(train, train)
        assert np.array_equal(found.probability[part], other.predict_proba(scans.take(part).x))


def test_a_network_stops_at_the_median_epoch_of_the_folds() -> None:
    task = task_of("binary")
    scans = scans_of(task, 20, signal=2.0)
    config = config_of("mlp", MLP)
    told: list[tuple[int, int]] = []
    found = refit(config, task, scans, lambda done, total: told.append((done, total)))
    epochs = []
    for fold in found.shifts:
        rest = np.delete(np.arange(len(scans)), fold.held)
        model = build_family(config, task, scans.scan_shape, 3)
        epochs.append(model.fit(scans.take(rest), scans.take(fold.held)).chosen["epoch"])
    assert found.chosen == {"epoch": sorted(epochs)[2]}
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_a_class_of_one_patient_is_refused_by_name() -> None:
    task = task_of("binary")
    scans = scans_of(task, 12)
    target = np.zeros_like(scans.target)
    target[:2] = 1
    lone = Scans(scans.x, target, scans.patient_ids, scans.scan_ids)
    with pytest.raises(FamilyError) as caught:
        refit(config_of("linear"), task, lone)
    assert caught.value.code == "family.one_class"
