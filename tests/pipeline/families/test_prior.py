"""The prior is Laplace's rule on the training scans and nothing else."""

from __future__ import annotations

import numpy as np
import torch

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families.base import FamilyParams
from pipeline.families.prior import Prior


def scans_of(target: np.ndarray) -> Scans:
    ids = np.arange(len(target)).astype(np.str_)
    return Scans(torch.zeros(len(target), 1, 4, 4), target, ids, ids)


def test_frequencies_have_one_scan_more_of_each_class() -> None:
    task = Task(kind="multi-class", class_names=("a", "b", "c"))
    prior = Prior(FamilyParams(), task, (1, 4, 4), seed=0)
    train = scans_of(np.array([0, 0, 0, 1]))
    prior.fit(train, train)
    rows = prior.predict_proba(prior.prepare(train.x[:2]))
    assert np.allclose(rows, [[4 / 7, 2 / 7, 1 / 7]] * 2)  # c is rare, not impossible


def test_each_label_has_its_own_frequency() -> None:
    task = Task(kind="multi-label", class_names=("a", "b"))
    prior = Prior(FamilyParams(), task, (1, 4, 4), seed=0)
    train = scans_of(np.array([[1, 0], [1, 1], [0, 0]]))
    prior.fit(train, train)
    assert np.allclose(prior.predict_proba(prior.prepare(train.x[:1])), [[3 / 5, 2 / 5]])
