"""The fully connected network has the stated layers and does not care where voxels lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families.base import FamilyError
from pipeline.families.mlp import Mlp, MlpParams
from pipeline.metrics import score

TASK = Task(kind="binary", class_names=("a", "b"))
SHAPE = (1, 8, 8)


def scans_of(n: int, seed: int) -> Scans:
    rng = np.random.default_rng(seed)
    target = np.arange(n) % 2
    x = rng.normal(size=(n, *SHAPE)).astype(np.float32)
    x[:, 0, 2:5, 2:5] += target.reshape(-1, 1, 1)
    ids = np.arange(n).astype(np.str_)
    return Scans(torch.from_numpy(x), target, ids, ids)


def test_parameters_reach_the_layers() -> None:
    net = Mlp(MlpParams(widths=(12, 5), dropout=0.4), TASK, SHAPE, seed=0).net
    linear = [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)]
    assert linear == [(64, 12), (12, 5), (5, 2)]
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0.4}


def test_a_fixed_shuffle_of_the_voxels_takes_nothing_away() -> None:
    """Lecture claim 1: what a network without convolutions learns does not hang on neighbours."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))

    def shuffled(scans: Scans) -> Scans:
        return scans.with_x(scans.x.flatten(1)[:, order].reshape(scans.x.shape))

    auc = []
    for change in (lambda scans: scans, shuffled):
        train, val, test = (change(scans_of(n, seed)) for n, seed in ((80, 1), (40, 2), (400, 3)))
        family = Mlp(
            MlpParams.model_validate(
                {"widths": [16], "train": {"epochs": 6, "min_steps": 90, "batch_size": 20}}
            ),
            TASK,
            SHAPE,
            seed=0,
        )
        family.fit(train, val)
        auc.append(score(TASK, test.target, family.predict_proba(test.x))["auc"])
    assert min(auc) > 0.8
    assert abs(auc[0] - auc[1]) < 0.04


def test_a_flip_along_an_axis_that_scans_lack_is_refused() -> None:
    params = MlpParams.model_validate({"augment": {"flip_axes": [2]}})
    with pytest.raises(FamilyError, match=r"mlp: params.augment.flip_axes is \[2\]") as caught:
        Mlp(params, TASK, SHAPE, seed=0)
    assert caught.value.code == "family.no_such_axis"
