"""The self-test that travels with a model: made-up scans and what the model says of them."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import torch

from data_prep.preprocess import PrepRecipe
from data_prep.volume import Volume
from pipeline.families.base import Family

SELF_TEST_SCANS: Final = 3


def self_test(recipe: PrepRecipe, family: Family[Any]) -> tuple[tuple[float, ...], ...]:
    """Probabilities of made-up scans: recomputed elsewhere, they show that a model still works.

    The scans go through the recipe and the family, so that a change in either is seen. No scan of
    a patient is in a package.
    """
    scans = [recipe.apply(volume) for volume in made_up_scans(recipe, family.scan_shape)]
    probability = family.predict_proba(family.prepare(torch.from_numpy(np.stack(scans))))
    return tuple(tuple(float(p) for p in row) for row in probability)


def made_up_scans(
    recipe: PrepRecipe, scan_shape: tuple[int, ...], count: int = SELF_TEST_SCANS
) -> list[Volume]:
    """Blocks of grey, 0 to 255, from SHAKE-256: the same bits on any machine and any version."""
    coarse = tuple(-(-size // 4) for size in scan_shape[1:])
    voxels = recipe.channels * int(np.prod(coarse))
    volumes = []
    for number in range(count):
        stream = hashlib.shake_256(f"medcurve self-test {number}".encode()).digest(voxels)
        array = np.frombuffer(stream, np.uint8).reshape(recipe.channels, *coarse)
        for axis in range(1, array.ndim):
            array = np.repeat(array, 4, axis=axis)
        volumes.append(Volume(array, np.eye(4), has_geometry=False))
    return volumes
