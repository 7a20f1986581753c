"""Phantom patients: a law in closed form, and images drawn without looking at the class."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from data_prep.phantom import PhantomConfig, draw_patient
from data_prep.phantom_law import Lesion, LesionLaw

# --- the law


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_best_auc_is_that_of_simulated_patients(n_classes: Any) -> None:
    law = LesionLaw(n_classes=n_classes)
    rng = np.random.default_rng(0)
    truth = np.array([law.probabilities(law.draw(rng)) for _ in range(20_000)])
    assert np.abs(truth.sum(axis=1) - 1).max() <= 1e-12
    label = (rng.random((len(truth), 1)) > np.cumsum(truth, axis=1)[:, :-1]).sum(axis=1)
    assert len(np.unique(label)) == n_classes
    classes = [1] if n_classes == 2 else range(n_classes)
    auc = np.mean([roc_auc_score(label == k, truth[:, k]) for k in classes])
    assert law.bayes_auc() == pytest.approx(auc, abs=0.006)


def test_the_default_law_leaves_an_auc_of_095() -> None:
    assert LesionLaw().bayes_auc() == pytest.approx(0.95, abs=0.005)
    assert LesionLaw().bayes_auc(32) == pytest.approx(LesionLaw().bayes_auc(128), abs=1e-3)


def test_the_probability_is_the_logistic_function_of_the_evidence() -> None:
    law = LesionLaw(
        diameter_mm=(10, 20),
        contrast=(0.2, 0.6),
        side_weight=1,
        size_weight=2,
        contrast_weight=3,
        strength=6,
    )
    # side +1, size (12 - 15) / 5 = -0.6, contrast (0.5 - 0.4) / 0.2 = 0.5
    evidence = (1 * 1 + 2 * -0.6 + 3 * 0.5) / 6
    p = law.probabilities(Lesion("right", 12.0, 0.5))
    assert p[1] == pytest.approx(1 / (1 + np.exp(-6 * evidence)), abs=1e-12)


def test_more_of_each_evidence_makes_malignancy_more_likely() -> None:
    for n_classes in (2, 3):
        law = LesionLaw(n_classes=2 if n_classes == 2 else 3)
        middle = law.probabilities(Lesion("left", 14, 0.6))
        for more in (Lesion("right", 14, 0.6), Lesion("left", 15, 0.6), Lesion("left", 14, 0.7)):
            p = law.probabilities(more)
            assert p[-1] > middle[-1]
            assert p[0] < middle[0]


@pytest.mark.parametrize(
    ("weight", "kind"),
    [("side_weight", "side"), ("size_weight", "size"), ("contrast_weight", "contrast")],
)
def test_no_weight_is_no_evidence(weight: str, kind: str) -> None:
    law = LesionLaw.model_validate({weight: 0})
    pairs = {
        "side": (Lesion("left", 12, 0.5), Lesion("right", 12, 0.5)),
        "size": (Lesion("left", 12, 0.5), Lesion("left", 18, 0.5)),
        "contrast": (Lesion("left", 12, 0.5), Lesion("left", 12, 0.8)),
    }
    for name, (first, second) in pairs.items():
        same = law.probabilities(first) == law.probabilities(second)
        assert same == (name == kind)


def test_one_size_is_neither_large_nor_small() -> None:
    law = LesionLaw(diameter_mm=(12, 12), side_weight=0, contrast_weight=1)
    assert law.probabilities(Lesion("left", 12, 0.6)) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"law": {"diameter_mm": [10, 5]}},
        {"law": {"contrast": [0, 1]}},
        {"law": {"side_weight": 0, "size_weight": 0, "contrast_weight": 0}},
        {"gain": [2, 1]},
        {"n_patients": 0},
        {"dicom": 1.5},
        {"ndim": 4},
    ],
)
def test_a_cohort_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PhantomConfig.model_validate(wrong)


# --- patients


def test_a_patient_does_not_depend_on_the_others() -> None:
    few, many = PhantomConfig(n_patients=3), PhantomConfig(n_patients=500)
    for number in (0, 2):
        first, second = draw_patient(few, number), draw_patient(many, number)
        assert first.bayes == second.bayes
        assert first.label == second.label
        for a, b in zip(first.scans, second.scans, strict=True):
            assert a.name == b.name
            assert np.array_equal(a.volume.array, b.volume.array)
    other = draw_patient(PhantomConfig(seed=1), 0)
    assert other.bayes != draw_patient(few, 0).bayes


def test_images_are_drawn_without_looking_at_the_class() -> None:
    """P(y | x) = P(y | z) needs it: the same image whatever the class came out as."""
    sure = PhantomConfig(law=LesionLaw(strength=50), n_patients=1)
    unsure = PhantomConfig(law=LesionLaw(strength=0.01), n_patients=1)
    labels = [(draw_patient(sure, n).label, draw_patient(unsure, n).label) for n in range(12)]
    assert any(a != b for a, b in labels)
    for number in range(12):
        pairs = zip(
            draw_patient(sure, number).scans, draw_patient(unsure, number).scans, strict=True
        )
        for a, b in pairs:
            assert np.array_equal(a.volume.array, b.volume.array)


def test_labels_follow_the_stated_probabilities() -> None:
    config = PhantomConfig(ndim=2, law=LesionLaw(strength=3))
    patients = [draw_patient(config, number) for number in range(1000)]
    p = np.array([patient.bayes[1] for patient in patients])
    y = np.array([patient.label == "malignant" for patient in patients])
    edges = np.quantile(p, np.linspace(0, 1, 6))
    for low, high in itertools.pairwise(edges):
        inside = (p >= low) & (p <= high)
        error = np.sqrt((p[inside] * (1 - p[inside])).sum()) / inside.sum()
        assert abs(y[inside].mean() - p[inside].mean()) <= 4 * error


def test_scans_differ_in_all_that_is_to_be_normalised() -> None:
    config = PhantomConfig(dicom=0)
    scans = [s for n in range(150) for s in draw_patient(config, n).scans]
    assert len({s.volume.orientation for s in scans}) >= 45  # of 48
    spacing = np.array([s.volume.spacing_mm for s in scans])
    assert spacing.min() < 2.7
    assert spacing.max() > 4.8
    assert np.abs(spacing[:, 0] - spacing[:, 1]).max() > 1
    brightest = np.array([np.ptp(s.volume.array) for s in scans])
    assert brightest.max() / brightest.min() > 4
    counts = Counter(len(draw_patient(config, n).scans) for n in range(150))
    assert set(counts) == {1, 2, 3}
    assert counts[1] > counts[2] > counts[3]


def test_nuisances_can_be_switched_off() -> None:
    config = PhantomConfig(any_orientation=False, gain=(1, 1), spacing_mm=(3, 3), dicom=0)
    for number in range(5):
        for scan in draw_patient(config, number).scans:
            assert scan.volume.orientation == "RAS"
            assert scan.volume.spacing_mm == pytest.approx((3, 3, 3))
    flat = PhantomConfig(ndim=2, any_orientation=False, dicom=1)
    assert draw_patient(flat, 0).scans[0].volume.orientation == "PL"


def test_ct_is_in_hounsfield_units() -> None:
    volume = draw_patient(PhantomConfig(modality="CT", noise=0.0), 0).scans[0].volume
    assert volume.array.min() == pytest.approx(-1000, abs=1)
    tissue = np.median(volume.array[volume.array > -200])
    assert tissue == pytest.approx(40, abs=60)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_lesion_is_where_a_brighter_one_is_brighter(ndim: Any) -> None:
    """Two cohorts that differ in the lesion's contrast only, in every orientation."""
    faint, bright = (
        PhantomConfig(ndim=ndim, noise=0, modality="CT", law=LesionLaw(contrast=(c, c)))
        for c in (0.3, 0.8)
    )
    for number in range(8):
        one, other = draw_patient(faint, number), draw_patient(bright, number)
        for scan, same in zip(one.scans, other.scans, strict=True):
            more = (same.volume.array - scan.volume.array)[0] / (1040 * 0.5)  # share covered
            mask = one.lesion_mask(scan.volume)
            assert mask.shape == more.shape and mask.any()
            assert ((more >= 0.5 - 1e-6) == mask).mean() == 1


def test_a_lesion_between_voxels_is_the_nearest_one() -> None:
    patient = draw_patient(PhantomConfig(), 0)
    scan = patient.scans[0].volume
    coarse = replace(scan, affine=scan.affine @ np.diag([30, 30, 30, 1.0]))
    assert patient.lesion_mask(coarse).sum() >= 1
