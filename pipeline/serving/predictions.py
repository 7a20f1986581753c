"""The tables that a batch of scans gives: one row for every scan, scored or not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.errors import MedcurveError, ScanError
from data_prep.files import write_csv, write_json
from data_prep.task import Task
from pipeline.serving.answers import PROBABILITY_DECIMALS, Answer, not_finite
from pipeline.serving.batch_shift import BatchShift
from pipeline.serving.inputs import readable
from pipeline.serving.spill import Spill
from pipeline.trust.shift_policy import OnShift

# Three decimals of a score that counts spreads of the held-out scans.
SHIFT_DECIMALS: Final = 3
# Flags of a scan that does not look like the training scans.
UNLIKE_TRAINING: Final = "unlike_training"
ABSTAINED: Final = "abstained"
SHIFT_FLAGS: Final = {
    UNLIKE_TRAINING: "the scan does not look like the training scans: do not rely on the answer",
    ABSTAINED: "the model gives no class, as it was told to for such scans",
}
# Rows that are written to a parquet file at once.
_GROUP_ROWS: Final = 1024

# What stands between classes, and between flags, in one cell.
CLASS_SEPARATOR: Final = ";"
FLAG_SEPARATOR: Final = " "

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


def answered(
    scan: str, files: tuple[str, ...], flags: tuple[str, ...], answer: Answer, on_shift: OnShift
) -> Prediction:
    """The row of a scan that the model was asked of.

    Args:
        scan: As the row shows it.
        files: The same.
        flags: Oddities of the scan, found before the model was asked.
        answer: The model's.
        on_shift: What to do where the scan does not look like the training scans.
    """
    odd = answer.shift is not None and answer.shift.flagged
    flags = tuple(dict.fromkeys((*flags, UNLIKE_TRAINING) if odd else flags))
    if error := _refusal(answer, on_shift):
        return replace(refused(scan, files, flags, error), shift=shift_score(answer))
    silent = odd and on_shift == "abstain"
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


def refused(
    scan: str, files: tuple[str, ...], flags: tuple[str, ...], error: MedcurveError
) -> Prediction:
    """The row of a scan that is not scored."""
    return Prediction(
        scan, files, "quarantined", flags=flags, code=error.code, reason=readable(error.message)
    )


def _refusal(answer: Answer, on_shift: OnShift) -> ScanError | None:
    """Why a scan is not scored, if it is not."""
    if not answer.finite:
        return not_finite()
    if on_shift == "refuse" and answer.shift and answer.shift.flagged:
        return ScanError(
            "model.unlike_training",
            f"the scan does not look like the training scans (by its {answer.shift.raised_by}, "
            f"score {answer.shift.score:.1f}, p {answer.shift.p_value:.2g})",
        )
    return None


def shift_score(answer: Answer) -> float | None:
    """How foreign a scan is to the training scans, as the tables show it."""
    if answer.shift is None or not math.isfinite(answer.shift.score):
        return None
    return round(answer.shift.score, SHIFT_DECIMALS)


class Tally:
    """Rows of a batch as they come: counted, and kept on disk until they are written.

    Args:
        spill: Where rows are kept; sorts by two values (scan, files).
    """

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self.ok = self.quarantined = self._files = 0
        self._codes: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._predicted: Counter[str] = Counter()

    def add(self, row: Prediction) -> None:
        """Take a row."""
        if row.status == "ok":
            self.ok += 1
            self._predicted.update(row.predicted)
        else:
            self.quarantined += 1
            self._codes[row.code] += 1
        self._files += len(row.files)
        self._flags.update(row.flags)
        self._spill.add([getattr(row, field.name) for field in fields(Prediction)])

    def rows(self) -> Iterator[Prediction]:
        """All rows, sorted by scan; may be asked for again."""
        for row in self._spill.rows():
            cells: list[Any] = [tuple(cell) if isinstance(cell, list) else cell for cell in row]
            yield Prediction(*cells)

    def summary(
        self,
        skipped: Sequence[tuple[str, str]],
        task: Task,
        model: dict[str, str],
        shift: BatchShift | None,
        seconds: float,
    ) -> PredictionSummary:
        """The counts; ``skipped`` holds (path, reason)."""
        return PredictionSummary(
            inputs=self.ok + self.quarantined + len(skipped),
            ok=self.ok,
            quarantined=self.quarantined,
            skipped=len(skipped),
            input_files=self._files + len(skipped),
            quarantined_by_code=_sorted(self._codes),
            skipped_by_reason=_sorted(Counter(reason for _, reason in skipped)),
            flagged=_sorted(self._flags),
            predicted={name: self._predicted[name] for name in task.class_names},
            model=model,
            seconds=seconds,
            shift=shift,
        )


def write_predictions(
    folder: Path,
    task: Task,
    tally: Tally,
    skipped: Sequence[tuple[str, str]],
    summary: PredictionSummary,
) -> None:
    """Write all tables of a batch, row by row.

    Args:
        folder: Exists and is private, for the tables hold paths.
        task: Names the probability columns.
        tally: Holds the rows.
        skipped: (path, reason), sorted.
        summary: Of the same rows.
    """
    classes = [f"p_{name}" for name in task.class_names]
    columns = ("prediction_set", "shift_score", "flags", "code", "reason")
    header = ["scan", "status", "predicted_class", *classes, *columns]
    with Spill(folder / ".quarantine", keys=3) as not_scored:
        with _RowGroups(folder / "predictions.parquet", classes) as groups:

            def cells() -> Iterator[list[object]]:
                # One pass for all three tables: rows are long to read back.
                for row in tally.rows():
                    groups.add(row)
                    for file in row.files if row.code else ():
                        not_scored.add((file, row.code, row.reason))
                    yield _cells(row, len(classes))

            write_csv(folder / "predictions.csv", header, cells())
        write_csv(folder / "quarantine.csv", ("path", "code", "reason"), not_scored.rows())
    write_csv(folder / "skipped.csv", ("path", "reason"), skipped)
    write_json(folder / "summary.json", summary.to_json())


def _cells(row: Prediction, n_classes: int) -> list[object]:
    shown = [f"{p:.{PROBABILITY_DECIMALS}f}" for p in row.probability] or [""] * n_classes
    text = [row.scan, row.status, CLASS_SEPARATOR.join(row.predicted)]
    shift = "" if row.shift is None else f"{row.shift:.{SHIFT_DECIMALS}f}"
    enclosed = [CLASS_SEPARATOR.join(row.within), shift]
    return [*text, *shown, *enclosed, FLAG_SEPARATOR.join(row.flags), row.code, row.reason]


class _RowGroups:
    """``predictions.parquet``, in groups of one size: what a reader takes at once, and is held."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        texts = pa.list_(pa.string())
        self._schema = pa.schema(
            [(name, pa.string()) for name in ("scan", "status", "predicted_class")]
            + [(name, pa.float64()) for name in classes]
            + [("prediction_set", texts), ("shift_score", pa.float64()), ("flags", texts)]
            + [(name, pa.string()) for name in ("code", "reason")]
        )
        self._n_classes = len(classes)
        self._writer = pq.ParquetWriter(path, self._schema)
        self._held: list[list[object]] = []

    def __enter__(self) -> _RowGroups:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._writer:
            self._write()

    def add(self, row: Prediction) -> None:
        """Take the next row."""
        self._held.append(_values(row, self._n_classes))
        if len(self._held) == _GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        if self._held:
            cells = zip(*self._held, strict=True)
            arrays = [pa.array(c, kind) for c, kind in zip(cells, self._schema.types, strict=True)]
            self._writer.write_table(pa.table(arrays, schema=self._schema))
            self._held.clear()


def _values(row: Prediction, n_classes: int) -> list[object]:
    answered = row.probability or (None,) * n_classes
    within = list(row.within) if row.probability else None
    text = (row.scan, row.status, CLASS_SEPARATOR.join(row.predicted))
    return [*text, *answered, within, row.shift, list(row.flags), row.code, row.reason]


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
