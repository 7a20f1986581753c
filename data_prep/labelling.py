"""Which label and which patient belong to each scan that was found."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.attributes import refuse_identifying
from data_prep.cohort import CohortConfig, FolderLabels, PatientFromDicom, PatientFromPath
from data_prep.errors import CohortError
from data_prep.files import write_bytes
from data_prep.labels import LabelRow, read_labels
from data_prep.readers.source import Found, Rejected, ScanSource

_KEY_FILE = ".pseudonym-key"
_SHOWN = 3  # rows that an error names before it only counts


@dataclass(frozen=True, slots=True)
class LabelledScan:
    """A scan of the cohort with its row of the label table: whose it is, and its classes."""

    source: ScanSource
    patient_id: str
    labels: tuple[str, ...]
    official_split: str = ""
    bayes: tuple[float, ...] = ()
    attributes: tuple[str, ...] = ()


def join_labels(
    config: CohortConfig, root: Path, found: Found, runs: Path
) -> tuple[list[LabelledScan], list[Rejected], list[str]]:
    """Give every scan that was found its label and patient.

    Args:
        config: The cohort's.
        root: Folder of its files.
        found: What lies there.
        runs: Where the site's key for pseudonyms lies.

    Returns:
        Scans with label and patient, what was rejected or has none, and notes.

    Raises:
        CohortError: ``labels.scan_not_found`` if rows name scans that are not there,
            ``cohort.no_patient_id``, or as ``read_labels``.
    """
    quarantine = list(found.rejected)
    if isinstance(config.labels, FolderLabels):
        rows: dict[str, LabelRow] = {}
        notes: list[str] = []
    else:
        table, notes = read_labels(root, config.labels, config.patient)
        rows = {row.scan: row for row in table}
    used: set[str] = set()
    labelled = []
    for source in found.sources:
        row = _folder_row(source) if not rows else _row_of(source, rows)
        if row is None or (not row.labels and not _may_be_empty(config)):
            reason = "no row in the label table" if row is None else f"line {row.line}: no label"
            quarantine.append(Rejected(source.paths, "label.missing", reason))
            used |= {row.scan} if row else set()
            continue
        used.add(row.scan)
        patient = row.patient_id or _patient(config, source, runs)
        labelled.append(
            LabelledScan(source, patient, row.labels, row.split, row.bayes, row.attributes)
        )
    refused = {path for rejected in quarantine for path in rejected.paths}
    lost = [row for row in rows.values() if row.scan not in used and not _covers(row, refused)]
    if lost:
        shown = "; ".join(f"line {row.line}, '{row.scan}'" for row in lost[:_SHOWN])
        more = f"; and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        raise CohortError(
            "labels.scan_not_found",
            f"{len(lost)} of {len(rows)} rows name a scan that is not under {root}: {shown}{more}",
            fix="remove the row or add the file; the scan column holds paths relative to "
            "source.root, or SeriesInstanceUIDs",
        )
    if config.attributes:
        refuse_identifying(
            f"cohort '{config.name}'",
            config.attributes,
            [scan.patient_id for scan in labelled],
            [scan.attributes for scan in labelled],
        )
    return labelled, quarantine, notes


def _may_be_empty(config: CohortConfig) -> bool:
    return config.labels.task == "multi-label"


def _covers(row: LabelRow, paths: set[str]) -> bool:
    """True where the row's file, or a file in its folder, is among ``paths``."""
    return any(path == row.scan or path.startswith(f"{row.scan}/") for path in paths)


def _row_of(source: ScanSource, rows: dict[str, LabelRow]) -> LabelRow | None:
    """The row that names the scan by file, by series, or by the nearest folder above it."""
    first = PurePosixPath(source.paths[0])
    names = [*source.paths, source.series_uid, *(str(parent) for parent in first.parents)]
    return next((rows[name] for name in names if name in rows), None)


def _folder_row(source: ScanSource) -> LabelRow | None:
    parts = PurePosixPath(source.paths[0]).parts
    if len(parts) < 2:
        return None
    return LabelRow(source.paths[0], "", (parts[0],), "", (), 0)


def _patient(config: CohortConfig, source: ScanSource, runs: Path) -> str:
    rule = config.patient
    if isinstance(rule, PatientFromDicom):
        if not source.patient_key:
            raise CohortError(
                "cohort.no_patient_id",
                f"'{source.paths[0]}' has no DICOM PatientID",
                fix="take patient ids from a column or a path pattern instead",
            )
        return pseudonym(source.patient_key, pseudonym_key(runs))
    assert isinstance(rule, PatientFromPath)
    match = re.search(rule.pattern, source.paths[0])
    if match is None or not match[1]:
        raise CohortError(
            "cohort.no_patient_id",
            f"'{source.paths[0]}' does not match patient.pattern '{rule.pattern}'",
            fix="correct the pattern: its one group must find the id in every path",
        )
    return match[1]


def pseudonym(patient_key: str, key: bytes) -> str:
    """A stable name that cannot be turned back into the person without the key (HMAC-SHA256)."""
    return "p" + hmac.new(key, patient_key.encode(), hashlib.sha256).hexdigest()[:15]


def pseudonym_key(runs: Path) -> bytes:
    """The site's secret: $MEDCURVE_PSEUDONYM_KEY, else a file made once, readable by its owner."""
    if found := find_pseudonym_key(runs):
        return found
    path = runs / _KEY_FILE
    runs.mkdir(parents=True, exist_ok=True)
    write_bytes(path, secrets.token_hex(32).encode())
    path.chmod(0o600)
    return path.read_bytes()


def find_pseudonym_key(runs: Path) -> bytes | None:
    """The site's secret, or None where none has been made."""
    if text := os.environ.get("MEDCURVE_PSEUDONYM_KEY"):
        return text.encode()
    path = runs / _KEY_FILE
    return path.read_bytes() if path.is_file() else None


def patient_pseudonym(config: CohortConfig, runs: Path) -> Callable[[str], str]:
    """From a cohort's patient ids to what ``pseudonym`` makes of the same ids in DICOM headers."""
    if isinstance(config.patient, PatientFromDicom):
        return str  # these ids are pseudonyms already
    key = pseudonym_key(runs)
    return lambda patient_id: pseudonym(patient_id, key)
