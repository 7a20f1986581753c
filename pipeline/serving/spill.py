"""Rows of a batch on their way into sorted tables, without being held in memory all at once.

An external merge sort: rows are sorted a few thousand at a time, written as lines of JSON, and
merged as they are read (Knuth, The Art of Computer Programming 3, 5.4).
"""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

# About a megabyte of rows; each run of them is one open file while they are merged.
_ROWS_HELD: Final = 2048

Row = list[Any]


class Spill:
    """Takes rows in any order and gives them back sorted; a context manager, which leaves nothing.

    Args:
        folder: Where rows are kept meanwhile; made, and removed in the end.
        keys: By so many of its first values a row is sorted. Rows with the same keys come in the
            order in which they were added.
    """

    def __init__(self, folder: Path, keys: int) -> None:
        self._folder = folder
        self._keys = keys
        self._held: list[Row] = []
        self._runs: list[Path] = []

    def __enter__(self) -> Spill:
        self._folder.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder)

    def add(self, row: Sequence[Any]) -> None:
        """Take a row: text, numbers, None, and lists or tuples of these (which come as lists)."""
        self._held.append(list(row))
        if len(self._held) == _ROWS_HELD:
            self._write_run()

    def rows(self) -> Iterator[Row]:
        """All rows that were added, sorted; may be asked for again."""
        self._write_run()
        files = [run.open(encoding="ascii") for run in self._runs]
        try:
            yield from heapq.merge(*map(_lines, files), key=self._key)
        finally:
            for file in files:
                file.close()

    def _key(self, row: Row) -> Row:
        return row[: self._keys]

    def _write_run(self) -> None:
        if not self._held:
            return
        run = self._folder / str(len(self._runs))
        with run.open("x", encoding="ascii") as file:
            for row in sorted(self._held, key=self._key):
                file.write(json.dumps(row, allow_nan=False) + "\n")
        self._runs.append(run)
        self._held.clear()


def _lines(file: TextIO) -> Iterator[Row]:
    for line in file:
        yield json.loads(line)
