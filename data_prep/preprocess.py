"""The recipe that turns any scan into what a model takes: fitted once, applied everywhere.

Order: colour -> orientation -> spacing -> resize or crop/pad -> intensity. ``PrepRecipe.apply`` is
the one function that both prep and predict call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator, model_validator

from data_prep import intensity
from data_prep.config import Config
from data_prep.errors import CohortError, ConfigError, ScanError, StageError
from data_prep.geometry import FitMode, check_orientation, reorient, to_grid
from data_prep.volume import Volume

AS_STORED: Final = "as stored"

PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
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


class ImageNet(Config):
    """[low, high] to 0..1, then ImageNet's mean and standard deviation per colour.

    An end that is left out is each scan's own. Needs ``channels: 3``.
    """

    kind: Literal["imagenet"] = "imagenet"
    low: float | None = None
    high: float | None = None


Intensity = Annotated[
    Unchanged | Window | ZScore | TrainingZScore | MinMax | Percentile | Nyul | Equalize | ImageNet,
    Field(discriminator="kind"),
]


class PrepConfig(Config):
    """What a recipe does, before it has seen a scan (``configs/prep/*.yaml``).

    Attributes:
        orientation: Direction of each axis, "RAS" for volumes, "PL" for images (rows to
            Posterior, columns to Left), or "as stored". Scans without geometry are left as they
            are.
        spacing_mm: Voxel size along each axis, one number for all axes, or None to keep each
            scan's own.
        shape: Voxels along each axis, or one number for all axes.
        fit: ``resize`` stretches to the shape; ``crop_or_pad`` keeps the voxel size, cuts and
            fills (with the scan's smallest value) around the centre.
        intensity: The intensity scale.
        channels: 1 (colour becomes luma), 3 (grey is repeated), or "as stored".
    """

    orientation: str = AS_STORED
    spacing_mm: PositiveFloat | tuple[PositiveFloat, ...] | None = None
    shape: PositiveInt | tuple[PositiveInt, ...]
    fit: FitMode = "resize"
    intensity: Intensity = Unchanged()
    channels: Literal[1, 3, "as stored"] = AS_STORED

    @field_validator("orientation")
    @classmethod
    def _check_orientation(cls, code: str) -> str:
        if code != AS_STORED:
            check_orientation(code)
        return code

    @model_validator(mode="after")
    def _check(self) -> PrepConfig:
        if isinstance(self.intensity, ImageNet) and self.channels != 3:
            raise ValueError("intensity 'imagenet' needs channels: 3")
        return self


class PrepRecipe(Config):
    """A config with what was fitted: everything that decides a prepared scan's bits.

    Attributes:
        config: What to do.
        spatial_ndim: 2 or 3, as the training scans.
        channels: Channels of the training scans as read (not of what ``apply`` returns).
        statistics: What fitting found: (mean, std) of each channel for ``training_z_score``, the
            standard histogram for ``nyul``, else empty.
    """

    config: PrepConfig
    spatial_ndim: Literal[2, 3]
    channels: PositiveInt
    statistics: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _check_statistics(self) -> PrepRecipe:
        if len(self.statistics) != self._n_statistics():
            raise ValueError(
                f"{len(self.statistics)} statistics, where intensity "
                f"'{self.config.intensity.kind}' has {self._n_statistics()}"
            )
        return self

    @classmethod
    def fit(cls, config: PrepConfig, volumes: Iterable[Volume]) -> PrepRecipe:
        """Fit on the training scans, and on no others.

        One pass that holds one scan at a time. Where ``config`` has nothing to fit, only the first
        scan is read.

        Raises:
            CohortError: ``prep.no_training_scans``.
            ConfigError: ``prep.wrong_ndim`` or ``prep.wrong_channels`` where the config does not
                suit scans like the first one.
            ScanError: As ``apply``, where the training scans do not suit each other.
        """
        remaining = iter(volumes)
        first = next(remaining, None)
        if first is None:
            raise CohortError(
                "prep.no_training_scans",
                "no training scan can be read, so the recipe cannot be fitted",
                fix="check the train split and the manifest's quarantine.csv",
            )
        # Fitting needs the scans as they are before the intensity step.
        geometry = cls(
            config=config.model_copy(update={"intensity": Unchanged()}),
            spatial_ndim=3 if first.spatial_ndim == 3 else 2,
            channels=len(first.array),
        )
        geometry._check_config()
        arrays = (geometry.apply(volume) for volume in chain((first,), remaining))
        return cls(
            config=config,
            spatial_ndim=geometry.spatial_ndim,
            channels=geometry.channels,
            statistics=_fit_statistics(config.intensity, arrays),
        )

    @property
    def scan_shape(self) -> tuple[int, ...]:
        """(C, I, J[, K]) of what ``apply`` returns."""
        channels = self.channels if self.config.channels == AS_STORED else self.config.channels
        return (channels, *self._per_axis(self.config.shape))

    def apply(self, volume: Volume) -> NDArray[np.float32]:
        """Prepare one scan.

        Deterministic: the same volume gives the same bits, whatever the number of threads.

        Returns:
            ``scan_shape`` float32, C-contiguous.

        Raises:
            ScanError: ``volume.wrong_ndim``, ``volume.wrong_channels``, ``volume.wrong_plane``, or
                ``volume.bad_shape`` where resampling would need too many voxels.
        """
        return np.ascontiguousarray(self._rescale(self._to_grid(volume)))

    def to_json(self) -> dict[str, Any]:
        """JSON content, as ``files.write_json`` takes; ``from_json`` gives an equal recipe."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, content: Any) -> PrepRecipe:
        """The recipe that ``to_json`` described.

        Raises:
            StageError: ``prep.bad_recipe`` if the content is not a recipe's.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise StageError(
                "prep.bad_recipe",
                f"not a preprocessing recipe of this medcurve version: {error}",
                fix="run `medcurve prep` again",
            ) from None

    def _n_statistics(self) -> int:
        match self.config.intensity:
            case TrainingZScore():
                return 2 * self.scan_shape[0]
            case Nyul():
                return len(intensity.NYUL_PERCENTILES)
            case _:
                return 0

    def _per_axis(self, value: Any) -> tuple[Any, ...]:
        return tuple(value) if isinstance(value, tuple) else (value,) * self.spatial_ndim

    def _check_config(self) -> None:
        """Refuse a config whose lengths do not fit the scans, before any work is done."""
        config = self.config
        lengths = {
            "orientation": () if config.orientation == AS_STORED else config.orientation,
            "spacing_mm": config.spacing_mm if isinstance(config.spacing_mm, tuple) else (),
            "shape": config.shape if isinstance(config.shape, tuple) else (),
        }
        for field, value in lengths.items():
            if value and len(value) != self.spatial_ndim:
                raise ConfigError(
                    "prep.wrong_ndim",
                    f"the scans are {self.spatial_ndim}D, but field '{field}' of the prep config "
                    f"has {len(value)} axes ({value})",
                    fix=f"choose a prep config for {self.spatial_ndim}D scans",
                )
        if config.channels != AS_STORED and self.channels not in (1, 3):
            raise ConfigError(
                "prep.wrong_channels",
                f"the scans have {self.channels} channels, which cannot become {config.channels}",
                fix=f"set channels: {AS_STORED}",
            )

    def _to_grid(self, volume: Volume) -> NDArray[np.float32]:
        """Colour and geometry."""
        config = self.config
        if volume.spatial_ndim != self.spatial_ndim:
            raise ScanError(
                "volume.wrong_ndim",
                f"the scan is {volume.spatial_ndim}D (shape {volume.array.shape}); "
                f"the recipe was fitted on {self.spatial_ndim}D scans",
            )
        allowed = (self.channels,) if config.channels == AS_STORED else (1, 3)
        if len(volume.array) not in allowed:
            raise ScanError(
                "volume.wrong_channels",
                f"the scan has {len(volume.array)} channels; "
                f"the recipe takes {' or '.join(str(n) for n in allowed)}",
            )
        if config.channels == 1 and len(volume.array) == 3:
            volume = replace(volume, array=intensity.to_grey(volume.array))
        if config.orientation != AS_STORED:
            volume = reorient(volume, config.orientation)
        spacing = None if config.spacing_mm is None else self._per_axis(config.spacing_mm)
        array = to_grid(volume, spacing, self._per_axis(config.shape), config.fit).array
        if config.channels == 3 and len(array) == 1:
            array = intensity.to_rgb(array)
        return array

    def _rescale(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        rule = self.config.intensity
        match rule:
            case Window():
                return intensity.window(array, rule.center_hu, rule.width_hu)
            case ZScore():
                return intensity.z_score(array, rule.region)
            case TrainingZScore():
                return intensity.standardise(array, self.statistics[::2], self.statistics[1::2])
            case MinMax():
                return intensity.min_max(array, rule.low, rule.high)
            case Percentile():
                return intensity.percentile(array, rule.lower, rule.upper, rule.region)
            case Nyul():
                return intensity.nyul(array, self.statistics)
            case Equalize():
                return intensity.equalize(array, rule.bins)
            case ImageNet():
                return intensity.imagenet(intensity.min_max(array, rule.low, rule.high))
            case Unchanged():
                return array


def _fit_statistics(rule: Intensity, arrays: Iterable[NDArray[np.float32]]) -> tuple[float, ...]:
    match rule:
        case TrainingZScore():
            return _fit_mean_and_std(arrays)
        case Nyul():
            return _fit_nyul(arrays)
        case _:
            return ()


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
