"""The fingerprint of a cohort: what its scans are like, in numbers that fit on a page.

nnU-Net's idea (Isensee et al., Nature Methods 18:203, 2021): preprocessing follows from the
properties of a data set, so measure them first. Counts and geometry come from the manifest's rows;
for intensities a small sample of scans is read again. It holds no ids and no paths.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from data_prep.config import Config
from data_prep.config_faults import first_fault
from data_prep.errors import StageError
from data_prep.glimpse import Glimpse, plane_code
from data_prep.intensity import nyul_standard
from data_prep.manifest import ScanRecord
from data_prep.preprocess import AS_STORED
from data_prep.task import Task

Counts = dict[str, int]

NO_LABEL: Final = "(none)"
# More different values than this (shapes, orientations) are counted together.
_MOST_KINDS: Final = 12
_OTHER: Final = "other"
_AXIS_NAMES: Final = {
    "RAS": ("left to right", "posterior to anterior", "inferior to superior"),
    "PL": ("rows (to posterior)", "columns (to left)"),
    "IL": ("rows (to inferior)", "columns (to left)"),
    "IP": ("rows (to inferior)", "columns (to posterior)"),
}
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
    frame: Literal["RAS", "PL", "IL", "IP", "as stored"]
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


def measure(
    cohort: str,
    task: Task,
    records: Sequence[ScanRecord],
    seen: Sequence[tuple[ScanRecord, Glimpse]],
    unreadable: int = 0,
) -> CohortFingerprint:
    """The fingerprint of a manifest's rows and of the scans that were read again.

    Args:
        cohort: The cohort's name.
        task: What is to be predicted.
        records: At least one.
        seen: The scans that were read again, at least one.
        unreadable: Scans that were to be read again and could not be.
    """
    by_patient = Counter(record.patient_id for record in records)
    ndims = Counter(len(record.shape) - 1 for record in records)
    # Volumes where there are as many of both: an image is the rarer mistake.
    ndim = max(ndims, key=lambda n: (ndims[n], n))
    alike = [record for record in records if len(record.shape) - 1 == ndim]
    frame = _frame(alike, ndim)
    spaced = [record for record in alike if states_spacing(record)]
    return CohortFingerprint(
        cohort=cohort,
        task=task,
        scans=len(records),
        patients=len(by_patient),
        scans_per_patient=Spread.of(list(by_patient.values())),
        scans_per_class=_per_class(task, records),
        patients_per_class=_patients_per_class(task, records),
        formats=_count(record.format for record in records),
        modalities=_count(record.modality for record in records),
        dtypes=_count(record.dtype for record in records),
        channels=_count((str(record.shape[0]) for record in records), most=None),
        orientations=_count(record.orientation for record in records),
        shapes=_count("×".join(str(n) for n in record.shape[1:]) for record in records),
        flags=_count((flag for record in records for flag in record.flags), most=None),
        dimensions={str(n): ndims[n] for n in sorted(ndims)},
        frame=frame,
        with_orientation=sum(bool(record.orientation) for record in alike),
        with_spacing=len(spaced),
        axes=_axes(alike, seen, frame, ndim),
        anisotropy=Spread.of([max(r.spacing_mm) / min(r.spacing_mm) for r in spaced])
        if spaced
        else None,
        intensities=_intensities(records, [look for _, look in seen], unreadable),
    )


def labels_of(record: ScanRecord) -> tuple[str, ...]:
    """The scan's classes, or "(none)" for a multi-label scan that has none."""
    return record.labels or (NO_LABEL,)


def _count(values: Iterable[str], most: int | None = _MOST_KINDS) -> Counts:
    """Commonest first, then by name; what comes after the ``most`` commonest all together."""
    ordered = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    counts = dict(ordered[:most])
    if rest := sum(n for _, n in ordered[len(counts) :]):
        counts[_OTHER] = rest
    return counts


def _per_class(task: Task, records: Sequence[ScanRecord]) -> Counts:
    return _by_class(task, Counter(name for record in records for name in labels_of(record)))


def _patients_per_class(task: Task, records: Sequence[ScanRecord]) -> Counts:
    patients: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for name in labels_of(record):
            patients[name].add(record.patient_id)
    return _by_class(task, {name: len(who) for name, who in patients.items()})


