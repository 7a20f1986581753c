"""Scores that others have published for the public datasets, to stand beside one's own.

The table is ``data_prep/medmnist_published.csv``: test AUC and accuracy of MedMNIST v2's official
results page (Yang et al., Scientific Data 2023, doi:10.1038/s41597-022-01721-8), on the official
splits.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_prep.readers.medmnist_facts import official_name

_TABLE: Final = Path(__file__).resolve().parent / "medmnist_published.csv"
_LARGE: Final = "_224"  # methods that saw images of 224 pixels


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        method: As the table names it ("resnet18_28": ResNet-18 on images of 28 pixels).
        auc: Test AUC.
        accuracy: Test accuracy.
        source: Where it was published.
    """

    method: str
    auc: float
    accuracy: float
    source: str


def published_scores(dataset: str) -> tuple[Published, ...]:
    """What is published for a dataset at 28 pixels, best AUC first; empty if nothing is.

    A rebuilt dataset gets the scores of the official one, whose test images it shares in number
    only: whoever shows them has to say so.
    """
    name = official_name(dataset)
    with _TABLE.open(encoding="utf-8", newline="") as file:
        found = [
            Published(row["method"], float(row["auc"]), float(row["acc"]), row["source"])
            for row in csv.DictReader(file)
            if row["dataset"] == name and not row["method"].endswith(_LARGE)
        ]
    return tuple(sorted(found, key=lambda one: (-one.auc, one.method)))
