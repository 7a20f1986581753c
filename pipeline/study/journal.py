"""The journal: what every cell gave, written whole or not at all. It is the truth of a study.

A cell is ``cells/<key>.safetensors`` (probabilities) and ``cells/<key>.json``, which is written
last: its presence means that the cell is complete. Both are sealed by a SHA-256, for a flipped bit
would otherwise be read as another probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from data_prep.errors import MedcurveError
from data_prep.files import digest, read_json, sha256_bytes, write_bytes, write_json
from pipeline.study.errors import StudyError
from pipeline.study.grid import Cell

CELLS: Final = "cells"
_SEAL: Final = "seal"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CellResult:
    """What a fitted cell predicts, and how it came about.

    Attributes:
        val: (N, n_classes) probabilities of every validation scan, in store order.
        test: (N, n_classes) of every test scan.
        shifted: The same of the test scans under each condition, by the name of that split.
        train: Name -> metric on the scans that the cell was fitted on; NaN where undefined.
        measured: ``probe/quantity`` -> what a probe has measured on the fitted family.
        history: Name -> one value per epoch.
        chosen: Name -> what validation chose.
        seconds: ``fit``, ``predict`` (validation and test scans) and ``score_train``, measured by a
            monotonic clock; of a fit that went on from a checkpoint, with the time until that was
            written.
        notes: What a user should know of how it went; said, but not journaled.
    """

    val: Floats
    test: Floats
    shifted: Mapping[str, Floats] = field(default_factory=dict)
    train: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, list[float]] = field(default_factory=dict)
    chosen: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a cell has no result.

    Attributes:
        code: Stable code of the error.
        message: What was found, and what to do.
        passing: True where another try may succeed (the process was killed), so that resuming
            the study tries again.
    """

    code: str
    message: str
    passing: bool = False


@dataclass(frozen=True)
class Entry:
    """A journaled cell without its probabilities.

    Attributes:
        cell: Which one.
        key: Its key.
        failure: Why it failed; None where it is done.
        result_sha256: Of the probabilities' file; "" where it failed.
        train, measured, history, chosen, seconds: As in ``CellResult``; a value that is not finite
            is None.
        finished_ms: When it was journaled, in milliseconds since 1970 (the time that MLflow shows).
    """

    cell: Cell
    key: str
    failure: Failure | None
    result_sha256: str
    train: Mapping[str, float | None]
    measured: Mapping[str, float | None]
    history: Mapping[str, list[float | None]]
    chosen: Mapping[str, float | None]
    seconds: Mapping[str, float]
    finished_ms: int


@dataclass(frozen=True)
class Journal:
    """The journal of one study folder."""

    folder: Path

    def write(self, cell: Cell, key: str, result: CellResult | Failure, finished_ms: int) -> Entry:
        """Journal a cell: after this returns, no kill can lose it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"cell": vars(cell), "key": key, "finished_ms": finished_ms}
        if isinstance(result, Failure):
            content |= {"status": "failed", **vars(result)}
        else:
            # safetensors writes memory as it lies: a transposed array would come back another one
            rows = {"val": result.val, "test": result.test, **result.shifted}
            data = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in rows.items()})
            write_bytes(self._probabilities(key), data)
            content |= {
                "status": "done",
                "result_sha256": sha256_bytes(data),
                "train": {k: finite(v) for k, v in result.train.items()},
                "measured": {k: finite(v) for k, v in result.measured.items()},
                "history": {k: [finite(v) for v in values] for k, values in result.history.items()},
                "chosen": {k: finite(v) for k, v in result.chosen.items()},
                "seconds": dict(result.seconds),
            }
        write_json(self._record(key), {**content, _SEAL: digest(content)})
        return _entry(content)

    def read(self, key: str) -> Entry | None:
        """The entry of a cell, its seals checked; None where it was never journaled.

        Raises:
            StudyError: ``study.damaged_cell``.
        """
        if not self._record(key).is_file():
            return None
        try:
            content = read_json(self._record(key))
            seal = content.pop(_SEAL)
        except (MedcurveError, AttributeError, KeyError, TypeError) as error:
            raise _damaged(self._record(key), "is not a journal entry") from error
        if seal != digest(content):
            raise _damaged(self._record(key), "does not have the content that it was written with")
        if content["status"] == "done":
            self._read_sealed(key, content["result_sha256"])
        return _entry(content)

    def standing(
        self,
        cells: Mapping[str, Cell],
        damaged: Callable[[str, StudyError], object] = lambda key, error: None,
    ) -> dict[str, Entry]:
        """Entries of the cells that need no computing, by key.

        Args:
            cells: Those that are looked for, by key. An entry is of the cell that has its key by
                now: its family may have been called otherwise when it was computed.
            damaged: Told (key, what is wrong) of an entry that cannot be read. It is left out, as
                is what failed in passing: resuming the study computes both again.
        """
        entries = {}
        for key, cell in cells.items():
            try:
                entry = self.read(key)
            except StudyError as error:
                damaged(key, error)
                continue
            if entry is not None and not (entry.failure and entry.failure.passing):
                entries[key] = replace(entry, cell=cell)
        return entries

    def probabilities(self, entry: Entry) -> tuple[Floats, Floats]:
        """(N_val, n_classes) and (N_test, n_classes) of a cell that is done.

        Raises:
            StudyError: ``study.damaged_cell``.
        """
        arrays = self.by_split(entry)
        return arrays["val"], arrays["test"]

    def by_split(self, entry: Entry) -> dict[str, Floats]:
        """The probabilities of a cell that is done, of each split that it predicted.

        Raises:
            StudyError: ``study.damaged_cell``.
        """
        return safetensors.numpy.load(self._read_sealed(entry.key, entry.result_sha256))

    def _read_sealed(self, key: str, expected: str) -> bytes:
        path = self._probabilities(key)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _damaged(path, f"cannot be read ({error.strerror})") from error
        if sha256_bytes(data) != expected:
            raise _damaged(path, "does not have the content that it was written with")
        return data

    def _probabilities(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _record(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return float(value) if math.isfinite(value) else None


def or_nan(value: float | None) -> float:
    """The value, or NaN where JSON has none: what ``finite`` takes away."""
    return math.nan if value is None else value


def _entry(content: dict[str, Any]) -> Entry:
    failure = None
    if content["status"] == "failed":
        failure = Failure(content["code"], content["message"], content["passing"])
    return Entry(
        cell=Cell(**content["cell"]),
        key=content["key"],
        failure=failure,
        result_sha256=content.get("result_sha256", ""),
        train=content.get("train", {}),
        measured=content.get("measured", {}),
        history=content.get("history", {}),
        chosen=content.get("chosen", {}),
        seconds=content.get("seconds", {}),
        finished_ms=content["finished_ms"],
    )


def _damaged(path: Path, what: str) -> StudyError:
    return StudyError(
        "study.damaged_cell",
        f"{path.name} {what}",
        fix="run the study again: the cell is recomputed",
    )