def _by_class(task: Task, counts: Mapping[str, int]) -> Counts:
    """In the order of the task's classes; scans without any label last."""
    names = [*task.class_names, *([NO_LABEL] if counts.get(NO_LABEL) else [])]
    return {name: counts.get(name, 0) for name in names}


def states_spacing(record: ScanRecord) -> bool:
    """A reader that finds no voxel size in a file says 1 mm along each axis."""
    return bool(record.orientation) or any(mm != 1 for mm in record.spacing_mm)


def _frame(
    records: Sequence[ScanRecord], ndim: int
) -> Literal["RAS", "PL", "IL", "IP", "as stored"]:
    oriented = [record.orientation for record in records if record.orientation]
    if not oriented:
        return AS_STORED
    if ndim == 3:
        return "RAS"
    planes = {plane_code(code) for code in set(oriented)}
    for code in ("PL", "IL", "IP"):
        if planes == {code}:
            return code
    return AS_STORED


def _axes(
    records: Sequence[ScanRecord],
    seen: Sequence[tuple[ScanRecord, Glimpse]],
    frame: str,
    ndim: int,
) -> tuple[Axis, ...]:
    spaced = [record for record in records if states_spacing(record)]
    voxels = np.array([in_frame(r, r.shape[1:], frame) for r in records])
    spacing = np.array([in_frame(r, r.spacing_mm, frame) for r in spaced])
    extent = np.array([in_frame(r, _extent_mm(r), frame) for r in spaced])
    body = np.array(
        [
            in_frame(record, look.reach_mm, frame)
            for record, look in seen
            if len(look.reach_mm) == ndim and states_spacing(record)
        ]
    )
    names = _AXIS_NAMES.get(frame, ("i", "j", "k") if ndim == 3 else ("rows", "columns"))
    return tuple(
        Axis(
            name=name,
            voxels=Spread.of(voxels[:, axis]),
            spacing_mm=Spread.of(spacing[:, axis]) if len(spacing) else None,
            extent_mm=Spread.of(extent[:, axis]) if len(extent) else None,
            body_mm=Spread.of(body[:, axis]) if len(body) else None,
        )
        for axis, name in enumerate(names)
    )


def _extent_mm(record: ScanRecord) -> list[float]:
    return [n * mm for n, mm in zip(record.shape[1:], record.spacing_mm, strict=True)]


def in_frame(record: ScanRecord, values: Sequence[float], frame: str) -> list[float]:
    """One value an axis, put in the order that the axes have in ``CohortFingerprint.frame``."""
    if frame == AS_STORED or not record.orientation:
        return list(values)
    found = record.orientation.translate(_TO_AXIS)
    return [values[found.index(letter)] for letter in frame.translate(_TO_AXIS)]


def _intensities(
    records: Sequence[ScanRecord], glimpses: Sequence[Glimpse], unreadable: int
) -> Intensities:
    low, middle, high = np.array([g.at((0.01, 0.5, 0.99)) for g in glimpses]).T
    tissue = np.array([g.tissue for g in glimpses if g.tissue] or [(0.0, 0.0)])
    return Intensities(
        minimum=Spread.of([record.minimum for record in records]),
        maximum=Spread.of([record.maximum for record in records]),
        mean=Spread.of([record.mean for record in records]),
        sampled=len(glimpses),
        unreadable=unreadable,
        low=Spread.of(low),
        middle=Spread.of(middle),
        high=Spread.of(high),
        gain=_gain(high - low),
        unlikeness=_unlikeness(glimpses),
        tissue=(float(np.median(tissue[:, 0])), float(np.median(tissue[:, 1]))),
        colour=sum(g.is_colour for g in glimpses),
    )


def _gain(scales: NDArray[np.float64]) -> float:
    """90th over 10th percentile of the scans' scales; constant scans have none."""
    scales = scales[scales > 0]
    if not len(scales):
        return 1.0
    lower, upper = np.quantile(scales, (0.1, 0.9))
    return float(upper / lower)


def _unlikeness(glimpses: Sequence[Glimpse]) -> float:
    standard = np.array([nyul_standard(seen.landmarks) for seen in glimpses])
    return float(standard.std(axis=0).max())
