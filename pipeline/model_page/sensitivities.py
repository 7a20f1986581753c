"""What an earlier audit found of this very model: the shifts that are dangerous to it."""

from __future__ import annotations

import csv
from pathlib import Path

from data_prep.config import Config
from data_prep.files import read_json
from data_prep.stage import PROVENANCE
from pipeline.audit.page import TABLE


class Danger(Config):
    """A shift that costs the model more than chance explains.

    Attributes:
        shift: Kind and amount, in words.
        score: The metric under it.
        loss, low, high: What it costs, with its interval.
        flips: Share of scans whose predicted class changes.
    """

    shift: str
    score: float
    loss: float
    low: float
    high: float
    flips: float


class Sensitivities(Config):
    """An audit, in short.

    Attributes:
        folder: Its name.
        metric: By which shifts were judged.
        base: The metric of the scans as they are.
        tried: Shifts that were tried, with the recipe in place.
        dangers: The worst of each kind, at most three; may be none.
    """

    folder: str
    metric: str
    base: float
    tried: int
    dangers: tuple[Danger, ...]


def find_audit(cohort: Path, model: str) -> Sensitivities | None:
    """The audit of a model on a cohort's scans; None where there is none.

    Args:
        cohort: Folder of the cohort's results.
        model: Digest of the package.

    Raises:
        StageError: ``stage.unreadable_json``.
    """
    for folder in sorted(cohort.glob("audit-*")):
        if not (folder / PROVENANCE).is_file():
            continue
        record = read_json(folder / PROVENANCE)
        if record["stage"] == "audit" and record["inputs"].get("model") == model:
            return _read(folder, str(record["config"]["metric"]))
    return None


def _read(folder: Path, metric: str) -> Sensitivities:
    with (folder / TABLE).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["recipe"] == "with"]
    named = sorted((row for row in rows if row["danger"]), key=lambda row: int(row["danger"]))
    return Sensitivities(
        folder=folder.name,
        metric=metric,
        base=float(next(row["score"] for row in rows if row["kind"] == "none")),
        tried=sum(row["kind"] != "none" for row in rows),
        dangers=tuple(
            Danger(
                shift=row["shift"],
                score=float(row["score"]),
                loss=float(row["loss"]),
                low=float(row["loss_low"]),
                high=float(row["loss_high"]),
                flips=float(row["flips"]),
            )
            for row in named
        ),
    )
