"""Taking a cohort's fingerprint, from its manifest's rows and a sample of scans.

Counts and geometry come from the rows; for intensities a few scans are read again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.fingerprint import (
    NO_LABEL,
    Axis,
    CohortFingerprint,
    Counts,
    Frame,
    Intensities,
    Spread,
    in_frame,
    labels_of,
    states_spacing,
)
from data_prep.glimpse import Glimpse, plane_code
from data_prep.intensity import nyul_standard
from data_prep.manifest import ScanRecord
from data_prep.preprocess import AS_STORED
from data_prep.task import Task

# More different values than this (shapes, orientations) are counted together.
_MOST_KINDS: Final = 12
_OTHER: Final = "other"
_AXIS_NAMES: Final = {
    "RAS": ("left to right", "posterior to anterior", "inferior to superior"),
    "PL": ("rows (to posterior)", "columns (to left)"),
    "IL": ("rows (to inferior)", "columns (to left)"),
    "IP": ("rows (to inferior)", "columns (to posterior)"),
}


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


def _frame(records: Sequence[ScanRecord], ndim: int) -> Frame:
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
    frame: Frame,
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
