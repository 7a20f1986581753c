"""Scans by the numbers that are noted of them, and what a model might see: small builders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data_prep.phantom import PhantomConfig, draw_patient
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.scan_look import LEVELS, ScanLook, look_at
from data_prep.volume import Volume
from pipeline.shifting import misread

Looked = tuple[list[ScanLook], NDArray[np.float32]]


def looked(n: int, seed: int = 0, *, spacing: float = 1.0, bright: float = 0.0) -> Looked:
    """Made-up scans: correlated Gaussian numbers from each side."""
    rng = np.random.default_rng(seed)
    looks = [
        ScanLook(
            shape=(1, 30, 28),
            spacing_mm=(spacing * float(rng.choice((1.0, 1.5))), spacing),
            orientation="",
            modality="US",
            dtype=str(rng.choice(("uint8", "uint16"))),
            flags=(),
            raw=100 + bright + np.sort(rng.normal(0, 20, len(LEVELS))),
            prepared=np.sort(rng.normal(0, 1, len(LEVELS))),
            texture=np.sort(rng.normal(0, 1, len(LEVELS))),
            small=rng.normal(0, 1, 16).astype(np.float32),
        )
        for _ in range(n)
    ]
    mixing = np.random.default_rng(99).normal(size=(4, 12))
    features = rng.normal(size=(n, 4)) @ mixing + 0.3 * rng.normal(size=(n, 12))
    return looks, features.astype(np.float32)


def phantoms(n: int, first: int = 0) -> list[Volume]:
    """Phantoms of one scanner, each of another patient, lying in any way."""
    config = PhantomConfig(
        n_patients=n, gain=(0.95, 1.05), spacing_mm=(4.5, 5.5), slice_mm=(5.0, 6.0), seed=3
    )
    return [draw_patient(config, first + number).scans[0].volume for number in range(n)]


def recipe() -> PrepRecipe:
    """RAS, 5 mm, each scan on a scale of its own."""
    config = PrepConfig.model_validate(
        {
            "orientation": "RAS",
            "spacing_mm": 5,
            "shape": [20, 16, 20],
            "fit": "crop_or_pad",
            "intensity": {"kind": "z_score"},
        }
    )
    return PrepRecipe(config=config, spatial_ndim=3, channels=1)


def seen(volumes: list[Volume]) -> Looked:
    """Looks, and as features the mean of each slice."""
    arrays = [recipe().apply(volume) for volume in volumes]
    looks = [look_at(volume, array) for volume, array in zip(volumes, arrays, strict=True)]
    return looks, np.array([array.mean(axis=(0, 1, 2)) for array in arrays])


def misread_axes(volume: Volume) -> Volume:
    """Stored columns first, where the header says rows first."""
    return replace(volume, array=np.ascontiguousarray(misread(volume.array, 1)))
