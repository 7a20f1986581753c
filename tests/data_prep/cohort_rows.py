"""Cohorts made of manifest rows and glimpses, without a file being read."""

from __future__ import annotations

import dataclasses
from typing import Any, get_origin, get_type_hints

import numpy as np

from data_prep.fingerprint import CohortFingerprint
from data_prep.fingerprinting import measure
from data_prep.glimpse import N_QUANTILES, Glimpse
from data_prep.intensity import NYUL_PERCENTILES
from data_prep.manifest import ScanRecord
from data_prep.task import Task

TASK = Task(kind="binary", class_names=("benign", "malignant"))
_EMPTY = {str: "", int: 0, float: 0.0, bool: False, bytes: b""}


def row(number: int = 0, **changes: Any) -> ScanRecord:
    """A manifest row: an MR volume of 40 x 40 x 30 voxels of 2 mm, but for what is changed."""
    hints = get_type_hints(ScanRecord)
    empty = {
        field.name: () if get_origin(hints[field.name]) is tuple else _EMPTY[hints[field.name]]
        for field in dataclasses.fields(ScanRecord)
    }
    usual = {
        "scan_id": f"{number:016x}",
        "patient_id": f"P{number:03d}",
        "labels": (TASK.class_names[number % 2],),
        "format": "dicom",
        "paths": (f"secret/{number}.dcm",),
        "modality": "MR",
        "shape": (1, 40, 40, 30),
        "spacing_mm": (2.0, 2.0, 2.0),
        "orientation": "RAS",
        "dtype": "float32",
        "minimum": 0.0,
        "maximum": 1000.0 + 50 * number,
        "mean": 300.0,
    }
    return ScanRecord(**empty | usual | changes)


def look(low: float = 0.0, high: float = 1000.0, **changes: Any) -> Glimpse:
    """A glimpse of a scan whose intensities are spread evenly from ``low`` to ``high``."""
    usual = {
        "quantiles": np.linspace(low, high, N_QUANTILES),
        "landmarks": np.interp(NYUL_PERCENTILES, (0, 100), (low, high)),
        "tissue": (low, high),
        "is_colour": False,
        "reach_mm": (80.0, 80.0, 60.0),
        "thumbnail": np.zeros((4, 4), dtype=np.uint8),
    }
    return Glimpse(**usual | changes)


def cohort(
    count: int = 10,
    *,
    looks: list[Glimpse] | None = None,
    unreadable: int = 0,
    **changes: Any,
) -> CohortFingerprint:
    """The fingerprint of ``count`` rows that are all changed alike."""
    rows = [row(number, **changes) for number in range(count)]
    return of_rows(rows, looks, unreadable)


def of_rows(
    rows: list[ScanRecord], looks: list[Glimpse] | None = None, unreadable: int = 0
) -> CohortFingerprint:
    """The fingerprint of rows; without ``looks`` every scan looks alike and fills its grid."""
    looks = looks or [
        look(reach_mm=tuple(n * mm for n, mm in zip(r.shape[1:], r.spacing_mm, strict=True)))
        for r in rows
    ]
    return measure("made", TASK, rows, list(zip(rows, looks, strict=False)), unreadable)


def image(**changes: Any) -> dict[str, Any]:
    """What makes a row an 8-bit grey image without geometry."""
    usual = {
        "format": "raster",
        "modality": "",
        "shape": (1, 60, 80),
        "spacing_mm": (1.0, 1.0),
        "orientation": "",
        "dtype": "uint8",
        "maximum": 255.0,
    }
    return usual | changes
