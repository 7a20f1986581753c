"""The recipe that turns any scan into what a model takes: fitted once, applied everywhere.

Order: colour -> orientation -> spacing -> resize or crop/pad -> intensity. ``PrepRecipe.apply`` is
the one function that both prep and predict call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator, model_validator

from data_prep.config import Config
from data_prep.config_faults import first_fault
from data_prep.errors import CohortError, ConfigError, ScanError, StageError
from data_prep.geometry import FitMode, check_orientation, reorient, to_grid
from data_prep.intensity import to_grey, to_rgb
from data_prep.intensity_rules import (
    FittedRule,
    ImageNet,
    IntensityRule,
    Unchanged,
    fit_statistics,
    n_statistics,
    rescale,
)
from data_prep.projection import project_back
from data_prep.volume import Volume

AS_STORED: Final = "as stored"

PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]


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
    intensity: IntensityRule = Unchanged()
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
        rule = self.config.intensity
        if len(self.statistics) != (n := n_statistics(rule, self.scan_shape[0])):
            raise ValueError(
                f"{len(self.statistics)} statistics, where intensity '{rule.kind}' has {n}"
            )
        return self

    @classmethod
    def fit(cls, config: PrepConfig, volumes: Iterable[Volume]) -> PrepRecipe:
        """Fit on the training scans, and on no others.

        One pass that holds one scan at a time. The first scan decides what scans the recipe takes;
        those that it refuses are left out here, and refused by name when it is applied to them.
        Where ``config`` has nothing to fit, only the first scan is read.

        Raises:
            CohortError: ``prep.no_training_scans``.
            ConfigError: ``prep.wrong_ndim`` or ``prep.wrong_channels`` where the config does not
                suit scans like the first one.
        """
        remaining = iter(volumes)
        first = next(remaining, None)
        if first is None:
            raise _no_training_scans("no training scan can be read")
        # Fitting needs the scans as they are before the intensity step.
        geometry = cls(
            config=config.model_copy(update={"intensity": Unchanged()}),
            spatial_ndim=3 if first.spatial_ndim == 3 else 2,
            channels=len(first.array),
        )
        geometry._check_config()
        statistics: tuple[float, ...] = ()
        if isinstance(config.intensity, FittedRule):
            arrays = _accepted(geometry, chain((first,), remaining))
            if (head := next(arrays, None)) is None:
                raise _no_training_scans("the recipe refuses every training scan")
            statistics = fit_statistics(config.intensity, chain((head,), arrays))
        return cls(
            config=config,
            spatial_ndim=geometry.spatial_ndim,
            channels=geometry.channels,
            statistics=statistics,
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
        array = self._to_grid(volume)
        return np.ascontiguousarray(rescale(self.config.intensity, array, self.statistics))

    def project_back(self, prepared: NDArray[np.float32], volume: Volume) -> NDArray[np.float32]:
        """Bring a map of a prepared scan back to the voxels of the scan itself.

        Args:
            prepared: (I', J'[, K']), one number for each voxel of what ``apply(volume)`` returns.
            volume: The scan as it was read.

        Returns:
            (I, J[, K]) float32 on the voxels of ``volume.array``; 0 where the recipe cut the scan
            off. See ``data_prep.projection``.

        Raises:
            ScanError: As ``apply``.
        """
        config = self.config
        orientation = None if config.orientation == AS_STORED else config.orientation
        spacing = None if config.spacing_mm is None else self._per_axis(config.spacing_mm)
        return project_back(prepared, volume, orientation, spacing, config.fit)

    def without_intensity(self) -> PrepRecipe:
        """The recipe less its intensity step: voxels keep the values that they were read with.

        Not for any model's use: it is what happens where normalisation is forgotten.
        """
        return self._with(intensity=Unchanged())

    def shape_only(self) -> PrepRecipe:
        """The recipe less orientation, spacing and intensity: only the shape (and colour) fits.

        Not for any model's use: it is what happens where preprocessing is forgotten.
        """
        return self._with(orientation=AS_STORED, spacing_mm=None, intensity=Unchanged())

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
                f"not a preprocessing recipe of this medcurve version: {first_fault(error)}",
                fix="run `medcurve prep` again",
            ) from None

    def _with(self, **steps: Any) -> PrepRecipe:
        config = self.config.model_copy(update=steps)
        return self.model_copy(update={"config": config, "statistics": ()})

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
            volume = replace(volume, array=to_grey(volume.array))
        if config.orientation != AS_STORED:
            volume = reorient(volume, config.orientation)
        spacing = None if config.spacing_mm is None else self._per_axis(config.spacing_mm)
        array = to_grid(volume, spacing, self._per_axis(config.shape), config.fit).array
        if config.channels == 3 and len(array) == 1:
            array = to_rgb(array)
        return array


def _accepted(recipe: PrepRecipe, volumes: Iterable[Volume]) -> Iterator[NDArray[np.float32]]:
    for volume in volumes:
        try:
            yield recipe.apply(volume)
        except ScanError:
            continue


def _no_training_scans(what: str) -> CohortError:
    return CohortError(
        "prep.no_training_scans",
        f"{what}, so the recipe cannot be fitted",
        fix="check the train split, the prep config and the manifest's quarantine.csv",
    )
