"""The linear family chooses its penalty on validation and stands voxels that never vary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import logistic, ridge
from pipeline.families.base import FamilyError
from pipeline.families.linear import Linear, LinearParams
from pipeline.metrics import score

TASK = Task(kind="binary", class_names=("benign", "malignant"))
SHAPE = (1, 6, 6)


def scans_of(n: int, seed: int, signal: float = 1.0) -> Scans:
    rng = np.random.default_rng(seed)
    target = np.arange(n) % 2
    x = rng.normal(size=(n, *SHAPE)).astype(np.float32)
    x[:, 0, 2, 3] += signal * target
    x[:, 0, 0, 0] = 5.0  # a corner that never varies
    ids = np.arange(n).astype(np.str_)
    return Scans(torch.from_numpy(x), target, ids, ids)


def linear(*penalties: float) -> Linear:
    return Linear(LinearParams(penalties=penalties), TASK, SHAPE, seed=0)


def test_the_penalty_of_least_validation_loss_is_chosen() -> None:
    train, val = scans_of(40, 1), scans_of(200, 2)
    penalties = (1.0, 0.01, 1e-5)
    losses = []
    for penalty in penalties:
        family = linear(penalty)
        family.fit(train, val)
        losses.append(score(TASK, val.target, family.predict_proba(val.x))["log_loss"])
    fit = linear(*penalties).fit(train, val)
    assert fit.chosen["penalty"] == penalties[int(np.argmin(losses))]
    assert fit.chosen["val_log_loss"] == pytest.approx(min(losses), abs=1e-6)
    assert len(set(np.round(losses, 3))) == 3  # so there was something to choose


def test_a_constant_voxel_has_no_say_even_where_it_varies_later() -> None:
    family = linear(0.01)
    family.fit(scans_of(40, 1), scans_of(20, 2))
    changed = scans_of(20, 3).x.clone()
    changed[:, 0, 0, 0] = -100.0
    assert np.allclose(family.predict_proba(changed), family.predict_proba(scans_of(20, 3).x))


def test_scans_that_are_all_alike_get_the_class_frequencies() -> None:
    family = linear(0.01)
    train = scans_of(40, 1)
    flat = train.with_x(torch.zeros_like(train.x))
    family.fit(flat, flat)
    assert np.allclose(family.predict_proba(flat.x), 0.5, atol=1e-6)


def test_brightness_and_contrast_of_the_cohort_do_not_matter() -> None:
    """The same scans in other units (a window in HU, say) give the same probabilities."""
    train, val, test = scans_of(60, 1), scans_of(30, 2), scans_of(30, 3)
    plain, scaled = linear(0.1, 0.001), linear(0.1, 0.001)
    plain.fit(train, val)
    scaled.fit(train.with_x(train.x * 40 - 1000), val.with_x(val.x * 40 - 1000))
    found = scaled.predict_proba(test.x * 40 - 1000)
    assert np.allclose(found, plain.predict_proba(test.x), atol=1e-3)


def test_no_validation_scans_are_refused() -> None:
    train = scans_of(20, 1)
    with pytest.raises(FamilyError, match="no validation scans") as caught:
        linear(0.1).fit(train, train.take(np.zeros(0, dtype=np.int64)))
    assert caught.value.code == "family.no_validation"


def test_under_squared_error_it_is_the_classifier_that_random_features_end_in() -> None:
    train, val = scans_of(40, 1), scans_of(20, 2)
    family = Linear(LinearParams(loss="squared_error", penalties=(1.0, 0.01)), TASK, SHAPE, seed=0)
    fit = family.fit(train, val)
    rows = train.x.reshape(len(train), -1).numpy()
    own = ridge.fit_classifier(TASK, rows, train.target, train.patient_ids, (1.0, 0.01))
    assert fit.chosen == own.chosen()
    told = family.predict_proba(val.x)
    logits = own.weights.logits(val.x.reshape(len(val), -1).numpy())
    assert np.allclose(told, logistic.probability(TASK, logits), atol=1e-6)
    family.fit_chosen(train, fit.chosen)  # validation has no say
    assert np.array_equal(family.predict_proba(val.x), told)
