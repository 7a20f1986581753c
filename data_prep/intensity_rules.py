"""The intensity scales that a recipe can name, each with its parameters.

What one does is in ``intensity``; here is which one, how it is fitted, and when it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_prep import intensity
from data_prep.config import Config

PositiveFloat = Annotated[float, Field(gt=0)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Unchanged(Config):
    """Intensities as the file states them."""

    kind: Literal["unchanged"] = "unchanged"


class Window(Config):
    """A CT window in Hounsfield units, to 0..1."""

    kind: Literal["window"] = "window"
    center_hu: float
    width_hu: PositiveFloat


class ZScore(Config):
    """Mean 0 and standard deviation 1 of each scan, over the whole of it or its foreground."""

    kind: Literal["z_score"] = "z_score"
    region: intensity.Region = "whole"


class TrainingZScore(Config):
    """Mean 0 and standard deviation 1 of all training scans together, per channel (fitted)."""

    kind: Literal["training_z_score"] = "training_z_score"


class MinMax(Config):
    """[low, high] to 0..1, clipped; an end that is left out is each scan's own."""

    kind: Literal["min_max"] = "min_max"
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _check(self) -> MinMax:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class Percentile(Config):
    """Each scan's own percentiles to 0 and 1, clipped."""

    kind: Literal["percentile"] = "percentile"
    lower: Percent = 1.0
    upper: Percent = 99.0
    region: intensity.Region = "whole"

    @model_validator(mode="after")
    def _check(self) -> Percentile:
        if self.lower >= self.upper:
            raise ValueError(f"lower ({self.lower:g}) must be below upper ({self.upper:g})")
        return self


class Nyul(Config):
    """Each scan's histogram landmarks to those of the training scans (fitted)."""

    kind: Literal["nyul"] = "nyul"


class Equalize(Config):
    """Histogram equalisation of each scan, to 0..1."""

    kind: Literal["equalize"] = "equalize"
    bins: Annotated[int, Field(ge=2, le=65536)] = 256


class Clahe(Config):
    """Contrast-limited adaptive histogram equalisation of each scan, to 0..1.

    Attributes:
        tiles: About how many along each axis.
        clip_limit: Most that one grey level may hold, as a fraction of a tile's voxels.
        bins: Grey levels.
    """

    kind: Literal["clahe"] = "clahe"
    tiles: Annotated[int, Field(ge=1, le=64)] = 8
    clip_limit: Annotated[float, Field(gt=0, le=1)] = 0.01
    bins: Annotated[int, Field(ge=2, le=65536)] = 256


class ImageNet(Config):
    """[low, high] to 0..1, then ImageNet's mean and standard deviation per colour.

    An end that is left out is each scan's own. Needs ``channels: 3``.
    """

    kind: Literal["imagenet"] = "imagenet"
    low: float | None = None
    high: float | None = None


IntensityRule = Annotated[
    Unchanged
    | Window
    | ZScore
    | TrainingZScore
    | MinMax
    | Percentile
    | Nyul
    | Equalize
    | Clahe
    | ImageNet,
    Field(discriminator="kind"),
]


FittedRule = TrainingZScore | Nyul


def n_statistics(rule: IntensityRule, channels: int) -> int:
    """How many numbers fitting gives, for scans of so many channels."""
    match rule:
        case TrainingZScore():
            return 2 * channels
        case Nyul():
            return len(intensity.NYUL_PERCENTILES)
        case _:
            return 0


def fit_statistics(rule: FittedRule, arrays: Iterable[NDArray[np.float32]]) -> tuple[float, ...]:
    """What the rule learns from training scans, which are read one at a time.

    Args:
        rule: The scale.
        arrays: (C, I, J[, K]) each, all of one shape, at least one.
    """
    return _fit_nyul(arrays) if isinstance(rule, Nyul) else _fit_mean_and_std(arrays)


def rescale(
    rule: IntensityRule, array: NDArray[np.float32], statistics: Sequence[float]
) -> NDArray[np.float32]:
    """Bring (C, I, J[, K]) to the rule's scale; ``statistics`` are what it was fitted to."""
    match rule:
        case Window():
            return intensity.window(array, rule.center_hu, rule.width_hu)
        case ZScore():
            return intensity.z_score(array, rule.region)
        case TrainingZScore():
            return intensity.standardise(array, statistics[::2], statistics[1::2])
        case MinMax():
            return intensity.min_max(array, rule.low, rule.high)
        case Percentile():
            return intensity.percentile(array, rule.lower, rule.upper, rule.region)
        case Nyul():
            return intensity.nyul(array, statistics)
        case Equalize():
            return intensity.equalize(array, rule.bins)
        case Clahe():
            return intensity.clahe(array, rule.tiles, rule.clip_limit, rule.bins)
        case ImageNet():
            return intensity.imagenet(intensity.min_max(array, rule.low, rule.high))
        case Unchanged():
            return array


def _fit_mean_and_std(arrays: Iterable[NDArray[np.float32]]) -> tuple[float, ...]:
    """(mean, std, mean, std, ...) per channel; scans of equal size, so means can be averaged."""
    means, variances = [], []
    for array in arrays:
        axes = tuple(range(1, array.ndim))
        means.append(array.mean(axis=axes, dtype=np.float64))
        variances.append(array.var(axis=axes, dtype=np.float64))
    mean = np.mean(means, axis=0)
    # Law of total variance: within scans plus between their means; no large squares cancel.
    std = np.sqrt(np.mean(variances, axis=0) + np.var(means, axis=0))
    return tuple(float(v) for v in np.stack([mean, std], axis=1).ravel())


def _fit_nyul(arrays: Iterable[NDArray[np.float32]]) -> tuple[float, ...]:
    """Mean standard landmarks (Nyúl & Udupa 1999)."""
    landmarks = [intensity.nyul_standard(intensity.nyul_landmarks(array)) for array in arrays]
    return tuple(float(v) for v in np.mean(landmarks, axis=0))
