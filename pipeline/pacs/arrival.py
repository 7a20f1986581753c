"""An object that came over the network -> a file in a folder of its study and series.

Nothing that a sender states is trusted: a name is made of UIDs only after they were checked to be
digits and dots, and the header is read with the limits of the readers.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_prep.errors import MedcurveError, ScanError
from data_prep.readers.dicom_file import lookup, read_header_dataset
from pipeline.dicom_out.identity import is_ours
from pipeline.dicom_out.source import is_uid

_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


class PacsError(MedcurveError):
    """An archive, or what it was asked for or sent, cannot be used."""


class ArrivalError(PacsError):
    """One object that is not taken; its sender is told, and all goes on."""


@dataclass(frozen=True)
class ObjectKeys:
    """What an object says it is; every UID is a valid one.

    Attributes:
        sop_class: SOP Class UID.
        instance: SOP Instance UID.
        study: Study Instance UID.
        series: Series Instance UID.
        ours: medcurve made it, and it is no scan.
    """

    sop_class: str
    instance: str
    study: str
    series: str
    ours: bool


@dataclass(frozen=True)
class Arrival:
    """An object that was taken.

    Attributes:
        keys: What it says it is.
        size: Bytes on disk that it takes: 0 for one that lay there already or is ours.
    """

    keys: ObjectKeys
    size: int


def anything(_keys: ObjectKeys) -> None:
    """Accept any object."""


def take_in(folder: Path, data: bytes, check: Callable[[ObjectKeys], None] = anything) -> Arrival:
    """Write an object to ``folder/STUDY/SERIES/INSTANCE-DIGEST.dcm``, unless it is ours.

    The same object sent twice is one file; another one under the same UID is a second file, so
    that the readers refuse both.

    Args:
        folder: Private to this process.
        data: A DICOM file, preamble and all.
        check: Raises ``ArrivalError`` for an object that is not wanted.

    Raises:
        ArrivalError: ``pacs.not_dicom``, or ``pacs.bad_uid`` where a UID is missing or none.
        OSError: It cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = folder / f".{secrets.token_hex(8)}.part"
    try:
        _write_private(partial, data)
        keys = _keys(folder, partial.name)
        check(keys)
        if keys.ours:
            return Arrival(keys, 0)
        name = f"{keys.instance}-{hashlib.sha256(data).hexdigest()[:12]}.dcm"
        path = folder / keys.study / keys.series / name
        size = 0 if path.exists() else len(data)
        for parent in (path.parent.parent, path.parent):
            parent.mkdir(mode=0o700, exist_ok=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return Arrival(keys, size)


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _keys(folder: Path, name: str) -> ObjectKeys:
    try:
        header = read_header_dataset(folder, name, (*_UIDS, "Manufacturer"))
        uids = [str(lookup(header, key) or "") for key in _UIDS]
        ours = is_ours(header)
    except ScanError as error:
        raise ArrivalError("pacs.not_dicom", f"an object is refused ({error.code})") from None
    except Exception as error:  # a damaged value raises whatever its VR's parser raises
        raise ArrivalError(
            "pacs.not_dicom", f"an object's header is damaged ({type(error).__name__})"
        ) from None
    for key, value in zip(_UIDS, uids, strict=True):
        if not is_uid(value):
            found = "no" if not value else "an invalid"
            raise ArrivalError("pacs.bad_uid", f"an object has {found} {key}")
    sop_class, instance, study, series = uids
    return ObjectKeys(sop_class, instance, study, series, ours)
