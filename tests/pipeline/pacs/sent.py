"""Builders: objects as an archive or a scanner sends them."""

from __future__ import annotations

import io

from pydicom.dataset import Dataset
from scan_files import ct_dataset


def encoded(ds: Dataset) -> bytes:
    """A data set as the bytes of a file."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def slices(study: str, series: str, count: int = 4, **changes: object) -> list[Dataset]:
    """A CT series of a study."""
    found = []
    for number in range(count):
        ds = ct_dataset(number, series=f"{study}/{series}")
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "Secret^Name", "", ""
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        found.append(ds)
    return found
