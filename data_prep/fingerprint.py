"""The fingerprint of a cohort: what its scans are like, in numbers that fit on a page.

nnU-Net's idea (Isensee et al., Nature Methods 18:203, 2021): preprocessing follows from the
properties of a data set, so measure them first (``fingerprinting``). It holds no ids and no paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ValidationError

from data_prep.config import Config
from data_prep.config_faults import first_fault
from data_prep.errors import StageError
from data_prep.manifest import ScanRecord
from data_prep.preprocess import AS_STORED
from data_prep.task import Task

Counts = dict[str, int]
Frame = Literal["RAS", "PL", "IL", "IP", "as stored"]

NO_LABEL: Final = "(none)"
_TO_AXIS: Final = str.maketrans("LPI", "RAS")
# A scan holds air, and its numbers are Hounsfield units, if its least value is below this: air is
# -1000 HU by definition, and no other usual scale goes there.
_AIR_BELOW_HU: Final = -500.0
# ... and nothing but metal lies above this (cortical bone ends near 2000 HU).
_HU_HIGHEST: Final = 4000.0
_EQUAL: Final = 0.01  # ends of two scales that differ by less than this share are the same


class Spread(Config):
    """How a number is distributed over scans: ends, 10th and 90th percentile, median."""

    minimum: float
    lower: float
    median: float
    upper: float
    maximum: float

    @classmethod
    def of(cls, values: ArrayLike) -> Spread:
        """The spread of at least one value."""
        ends = np.quantile(np.asarray(values, dtype=np.float64), (0, 0.1, 0.5, 0.9, 1))
        return cls(**dict(zip(cls.model_fields, (float(v) for v in ends), strict=True)))

    @property
    def is_constant(self) -> bool:
        """True where all values are equal."""
        return self.minimum == self.maximum


class Axis(Config):
    """One axis of the scans, in the directions of ``CohortFingerprint.frame``.

    Attributes:
        name: What it is, in words.
        voxels: Over all scans of the cohort's number of dimensions.
        spacing_mm, extent_mm: Over those that state a voxel size; None where none does.
        body_mm: Edge of the box around the scan's centre that holds its foreground, over the
            sampled scans that state a voxel size; None where none does.
    """

    name: str
    voxels: Spread
    spacing_mm: Spread | None
    extent_mm: Spread | None
    body_mm: Spread | None


class Intensities(Config):
    """Intensities as read, before any scaling.

    Attributes:
        minimum, maximum, mean: Of every scan (from the manifest).
        sampled: Scans that were read again for what follows.
        unreadable: Scans of the sample that could not be read again.
        low, middle, high: 1st, 50th and 99th percentile of the sampled scans.
        gain: How much scans differ in scale: 90th over 10th percentile of ``high - low``. 1 is
            no difference.
        unlikeness: How much histograms differ in shape once each is stretched to 0..1: the
            largest standard deviation of a Nyúl landmark between scans.
        tissue: Median 0.5th and 99.5th percentile of what is above -900 (not air, if the numbers
            are Hounsfield units).
        colour: Sampled scans that have three channels which differ.
    """

    minimum: Spread
    maximum: Spread
    mean: Spread
    sampled: int
    unreadable: int
    low: Spread
    middle: Spread
    high: Spread
    gain: float
    unlikeness: float
    tissue: tuple[float, float]
    colour: int

    @property
    def has_one_scale(self) -> bool:
        """True where every scan begins and ends at the same value (a fixed export range)."""
        slack = _EQUAL * (self.maximum.maximum - self.minimum.minimum)
        return all(end.maximum - end.minimum <= slack for end in (self.minimum, self.maximum))


class CohortFingerprint(Config):
    """What a cohort's scans are like.

    Attributes:
        cohort: Name in the data config.
        task: What is to be predicted.
        scans, patients: How many.
        scans_per_patient: Over patients.
        scans_per_class, patients_per_class: By class; a scan with several labels counts in each.
        formats, modalities, dtypes, channels, orientations, shapes, flags: Scans of each kind; the
            commonest first, rare ones together as "other"; "" where a file does not say.
        dimensions: Scans by number of axes, "2" and "3".
        frame: Orientation that the axes are measured in: "RAS" for volumes, the plane's upright
            orientation for images, "as stored" where no scan says how it lies or where images lie
            in several planes.
        with_orientation: Scans that state how they lie.
        with_spacing: Scans that state a voxel size.
        axes: The axes of the commoner number of dimensions, in the directions of ``frame``.
        anisotropy: Longest over shortest voxel edge of each scan that states them, else None.
        intensities: As read.
    """

    cohort: str
    task: Task
    scans: int
    patients: int
    scans_per_patient: Spread
    scans_per_class: Counts
    patients_per_class: Counts
    formats: Counts
    modalities: Counts
    dtypes: Counts
    channels: Counts
    orientations: Counts
    shapes: Counts
    flags: Counts
    dimensions: Counts
    frame: Frame
    with_orientation: int
    with_spacing: int
    axes: tuple[Axis, ...]
    anisotropy: Spread | None
    intensities: Intensities

    @property
    def spatial_ndim(self) -> int:
        """2 or 3: what most scans are."""
        return len(self.axes)

    @property
    def unit(self) -> str:
        """What a scan is made of: "pixel" in 2D, "voxel" in 3D."""
        return "voxel" if self.spatial_ndim == 3 else "pixel"

    @property
    def modality(self) -> str:
        """DICOM's code where all scans that state one agree, else ""."""
        stated = [name for name in self.modalities if name]
        return stated[0] if len(stated) == 1 else ""

    @property
    def is_eight_bit(self) -> bool:
        """True where every scan is of unsigned bytes: somebody has windowed it before."""
        return set(self.dtypes) <= {"uint8", "bool"}

    @property
    def looks_like_hu(self) -> bool:
        """True where intensities are, by all that is known, Hounsfield units."""
        stated = set(self.modalities) - {""}
        low, high = self.intensities.minimum.median, self.intensities.high.median
        return (
            stated <= {"CT"}
            and "no_rescale" not in self.flags
            and low < _AIR_BELOW_HU
            and high < _HU_HIGHEST
        )

    def to_json(self) -> dict[str, Any]:
        """JSON content; ``from_json`` gives an equal fingerprint."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, content: Any) -> CohortFingerprint:
        """The fingerprint that ``to_json`` described.

        Raises:
            StageError: ``fingerprint.bad_file`` if the content is not a fingerprint's.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise StageError(
                "fingerprint.bad_file",
                f"not a fingerprint of this medcurve version: {first_fault(error)}",
                fix="remove the cohort's fingerprint folder and run `medcurve plan` again",
            ) from None


def labels_of(record: ScanRecord) -> tuple[str, ...]:
    """The scan's classes, or "(none)" for a multi-label scan that has none."""
    return record.labels or (NO_LABEL,)


def states_spacing(record: ScanRecord) -> bool:
    """A reader that finds no voxel size in a file says 1 mm along each axis."""
    return bool(record.orientation) or any(mm != 1 for mm in record.spacing_mm)


def in_frame(record: ScanRecord, values: Sequence[float], frame: Frame) -> list[float]:
    """One value an axis, put in the order that the axes have in ``CohortFingerprint.frame``."""
    if frame == AS_STORED or not record.orientation:
        return list(values)
    found = record.orientation.translate(_TO_AXIS)
    return [values[found.index(letter)] for letter in frame.translate(_TO_AXIS)]
