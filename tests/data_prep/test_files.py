"""Files are written whole or not at all; tables keep their types."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_prep import files
from data_prep.errors import StageError
from data_prep.files import digest, read_json, read_table, write_bytes, write_csv, write_table


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    share: float
    good: bool
    shape: tuple[int, ...]


ROWS = [Row("007", 1, 0.1, True, (1, 2)), Row("ü\n", -5, 1e-300, False, ())]


def test_a_table_round_trips(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", Row, ROWS)
    assert read_table(tmp_path / "t.parquet", Row) == ROWS
    write_table(tmp_path / "empty.parquet", Row, [])
    assert read_table(tmp_path / "empty.parquet", Row) == []


def test_a_foreign_or_damaged_table_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Other:
        name: str

    write_table(tmp_path / "t.parquet", Other, [Other("a")])
    with pytest.raises(StageError, match="other_columns"):
        read_table(tmp_path / "t.parquet", Row)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(StageError, match="unreadable_table"):
        read_table(tmp_path / "t.parquet", Row)
    with pytest.raises(StageError, match="unreadable_json"):
        read_json(tmp_path / "t.parquet")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.json"
    write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if call == "fsync" else (Path, "replace", full)))
    with pytest.raises(OSError, match="No space") as caught:
        write_bytes(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_formulas_are_escaped_and_numbers_are_not(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "t.csv", ("a", "b"), [("=1+1", -1.5), ("@x", 2), ("\tx", ""), ("a,b", "-")]
    )
    assert (tmp_path / "t.csv").read_text() == "a,b\n'=1+1,-1.5\n'@x,2\n'\tx,\n\"a,b\",'-\n"


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"scan\xff.png")
    write_csv(tmp_path / "t.csv", ("a",), [(name,)])
    assert b"scan\xff.png" in (tmp_path / "t.csv").read_bytes()


def test_digest_ignores_key_order_only() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [1, 2]}) != digest({"a": 1, "b": [2, 1]})
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))
    assert files.sha256_bytes(b"") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
