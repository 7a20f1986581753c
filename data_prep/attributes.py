"""Attributes of scans, such as sex, scanner or site: what scores are told apart by.

They are columns of the label table that the data config names, and elements of DICOM headers.
Ingest writes them beside the manifest, and prep those of the store's scans beside its index, as
``attributes.parquet``: one row for each scan and attribute. No model ever sees them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import CohortError, StageError
from data_prep.files import iterate_table

ATTRIBUTES: Final = "attributes.parquet"

_NEARLY_ALL: Final = 0.9  # of the patients have a value of their own
_FEWEST: Final = 10  # of fewer values nothing is said: three sites of three patients are no names
_MEASURED: Final = re.compile(
    r"[+-]?(?!0\d)\d{1,4}(\.\d*)?"
)  # 63 or 1.75; no date, no record number


@dataclass(frozen=True)
class AttributeRow:
    """One attribute of one scan.

    Attributes:
        scan_id: The manifest's id.
        attribute: Name of the column.
        value: As it stands in the table; "" where it is unknown.
    """

    scan_id: str
    attribute: str
    value: str


def read_attributes(folder: Path, scan_ids: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """Attribute -> (N,) values of the given scans, in the order that the data config names them.

    Args:
        folder: A manifest's, or a store's; one without attributes has none.
        scan_ids: (N,) which scans.

    Raises:
        StageError: ``stage.unreadable_table``, or ``stage.incomplete`` if a scan is missing.
    """
    path = folder / ATTRIBUTES
    if not path.is_file():
        return {}
    found: dict[str, dict[str, str]] = {}
    for row in iterate_table(path, AttributeRow):
        found.setdefault(row.attribute, {})[row.scan_id] = row.value
    missing = [name for name in scan_ids if any(name not in values for values in found.values())]
    if missing:
        raise StageError(
            "stage.incomplete",
            f"{path}: {len(missing)} scans are not in it, first {missing[0]}",
            fix="run `medcurve ingest` and `medcurve prep` again",
        )
    return {
        attribute: np.array([values[name] for name in scan_ids], dtype=np.str_)
        for attribute, values in found.items()
    }


def refuse_identifying(
    where: str,
    attributes: Sequence[str],
    patient_ids: Sequence[str],
    values: Sequence[Sequence[str]],
) -> None:
    """Stop where an attribute is a name, a number or a date that only one patient has.

    Groups of one patient score nothing, and their names would stand in reports.

    Args:
        where: For the message.
        attributes: Names of the columns.
        patient_ids: (N,) patient of each scan.
        values: (N,) values of each scan, one for each attribute.

    Raises:
        CohortError: ``labels.identifying_column``.
    """
    for position, attribute in enumerate(attributes):
        cells = [scan[position] for scan in values]
        if told := tells_who(patient_ids, cells):
            raise CohortError(
                "labels.identifying_column",
                f"{where}: the attribute '{attribute}' has {told}, so that a value tells who it is",
                fix="take it out of labels.attributes, or write groups instead (a site, a year); "
                "measured numbers of up to four digits, such as an age, are put into quarters",
            )


def tells_who(patient_ids: Sequence[str], cells: Sequence[str]) -> str:
    """Nothing where values are shared or measured; else how many there are for how many patients.

    Args:
        patient_ids: (N,) patient of each scan.
        cells: (N,) value of each scan, "" where unknown.
    """
    patients = {who for who, cell in zip(patient_ids, cells, strict=True) if cell}
    distinct = {cell for cell in cells if cell}
    if len(distinct) < max(_FEWEST, _NEARLY_ALL * len(patients)):
        return ""
    if all(_MEASURED.fullmatch(cell) for cell in distinct):
        return ""
    return f"{len(distinct)} different values for {len(patients)} patients"
