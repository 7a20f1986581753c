"""Files written whole or not at all, their digests, and tables of typed rows.

A write goes to a temporary name in the same folder, is flushed to the disk and then renamed, so
that a kill or a full disk leaves either the old file or the new one (rename(2) is atomic).
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, TypeVar, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.errors import StageError

Row = TypeVar("Row")

_ROWS_HELD: Final = 256

# A spreadsheet runs a cell that begins with one of these as a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically and durably.

    Raises:
        OSError: It cannot be written; the error names a file, also where the disk is full.
    """
    with _replacing(path) as file:
        file.write(data)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of ``path`` when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # write(2) and fsync(2) know no names
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; keys keep their order, floats their full precision."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def sha256_bytes(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """SHA-256 of any JSON content, independent of key order and white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256_bytes(text.encode())


def escape_cell(value: object) -> object:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV atomically, row by row; text that looks like a formula is escaped."""
    with _replacing(path) as file:
        # Cells are quoted where they hold any part of the line end: with "\n" alone, a carriage
        # return in a file's name would begin a new row, formula and all.
        writer = csv.writer(_Lines(file), lineterminator="\r\n")
        writer.writerow([escape_cell(name) for name in header])
        writer.writerows([escape_cell(cell) for cell in row] for row in rows)


class _Lines:
    """What a CSV writer writes to: each row is ended by a line feed alone."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        line = f"{row.removesuffix(chr(13) + chr(10))}\n"
        # A name on disk may hold bytes that are not UTF-8; they are kept, as Python's os does.
        self._file.write(line.encode("utf-8", "surrogateescape"))


def _arrow_type(hint: Any) -> pa.DataType:
    if get_origin(hint) is tuple:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    types = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        bytes: pa.binary(),
    }
    return types[hint]


def _schema(kind: type[Any]) -> pa.Schema:
    hints = get_type_hints(kind)
    return pa.schema([(f.name, _arrow_type(hints[f.name])) for f in dataclasses.fields(kind)])


def write_table(path: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """Write rows of one frozen dataclass as parquet, atomically.

    Fields may be str, int, float, bool, bytes or a homogeneous tuple of these.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(_to_arrow(kind, rows), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


class TableWriter(Generic[Row]):
    """Writes rows as ``write_table`` does, but as they come: only a few are held in memory.

    A context manager. The file is whole only after it ends: for a stage's folder, which takes its
    place when it is complete.
    """

    def __init__(self, path: Path, kind: type[Row]) -> None:
        self._kind = kind
        self._rows: list[Row] = []
        self._writer = pq.ParquetWriter(path, _schema(kind))

    def __enter__(self) -> TableWriter[Row]:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, row: Row) -> None:
        """Append a row."""
        self._rows.append(row)
        if len(self._rows) == _ROWS_HELD:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(_to_arrow(self._kind, self._rows))
        self._rows.clear()


def read_table(path: Path, kind: type[Row]) -> list[Row]:
    """Read rows that ``write_table`` or ``TableWriter`` wrote.

    Raises:
        StageError: If the file is missing, damaged or has other columns.
    """
    return list(iterate_table(path, kind))


def iterate_table(path: Path, kind: type[Row]) -> Iterator[Row]:
    """The same rows, one after another.

    Raises:
        StageError: As ``read_table``.
    """
    schema = _schema(kind)
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != schema.names:
                raise StageError(
                    "stage.other_columns",
                    f"{path}: has the columns {file.schema_arrow.names}, expected {schema.names}",
                    fix="it was written by another version of medcurve: run its stage again",
                )
            for batch in file.iter_batches(batch_size=_ROWS_HELD):
                values = [batch.column(name).to_pylist() for name in schema.names]
                for row in zip(*values, strict=True):
                    yield kind(*(tuple(v) if isinstance(v, list) else v for v in row))
    except (OSError, pa.ArrowException) as error:
        raise StageError(
            "stage.unreadable_table",
            f"{path}: cannot be read as a table ({error})",
            fix="run the stage that writes it again",
        ) from error


def _to_arrow(kind: type[Row], rows: Sequence[Row]) -> pa.Table:
    schema = _schema(kind)
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    return pa.table(columns, schema=schema)


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage wrote.

    Raises:
        StageError: If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(
            "stage.unreadable_json",
            f"{path}: cannot be read as JSON ({error})",
            fix="run the stage that writes it again",
        ) from error
