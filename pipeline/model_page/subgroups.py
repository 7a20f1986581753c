"""By what test scans are told apart into subgroups.

First what the label table, where the data config names such columns (``labels.attributes``), and
DICOM headers say of patients and scanners; then what ingest has noted of each scan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prep.manifest import ScanRecord
from pipeline.evaluation.subgroups import groups_of

# More groups than these say nothing one by one: a volume can lie in 48 ways.
MOST_GROUPS: Final = 8

_COLUMNS: Final[Mapping[str, Callable[[ScanRecord], str]]] = {
    "modality": lambda scan: scan.modality,
    "file format": lambda scan: scan.format,
    "voxel type": lambda scan: scan.dtype,
    "stored axes": lambda scan: scan.orientation,
    "longest edge, voxels": lambda scan: str(max(scan.shape[1:])),
    "coarsest spacing, mm": lambda scan: f"{max(scan.spacing_mm):.4g}" if scan.orientation else "",
    "mean intensity as read": lambda scan: f"{scan.mean:.4g}",
    "accepted oddities": lambda scan: ", ".join(sorted(scan.flags)) or "none",
}


def subgroups(
    records: Sequence[ScanRecord], named: Mapping[str, NDArray[np.str_]]
) -> dict[str, NDArray[np.str_]]:
    """Attribute -> (N,) text: the named ones, and of the others those with two to eight groups.

    Args:
        records: (N,) scans.
        named: Attributes of label table and DICOM headers, as ``read_attributes`` gives them.
    """
    found = dict(named)
    for name, column in _COLUMNS.items():
        values = np.array([column(record) for record in records], dtype=np.str_)
        if name not in found and 2 <= len(list(groups_of(values))) <= MOST_GROUPS:
            found[name] = values
    return found
