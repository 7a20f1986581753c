"""Random features are what the parameters say, and patients are never split by the penalty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data_prep.task import Task
from pipeline.dataset import Scans
from pipeline.families import random_features
from pipeline.families.base import FamilyError
from pipeline.families.random_features import RandomFeatures, RandomFeaturesParams
from pipeline.metrics import score

TASK = Task(kind="binary", class_names=("benign", "malignant"))


def family_of(shape: tuple[int, ...], seed: int = 0, **params: Any) -> RandomFeatures:
    small = {"filters": 6, "sizes": (3, 5), **params}
    return RandomFeatures(RandomFeaturesParams.model_validate(small), TASK, shape, seed)


def noise(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, *shape))).float()


@pytest.mark.parametrize("shape", [(2, 9, 11), (1, 7, 8, 9)], ids=["2D", "3D"])
def test_filters_are_blind_to_brightness_of_unit_length_and_drawn_by_the_seed(
    shape: tuple[int, ...],
) -> None:
    first, again, other = (family_of(shape, seed).state() for seed in (0, 0, 1))
    for size in (3, 5):
        bank = first[f"filters_{size}"]
        assert bank.shape == (3, shape[0]) + (size,) * (len(shape) - 1)
        flat = bank.reshape(3, -1)
        assert np.allclose(flat.mean(axis=1), 0, atol=1e-6)
        assert np.allclose(np.linalg.norm(flat, axis=1), 1, atol=1e-6)
        assert np.array_equal(bank, again[f"filters_{size}"])
        assert not np.array_equal(bank, other[f"filters_{size}"])


def test_orthogonal_filters_stand_at_right_angles_until_directions_run_out() -> None:
    bank = family_of((1, 9, 9), draw="orthogonal", filters=20, sizes=(3,)).state()["filters_3"]
    flat = bank.reshape(20, 9)
    assert np.allclose(flat.mean(axis=1), 0, atol=1e-6)
    for block in (flat[:8], flat[8:16], flat[16:]):  # nine taps without mean: eight directions
        assert np.allclose(block @ block.T, np.eye(len(block)), atol=1e-5)
    assert abs(flat[:8] @ flat[8:16].T).max() > 0.1


def test_gaussian_filters_see_brightness() -> None:
    bank = family_of((1, 9, 9), draw="gaussian").state()["filters_3"].reshape(3, 9)
    assert np.allclose(np.linalg.norm(bank, axis=1), 1, atol=1e-6)
    assert abs(bank.mean(axis=1)).max() > 0.05


def test_filters_are_shared_out_to_the_last() -> None:
    state = family_of((1, 12, 12), filters=10, sizes=(3, 4, 5)).state()
    assert [len(state[f"thresholds_{size}"]) for size in (3, 4, 5)] == [3, 3, 4]


def by_hand(family: RandomFeatures, scan: np.ndarray[Any, Any], rectify: str) -> list[float]:
    """Features of a (1, 8, 8) scan: slow loops, 2 x 2 cells, average then max."""
    out = []
    for size, (filters, thresholds) in family._bank.items():
        places = 8 - size + 1
        half = places / 2
        cells = [(slice(0, int(np.ceil(half))), slice(int(half), places))[i] for i in (0, 1)]
        responses = []
        for kernel, threshold in zip(filters.numpy(), thresholds.numpy(), strict=True):
            response = np.array(
                [
                    [
                        (scan[0, i : i + size, j : j + size] * kernel[0]).sum() + threshold
                        for j in range(places)
                    ]
                    for i in range(places)
                ]
            )
            responses.append(
                {"relu": np.maximum(response, 0), "absolute": abs(response), "square": response**2}[
                    rectify
                ]
            )
        for pool in (np.mean, np.max):
            out += [float(pool(r[a, b])) for r in responses for a in cells for b in cells]
    return out


@pytest.mark.parametrize("rectify", ["relu", "absolute", "square"])
def test_features_are_pooled_rectified_responses(rectify: str) -> None:
    family = family_of((1, 8, 8), rectify=rectify, pyramid=(2,))
    scans = noise(3, (1, 8, 8))
    expected = [by_hand(family, scan, rectify) for scan in scans.numpy()]
    assert np.allclose(family.prepare(scans).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "params", "cells"),
    [
        ((1, 9, 9), {}, 2 * 4),
        ((1, 9, 9), {"pyramid": (1, 3), "pooling": ("max",)}, 1 + 9),
        ((1, 7, 7, 7), {}, 2 * 8),
        ((3, 9, 9), {"padding": "zero", "stride": 2}, 2 * 4),
        ((1, 80, 70), {}, 2 * 4),  # automatic stride
        ((1, 24, 30, 24), {}, 2 * 8),
        ((1, 6, 6), {"sizes": (4, 6), "padding": "zero"}, 2 * 4),  # even sizes gain a place
    ],
)
def test_the_number_of_features_is_known_before_any_scan(
    shape: tuple[int, ...], params: dict[str, Any], cells: int
) -> None:
    family = family_of(shape, **params)
    assert family.prepare(noise(2, shape)).shape == (2, 6 * cells)
    assert len(family.state()["weight"]) == 6 * cells


def test_large_scans_are_gone_over_in_larger_steps() -> None:
    for shape, size, stride, places in (
        ((1, 28, 28), 5, 1, (24, 24)),
        ((1, 64, 40), 5, 2, (30, 18)),
        ((1, 28, 28, 28), 5, 2, (12, 12, 12)),
        ((1, 20, 16, 20), 5, 1, (16, 12, 16)),
    ):
        family = family_of(shape)
        assert family._stride(size) == stride
        assert family._strided(size) == places


def test_memory_is_bounded_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (1, 8, 8, 8)
    family, scans = family_of(shape), noise(7, shape)
    whole = family.prepare(scans)
    assert family._activation_bytes() == 4 * 6**3 * 3
    seen: list[int] = []
    read = family.read
    monkeypatch.setattr(family, "read", lambda x: seen.append(len(x)) or read(x))
    monkeypatch.setattr(random_features, "_CHUNK_BYTES", 3 * family._activation_bytes())
    assert torch.allclose(family.prepare(scans), whole, atol=1e-6)
    assert seen == [3, 3, 1]
    monkeypatch.setattr(random_features, "_CHUNK_BYTES", 1)
    assert torch.allclose(family.prepare(scans), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "params"),
    [
        ((1, 4, 20), {}),  # a filter of 5 does not fit
        ((1, 5, 20), {}),  # one place cannot be pooled into two cells
        ((1, 20, 20), {"stride": 16}),
        ((1, 3, 3), {"padding": "zero", "pyramid": (4,)}),
    ],
)
def test_a_scan_that_is_too_small_is_refused_with_what_to_change(
    shape: tuple[int, ...], params: dict[str, Any]
) -> None:
    with pytest.raises(FamilyError, match="filters of size") as caught:
        family_of(shape, **params)
    assert caught.value.code == "family.scan_too_small"
    assert "params.sizes" in caught.value.fix


def cohort(n_patients: int, scans_each: int, seed: int, signal: float) -> Scans:
    """Patients whose scans share a fingerprint of their own; the class is weakly visible."""
    rng = np.random.default_rng(seed)
    target = np.arange(n_patients) % 2
    shape = (1, 10, 10)
    prints = rng.normal(size=(n_patients, *shape))
    prints[:, :, 3:6, 3:6] += signal * target.reshape(-1, 1, 1, 1)
    x = np.repeat(prints, scans_each, axis=0)
    x = x + 0.05 * rng.normal(size=x.shape)
    patients = np.repeat(np.arange(n_patients), scans_each).astype(np.str_)
    ids = np.arange(len(x)).astype(np.str_)
    return Scans(torch.from_numpy(x).float(), np.repeat(target, scans_each), patients, ids)


def test_copies_of_a_patient_do_not_pass_for_evidence() -> None:
    """Labels of pure chance: leaving one scan out would find its copies and look perfect."""
    family = family_of((1, 10, 10), filters=60)
    train = cohort(30, 4, seed=0, signal=0.0)
    scans = train.with_x(family.prepare(train.x))
    by_patient = family.fit(scans, scans).chosen
    alone = Scans(scans.x, scans.target, scans.scan_ids, scans.scan_ids)
    by_scan = family.fit(alone, alone).chosen
    assert by_scan["left_out_error"] < 0.1 < 0.2 < by_patient["left_out_error"]


def test_a_few_patients_give_modest_probabilities_and_many_sure_ones() -> None:
    family = family_of((1, 10, 10), filters=60)
    test = cohort(100, 1, seed=9, signal=2.0)
    spread = []
    for n in (12, 200):
        train = cohort(n, 1, seed=1, signal=2.0)
        scans = train.with_x(family.prepare(train.x))
        family.fit(scans, scans)
        rows = family.predict_proba(family.prepare(test.x))
        found = score(TASK, test.target, rows)
        assert found["log_loss"] < np.log(2)
        spread.append(float(rows[:, 1].std()))
    assert spread[0] < spread[1]


def test_one_patient_only_is_refused() -> None:
    family = family_of((1, 10, 10))
    train = cohort(2, 3, seed=0, signal=1.0)
    same = np.array(["p"] * len(train))
    scans = Scans(family.prepare(train.x), train.target, same, train.scan_ids)
    with pytest.raises(FamilyError, match="one patient") as caught:
        family.fit(scans, scans)
    assert caught.value.code == "family.one_patient"


def test_a_feature_that_never_varies_has_no_say() -> None:
    family = family_of((1, 10, 10))
    train = cohort(20, 1, seed=0, signal=1.0)
    features = family.prepare(train.x)
    features[:, 0] = 3.0
    scans = train.with_x(features)
    family.fit(scans, scans)
    changed = features.clone()
    changed[:, 0] = 1e6
    assert np.allclose(family.predict_proba(changed), family.predict_proba(features))


@pytest.mark.parametrize("network", ["cnn_scratch", "resnet18"])
def test_a_frozen_network_is_drawn_by_the_seed_and_saved_whole(network: str) -> None:
    first, again, other = (family_of((1, 16, 16), seed, network=network) for seed in (0, 0, 1))
    x = noise(3, (1, 16, 16))
    features = first.prepare(x)
    assert torch.equal(again.prepare(x), features)
    assert not torch.equal(other.prepare(x), features)
    assert first.network() is not None
    assert features.shape[1] == {"cnn_scratch": 64, "resnet18": 512}[network]
    other.load_state(first.state())
    assert torch.equal(other.prepare(x), features)


def test_a_frozen_network_has_the_shape_that_is_asked_for() -> None:
    params = {"network": "cnn_scratch", "shape": {"widths": [3, 5], "head": "flat"}}
    family = RandomFeatures(RandomFeaturesParams.model_validate(params), TASK, (1, 16, 16), 0)
    assert family.prepare(torch.zeros(2, 1, 16, 16)).shape == (2, 5 * 8 * 8)


def test_without_a_network_there_is_none_to_show() -> None:
    assert family_of((1, 16, 16)).network() is None
