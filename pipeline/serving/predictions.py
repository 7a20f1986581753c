"""The tables that a batch of scans gives: one row for every scan, scored or not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.files import write_bytes, write_csv, write_json
from data_prep.task import Task
from pipeline.serving.answers import PROBABILITY_DECIMALS, Answer
from pipeline.serving.batch_shift import BatchShift

# Three decimals of a score that counts spreads of the held-out scans.
SHIFT_DECIMALS: Final = 3
# Flags of a scan that does not look like the training scans.
UNLIKE_TRAINING: Final = "unlike_training"
ABSTAINED: Final = "abstained"
SHIFT_FLAGS: Final = {
    UNLIKE_TRAINING: "the scan does not look like the training scans: do not rely on the answer",
    ABSTAINED: "the model gives no class, as it was told to for such scans",
}

Status = Literal["ok", "quarantined"]


@dataclass(frozen=True)
class Prediction:
    """One row of ``predictions.csv``.

    Attributes:
        scan: Path of the file or of the series' folder, relative to the input folder.
        files: The scan's files, relative to the input folder.
        status: ``ok`` or ``quarantined``.
        predicted: The class that the model decides for; for a multi-label task the labels; ()
            where the scan was not scored, or the model abstains.
        probability: One per class, calibrated and rounded; () where the scan was not scored.
        within: The prediction set; () where it is empty, the scan was not scored, or the model
            abstains.
        shift: How foreign the scan is to the training scans; None where that is not known.
        flags: Oddities that were accepted.
        code: Stable code of ``errors.SCAN_CODES`` where the scan was not scored.
        reason: The same in words.
    """

    scan: str
    files: tuple[str, ...]
    status: Status
    predicted: tuple[str, ...] = ()
    probability: tuple[float, ...] = ()
    within: tuple[str, ...] = ()
    shift: float | None = None
    flags: tuple[str, ...] = ()
    code: str = ""
    reason: str = ""


@dataclass(frozen=True)
class PredictionSummary:
    """Counts of a batch, without any path: fit for a log.

    Attributes:
        inputs: ``ok + quarantined + skipped``.
        ok: Scans that were scored.
        quarantined: Scans that were not, each with a code.
        skipped: Files that are not meant to be scans.
        input_files: Number of files behind ``inputs``.
        quarantined_by_code: Code -> scans.
        skipped_by_reason: Reason -> files.
        flagged: Flag -> scans.
        predicted: Class -> scans, classes in the task's order.
        model: Identity of the model that scored.
        seconds: Wall time; not written to ``summary.json``, whose bytes depend on the input only.
        shift: Whether the batch is drawn like the training cohort; None where that cannot be told.
    """

    inputs: int
    ok: int
    quarantined: int
    skipped: int
    input_files: int
    quarantined_by_code: dict[str, int]
    skipped_by_reason: dict[str, int]
    flagged: dict[str, int]
    predicted: dict[str, int]
    model: dict[str, str]
    seconds: float
    shift: BatchShift | None = None

    @property
    def scans_per_second(self) -> float:
        """Scans, scored or not, per second of wall time."""
        return (self.ok + self.quarantined) / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        scans = self.ok + self.quarantined
        return {
            "inputs": self.inputs,
            "ok": self.ok,
            "quarantined": self.quarantined,
            "skipped": self.skipped,
            "input_files": self.input_files,
            "ok_rate": self.ok / scans,
            "quarantined_rate": self.quarantined / scans,
            "quarantined_by_code": self.quarantined_by_code,
            "skipped_by_reason": self.skipped_by_reason,
            "flagged": self.flagged,
            "predicted": self.predicted,
            "shift": self.shift.to_json() if self.shift else None,
            "model": self.model,
        }


def scored(
    scan: str, files: tuple[str, ...], flags: tuple[str, ...], answer: Answer, abstain: bool
) -> Prediction:
    """The row of a scored scan.

    ``abstain``: no class where the scan does not look like the training scans.
    """
    silent = abstain and answer.shift is not None and answer.shift.flagged
    return Prediction(
        scan=scan,
        files=files,
        status="ok",
        predicted=() if silent else answer.predicted,
        probability=tuple(float(p) for p in answer.probability),
        within=() if silent else answer.within,
        shift=shift_score(answer),
        flags=(*flags, ABSTAINED) if silent else flags,
    )


def shift_score(answer: Answer) -> float | None:
    """How foreign a scan is to the training scans, as the tables show it."""
    if answer.shift is None or not math.isfinite(answer.shift.score):
        return None
    return round(answer.shift.score, SHIFT_DECIMALS)


def summarise(
    rows: Sequence[Prediction],
    skipped: Sequence[tuple[str, str]],
    task: Task,
    model: dict[str, str],
    seconds: float,
) -> PredictionSummary:
    """Count a batch; ``skipped`` holds (path, reason)."""
    ok = [row for row in rows if row.status == "ok"]
    chosen = Counter(name for row in ok for name in row.predicted)
    return PredictionSummary(
        inputs=len(rows) + len(skipped),
        ok=len(ok),
        quarantined=len(rows) - len(ok),
        skipped=len(skipped),
        input_files=sum(len(row.files) for row in rows) + len(skipped),
        quarantined_by_code=_counts([row.code for row in rows if row.code]),
        skipped_by_reason=_counts([reason for _, reason in skipped]),
        flagged=_counts([flag for row in rows for flag in row.flags]),
        predicted={name: chosen[name] for name in task.class_names},
        model=model,
        seconds=seconds,
    )


def write_predictions(
    folder: Path,
    task: Task,
    rows: Sequence[Prediction],
    skipped: Sequence[tuple[str, str]],
    summary: PredictionSummary,
) -> None:
    """Write all tables of a batch.

    Args:
        folder: Exists and is private, for the tables hold paths.
        task: Names the probability columns.
        rows: Sorted by scan.
        skipped: (path, reason), sorted.
        summary: Of the same rows.
    """
    classes = [f"p_{name}" for name in task.class_names]
    columns = ("prediction_set", "shift_score", "flags", "code", "reason")
    header = ["scan", "status", "predicted_class", *classes, *columns]
    write_csv(folder / "predictions.csv", header, (_cells(row, len(classes)) for row in rows))
    _write_parquet(folder / "predictions.parquet", classes, rows)
    refused = sorted((f, row.code, row.reason) for row in rows if row.code for f in row.files)
    write_csv(folder / "quarantine.csv", ("path", "code", "reason"), refused)
    write_csv(folder / "skipped.csv", ("path", "reason"), skipped)
    write_json(folder / "summary.json", summary.to_json())


def _cells(row: Prediction, n_classes: int) -> list[object]:
    shown = [f"{p:.{PROBABILITY_DECIMALS}f}" for p in row.probability] or [""] * n_classes
    text = [row.scan, row.status, ";".join(row.predicted)]
    shift = "" if row.shift is None else f"{row.shift:.{SHIFT_DECIMALS}f}"
    enclosed = [";".join(row.within), shift]
    return [*text, *shown, *enclosed, " ".join(row.flags), row.code, row.reason]


def _write_parquet(path: Path, classes: Sequence[str], rows: Sequence[Prediction]) -> None:
    columns: dict[str, pa.Array] = {
        "scan": pa.array([row.scan for row in rows], pa.string()),
        "status": pa.array([row.status for row in rows], pa.string()),
        "predicted_class": pa.array([";".join(row.predicted) for row in rows], pa.string()),
    }
    for position, name in enumerate(classes):
        values = [row.probability[position] if row.probability else None for row in rows]
        columns[name] = pa.array(values, pa.float64())
    columns["prediction_set"] = pa.array(
        [list(row.within) if row.probability else None for row in rows], pa.list_(pa.string())
    )
    columns["shift_score"] = pa.array([row.shift for row in rows], pa.float64())
    columns["flags"] = pa.array([list(row.flags) for row in rows], pa.list_(pa.string()))
    columns["code"] = pa.array([row.code for row in rows], pa.string())
    columns["reason"] = pa.array([row.reason for row in rows], pa.string())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def _counts(names: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
