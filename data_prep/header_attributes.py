"""Attributes of scans from DICOM headers, beside those of the label table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.attributes import tells_who
from data_prep.cohort import CohortConfig, FolderSource
from data_prep.labelling import LabelledScan, pseudonym, pseudonym_key
from data_prep.readers.dicom_attributes import ATTRIBUTE_TAGS


@dataclass(frozen=True)
class WithHeaders:
    """Scans with all of their attributes.

    Attributes:
        attributes: Names: the label table's columns, then DICOM's elements.
        scans: With a value for each.
        notes: Which elements were left out, and why.
    """

    attributes: tuple[str, ...]
    scans: list[LabelledScan]
    notes: tuple[str, ...]


def with_header_attributes(
    config: CohortConfig, scans: Sequence[LabelledScan], runs: Path
) -> WithHeaders:
    """Add what the headers say, of the elements that the data config names.

    An element that no scan has, that the label table has a column for, or that tells who a patient
    is, is left out. A site is a keyed pseudonym.
    """
    names, values, notes = list(config.attributes), [], []
    for tag in config.source.dicom_attributes if isinstance(config.source, FolderSource) else ():
        position = ATTRIBUTE_TAGS.index(tag)
        cells = [scan.source.header[position] if scan.source.header else "" for scan in scans]
        if tag in names or not any(cells):
            continue
        if tells_who([scan.patient_id for scan in scans], cells):
            notes.append(f"{tag} of the DICOM headers tells who a patient is: it was left out")
            continue
        if tag == "InstitutionName":
            key = pseudonym_key(runs)
            cells = [cell and f"site {pseudonym(f'{tag} {cell}', key)[1:7]}" for cell in cells]
        names.append(tag)
        values.append(cells)
    added = zip(*values, strict=True) if values else [()] * len(scans)
    return WithHeaders(
        tuple(names),
        [
            replace(scan, attributes=(*scan.attributes, *more))
            for scan, more in zip(scans, added, strict=True)
        ],
        tuple(notes),
    )
