"""Where one scan lies, and what was found in a folder of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Format = Literal["dicom", "nifti", "raster", "npz"]


@dataclass(frozen=True)
class ScanSource:
    """The files of one scan.

    Attributes:
        format: Which reader reads it.
        paths: POSIX paths relative to the root; a DICOM series in slice order.
        item: Item within a file that holds many scans ("train/17" in a MedMNIST npz), else "".
        series_uid: DICOM SeriesInstanceUID, else "".
        patient_key: DICOM PatientID as written, else "". It identifies a person: it is never
            written anywhere, only turned into a keyed pseudonym.
        flags: Oddities that were accepted while the files were grouped.
    """

    format: Format
    paths: tuple[str, ...]
    item: str = ""
    series_uid: str = ""
    patient_key: str = field(default="", repr=False)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """Files that could not become a scan, with a stable code of ``errors.SCAN_CODES``."""

    paths: tuple[str, ...]
    code: str
    reason: str


@dataclass(frozen=True)
class Skipped:
    """A file that is not meant to be a scan (a report object, a table, a hidden file)."""

    path: str
    reason: str


@dataclass(frozen=True)
class Found:
    """Everything under a root: each input file is in exactly one of the three."""

    sources: tuple[ScanSource, ...]
    rejected: tuple[Rejected, ...] = ()
    skipped: tuple[Skipped, ...] = ()
