"""Scores of cells drawn by a law that tests know."""

from __future__ import annotations

import numpy as np

from pipeline.study.learning_curve import Curves, Draws, Replicates, Where, curves


def made(by_family: dict[str, Replicates], metric: str = "auc") -> Curves:
    shape = next(iter(by_family.values())).values.shape
    resamples = next(iter(by_family.values())).resampled.shape[-1]
    places = {Where(name, 40, "test", metric): cells for name, cells in by_family.items()}
    return curves(places, Draws.of(*shape, resamples, 0), 0.95)


def cells(
    rng: np.random.Generator, shape: tuple[int, int], mean: float = 0.8, sd: float = 0.02
) -> Replicates:
    """Cells that vary by subset, with 200 resamples of the test patients around each."""
    values = mean + sd * rng.normal(size=(shape[0], 1)) + np.zeros(shape)
    return Replicates(values, values[..., None] + 0.01 * rng.normal(size=200))
