"""The truth that a phantom cohort states can be read off its images, after normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import least_squares
from scipy.signal import fftconvolve
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score

from data_prep.geometry import reorient, resample
from data_prep.phantom import PhantomConfig, draw_patient
from data_prep.phantom_law import Lesion, LesionLaw
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.volume import Volume


def measure(scan: Volume, law: LesionLaw) -> Lesion:
    """Find the lesion in a scan and measure it, knowing neither the patient nor the scanner.

    First the ball that explains most of its surroundings, over all places and some sizes; then a
    least-squares fit of place, size, contrast and background to the voxels as they were stored.
    """
    ndim = scan.spatial_ndim
    upright = reorient(scan, "RAS" if ndim == 3 else "RA")
    coarse = resample(upright, (3.0,) * ndim)
    air, tissue = _air_and_tissue(coarse.array[0])
    place, diameter, contrast, ground = _search((coarse.array[0] - air) / (tissue - air), law)
    center = coarse.affine[:ndim, :ndim] @ place + coarse.affine[:ndim, 3]

    axes = [
        upright.affine[a, 3] + upright.affine[a, a] * np.arange(n)
        for a, n in enumerate(upright.array.shape[1:])
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    near = np.linalg.norm(points - center, axis=-1) < diameter / 2 + 3
    values = (upright.array[0][near] - air) / (tissue - air)

    def misfit(guess: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = np.linalg.norm(points[near] - guess[:ndim], axis=-1)
        ball = np.clip(0.5 + (guess[ndim] / 2 - distance) / 3, 0, 1)
        return np.asarray(guess[ndim + 2] + guess[ndim + 1] * ball - values)

    start = [*center, diameter, contrast, ground]
    fitted = least_squares(misfit, start, loss="soft_l1", f_scale=0.1).x
    return Lesion(
        side="right" if fitted[0] > 0 else "left",
        diameter_mm=float(np.clip(fitted[ndim], *law.diameter_mm)),
        contrast=float(np.clip(fitted[ndim + 1], *law.contrast)),
    )


def _air_and_tissue(image: NDArray[np.float32]) -> tuple[float, float]:
    faces = [image.take(i, axis=a).ravel() for a in range(image.ndim) for i in (0, -1)]
    air = float(np.median(np.concatenate(faces)))
    bright = image[image > air + 0.3 * (np.percentile(image, 99) - air)]
    level = air + 0.62 * (np.percentile(bright, 98) - air)
    return air, float(np.median(bright[bright > level]))


def _search(
    image: NDArray[np.float32], law: LesionLaw
) -> tuple[NDArray[np.float64], float, float, float]:
    """Place, diameter, contrast and background of the ball that explains most (3 mm voxels)."""
    best: tuple[float, Any] = (0.0, None)
    for diameter in np.arange(law.diameter_mm[0] - 1, law.diameter_mm[1] + 1.1, 2.0):
        reach = int(np.ceil((diameter / 2 + 3) / 3))
        offsets = np.indices((2 * reach + 1,) * image.ndim) - reach
        distance = np.sqrt((offsets**2).sum(axis=0)) * 3
        ball = np.clip(0.5 + (diameter / 2 - distance) / 3, 0, 1)
        window = np.clip(0.5 + (diameter / 2 + 2 - distance) / 2, 0, 1)
        # Weighted least squares of the surroundings on a constant and the ball, at every voxel.
        s0, s1, s2 = window.sum(), (window * ball).sum(), (window * ball**2).sum()
        a = fftconvolve(image, window, mode="same")
        b = fftconvolve(image, window * ball, mode="same")
        c = fftconvolve(image**2, window, mode="same")
        determinant = s0 * s2 - s1**2
        contrast = (s0 * b - s1 * a) / determinant
        ground = (a - s1 * contrast) / s0
        left_over = np.maximum(c - ground * a - contrast * b, 0) / s0
        explained = contrast**2 * determinant / s0 / (left_over + 0.002)
        plausible = (ground > 0.2) & (ground < 0.62) & (contrast > 0.15) & (contrast < 1.2)
        explained = np.where(plausible, explained, 0)
        at = np.unravel_index(int(explained.argmax()), image.shape)
        if explained[at] > best[0]:
            found = (np.array(at, dtype=np.float64), diameter, contrast[at], ground[at])
            best = (float(explained[at]), found)
    place, diameter, contrast_, ground_ = best[1]
    return place, float(diameter), float(contrast_), float(ground_)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_image_gives_away_the_bayes_probability(ndim: Any) -> None:
    """z can be read off the finished scan, so P(y | x) is the stored P(y | z)."""
    config = PhantomConfig(ndim=ndim, dicom=0.5 if ndim == 3 else 1.0)
    count = 80 if ndim == 3 else 300
    patients = [draw_patient(config, number) for number in range(count)]
    measured = [measure(patient.scans[0].volume, config.law) for patient in patients]
    stored = np.array([patient.bayes[1] for patient in patients])
    from_image = np.array([config.law.probabilities(lesion)[1] for lesion in measured])
    malignant = [patient.label == "malignant" for patient in patients]
    assert np.abs(from_image - stored).mean() <= 0.05
    assert np.corrcoef(from_image, stored)[0, 1] >= 0.97
    assert abs(roc_auc_score(malignant, from_image) - roc_auc_score(malignant, stored)) <= 0.02


def lobe_features(image: NDArray[np.float32], spacing_mm: float) -> list[float]:
    """How bright small things are where a normalised scan has its lobes."""
    details = [
        ndimage.gaussian_filter(image, narrow) - ndimage.gaussian_filter(image, wide)
        for narrow, wide in ((0.5, 1.5), (1.0, 2.5))
    ]
    middle = (np.array(image.shape) - 1) / 2
    half = np.array([11, 14, 14])[: image.ndim] / spacing_mm
    features: list[float] = []
    for side in (22, -22):
        center = middle + np.array([side, -4, 9])[: image.ndim] / spacing_mm
        low, high = np.ceil(center - half).astype(int), np.floor(center + half).astype(int) + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        for detail in details:
            features += [*np.quantile(detail[box], [0.5, 0.8, 0.9, 0.95, 0.98, 1])]
    return features


@pytest.mark.parametrize(("ndim", "least"), [(2, 0.03), (3, 0.05)])
def test_each_normalisation_left_out_costs_auc(ndim: Any, least: float) -> None:
    """Two-fold AUC of one classifier on 400 patients, with and without each step (seeded)."""
    config = PhantomConfig(ndim=ndim, dicom=0.5 if ndim == 3 else 1.0)
    patients = [draw_patient(config, number) for number in range(400)]
    malignant = np.array([patient.label == "malignant" for patient in patients])
    whole: dict[str, Any] = {
        "orientation": "RAS" if ndim == 3 else "RA",
        "spacing_mm": 4 if ndim == 3 else 3,
        "shape": 24 if ndim == 3 else 32,
        "fit": "crop_or_pad",
        "intensity": {"kind": "z_score"},
    }

    def auc(without: dict[str, Any]) -> float:
        recipe = PrepRecipe.fit(
            PrepConfig.model_validate(whole | without),
            (patient.scans[0].volume for patient in patients[:200]),
        )
        features = np.array(
            [
                lobe_features(recipe.apply(patient.scans[0].volume)[0], whole["spacing_mm"])
                for patient in patients
            ]
        )
        scores = []
        for train, test in ((slice(200), slice(200, 400)), (slice(200, 400), slice(200))):
            forest = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=0)
            forest.fit(features[train], malignant[train])
            scores.append(
                roc_auc_score(malignant[test], forest.predict_proba(features[test])[:, 1])
            )
        return float(np.mean(scores))

    complete = auc({})
    assert complete >= 0.8
    assert auc({"orientation": "as stored"}) <= complete - 0.15
    assert auc({"spacing_mm": None}) <= complete - 0.05
    assert auc({"spacing_mm": None, "fit": "resize"}) <= complete - least
    assert auc({"intensity": {"kind": "training_z_score"}}) <= complete - least
