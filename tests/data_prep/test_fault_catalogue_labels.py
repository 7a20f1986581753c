"""FAULTS.md items 45, 71 to 80, 87 and 88: each on a small cohort of its own.

Every case starts from twelve good scans of twelve patients. What must stop, stops before anything
is written and says where; what is refused or noted leaves all other scans in the manifest.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.cohort import CohortConfig
from data_prep.config import parse_config
from data_prep.errors import SCAN_CODES, CohortError
from data_prep.files import read_json, write_csv
from data_prep.ingest import IngestSummary, ingest
from data_prep.manifest import ScanRecord, load_manifest
from data_prep.readers.sandbox import DecodePool
from data_prep.splits import split_cohort

PROJECT = Path(__file__).resolve().parents[2]
HEADER = "scan,patient_id,label"


def png(path: Path, seed: int, level: int = 6) -> None:
    """Noise of 16 x 14 pixels; ``level`` changes the file's bytes and not the pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 14)).astype(np.uint8)
    Image.fromarray(pixels).save(path, "PNG", compress_level=level)


@dataclass
class Cohort:
    """Twelve good scans; a case changes the table's lines, the files or the config."""

    root: Path
    lines: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    table: bytes | None = None

    def __post_init__(self) -> None:
        self.lines = [HEADER]
        for number in range(12):
            png(self.root / f"{number}.png", number)
            self.lines.append(f"{number}.png,P{number:02d},{'ill' if number % 2 else 'well'}")

    def officially(self, **moved: str) -> None:
        """Add a split column, every class in each; ``p3="test"`` moves patient 3."""
        self.config = {"labels": {"kind": "table", "split": "split"}}
        self.lines[0] += ",split"
        for number in range(12):
            where = moved.get(f"p{number}", ["train", "val", "test"][number // 2 % 3])
            self.lines[number + 1] += f",{where}"

    def write(self) -> CohortConfig:
        data = "".join(f"{line}\n" for line in self.lines).encode()
        (self.root / "labels.csv").write_bytes(data if self.table is None else self.table)
        content = {
            "name": "case",
            "source": {"kind": "folder", "root": str(self.root)},
            "prep": "x",
        }
        return parse_config(content | self.config, CohortConfig, source="case.yaml")


Change = Callable[[Cohort], None]


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path / "raw")


def run(cohort: Cohort, place: Path) -> IngestSummary:
    """Ingest and split."""
    config = cohort.write()
    summary = ingest(config, place, place / "manifest")
    split_cohort(place / "manifest", config.split, place / "splits")
    return summary


def records_of(place: Path) -> dict[str, ScanRecord]:
    return {record.paths[0]: record for record in load_manifest(place / "manifest")[0]}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


# --- what must stop ---


def add(*rows: str) -> Change:
    return lambda cohort: cohort.lines.extend(rows)


def replace(line: int, text: str) -> Change:
    def change(cohort: Cohort) -> None:
        cohort.lines[line] = text

    return change


def content(data: bytes) -> Change:
    def change(cohort: Cohort) -> None:
        cohort.table = data

    return change


def settings(**labels: Any) -> Change:
    def change(cohort: Cohort) -> None:
        cohort.config = {"labels": {"kind": "table", **labels}}

    return change


def both(*changes: Change) -> Change:
    def change(cohort: Cohort) -> None:
        for one in changes:
            one(cohort)

    return change


def twin(row: str, level: int = 1) -> Change:
    """A second file of scan 0's pixels (level 6: of its very bytes), with a row of its own."""

    def change(cohort: Cohort) -> None:
        png(cohort.root / "twin.png", 0, level)
        cohort.lines.append(row)

    return change


def across_splits(cohort: Cohort) -> None:
    cohort.officially()
    png(cohort.root / "twin.png", 0, 1)
    cohort.lines.append("twin.png,P90,well,test")


def torn_patient(cohort: Cohort) -> None:
    cohort.officially()
    png(cohort.root / "more.png", 90)
    cohort.lines.append("more.png,P00,well,test")


def no_labels(cohort: Cohort) -> None:
    cohort.lines = [cohort.lines[0], *(line.rpartition(",")[0] + "," for line in cohort.lines[1:])]


def one_of_a_class(cohort: Cohort) -> None:
    cohort.config = {"labels": {"kind": "table", "task": "multi-class"}}
    cohort.lines[1] = "0.png,P00,rare"


def one_of_a_class_officially(cohort: Cohort) -> None:
    cohort.officially()
    cohort.config["labels"]["task"] = "multi-class"
    cohort.lines[1] = "0.png,P00,rare,train"


def only_in_test(cohort: Cohort) -> None:
    cohort.officially(p1="test", p7="test")


NO_TABLE = content(b"")

STOPS: dict[str, tuple[Change, str, str]] = {
    "45 same pixels, two patients, one split": (
        both(
            Cohort.officially,
            lambda c: png(c.root / "twin.png", 0, 1),
            add("twin.png,P90,well,train"),
        ),
        "split.shared_images",
        r"1 pair of identical images under two patients; first: scans \w+ \(train, 'well'\)",
    ),
    "45 same pixels, two patients, two splits": (
        across_splits,
        "split.duplicates",
        r"1 pair of identical images in different splits",
    ),
    "45 same pixels, two labels, one patient": (
        twin("twin.png,P00,ill"),
        "split.conflicting_labels",
        r"1 pair of identical images with different labels; .*'well'.*'ill'",
    ),
    "45 same bytes, two patients": (
        twin("twin.png,P90,well", level=6),
        "cohort.contradiction",
        r"'0\.png' and 'twin\.png' are the same bytes",
    ),
    "71 no label at all": (no_labels, "cohort.empty", r"refused: 12 × label\.missing"),
    "71 no patient": (replace(3, "2.png,,well"), "labels.empty_cell", r"labels\.csv:4.*patient_id"),
    "71 no scan": (replace(3, ",P02,well"), "labels.empty_cell", r"labels\.csv:4.*'scan'"),
    "71 no table": (settings(file="other.csv"), "labels.not_found", r"other\.csv"),
    "71 no column": (
        replace(0, "scan,patient,label"),
        "labels.missing_column",
        r"no column 'patient_id'; did you mean 'patient'",
    ),
    "72 two labels": (
        add("0.png,P00,ill"),
        "labels.conflict",
        r"lines 2 and 14 give one scan a different label",
    ),
    "72 two patients": (
        add("./0.png,P99,well"),
        "labels.conflict",
        r"lines 2 and 14 give one scan a different patient_id",
    ),
    "73 class that is not declared": (
        both(settings(classes=["well", "ill"]), replace(5, "4.png,P04,wel")),
        "labels.unknown_class",
        r"labels\.csv:6: label 'wel'; did you mean 'well'",
    ),
    "73 class too many": (
        replace(5, "4.png,P04,unsure"),
        "labels.class_count",
        r"a binary task, but 3 classes: ill, unsure, well",
    ),
    "74 a patient in two splits": (
        torn_patient,
        "split.patient_leak",
        r"different official splits \(test and train",
    ),
    "75 one scan of a class": (one_of_a_class, "split.small_class", r"class 'rare' has 1 patient;"),
    "75 one scan of a class, official splits": (
        one_of_a_class_officially,
        "split.absent_class",
        r"no val scan is of class 'rare'",
    ),
    "75 a class that is tested and never learned": (
        only_in_test,
        "split.absent_class",
        r"no train scan is of class 'ill'",
    ),
    "76 Latin-1": (
        content(f"{HEADER}\n0.png,P00,well\n1.png,P01,krank\xe4\n".encode("latin-1")),
        "labels.not_utf8",
        r"labels\.csv:3: not UTF-8",
    ),
    "76 UTF-16": (
        content(f"{HEADER}\n0.png,P00,well\n".encode("utf-16")),
        "labels.not_utf8",
        r"labels\.csv:1: not UTF-8",
    ),
    "77 007 and 7": (
        both(replace(1, "0.png,007,well"), replace(2, "1.png,7,ill")),
        "labels.id_collision",
        r"'007' and '7'",
    ),
    "77 7 and 7.0": (
        both(replace(1, "0.png,7,well"), replace(2, "1.png,7.0,ill")),
        "labels.id_collision",
        r"'7' and '7\.0'",
    ),
    "77 upper and lower case": (
        both(replace(1, "0.png,a7,well"), replace(2, "1.png,A7,ill")),
        "labels.id_collision",
        r"'a7' and 'A7'",
    ),
    "77 one name in two encodings": (
        both(replace(1, "0.png,Jos\u00e9,well"), replace(2, "1.png,Jose\u0301,ill")),
        "labels.id_collision",
        r"the way that characters are encoded",
    ),
    "77 one class in two ways": (
        both(settings(task="multi-class"), replace(1, "0.png,P00,Well")),
        "labels.class_collision",
        r"'Well' and 'well'",
    ),
    "78 a row without its file": (
        add("gone/99.png,P99,ill"),
        "labels.scan_not_found",
        r"1 of 13 rows.*line 14, 'gone/99\.png'",
    ),
    "79 empty table": (content(b""), "labels.empty", r"no header"),
    "79 only a header": (content(f"{HEADER}\n\n".encode()), "labels.empty", r"no rows"),
    "79 duplicate header": (
        replace(0, "scan,patient_id,label,label"),
        "labels.duplicate_header",
        r"labels\.csv:1: column 'label' stands twice",
    ),
    "79 a cell too many": (
        replace(4, "3.png,P03,ill,really"),
        "labels.bad_csv",
        r"labels\.csv:5: 4 cells, but the header has 3",
    ),
    "79 an open quote": (replace(4, '3.png,P03,"ill'), "labels.bad_csv", r"labels\.csv"),
}


@pytest.mark.parametrize("title", STOPS)
def test_it_stops_before_anything_is_written(cohort: Cohort, tmp_path: Path, title: str) -> None:
    change, code, text = STOPS[title]
    change(cohort)
    place = tmp_path / "runs"
    with pytest.raises(CohortError) as caught:
        run(cohort, place)
    assert caught.value.code == code
    assert re.search(text, caught.value.message), caught.value.message
    assert not (place / "splits").exists()
    assert code.startswith("split") or not (place / "manifest").exists()


def test_a_twin_of_the_same_patient_does_no_harm(cohort: Cohort, tmp_path: Path) -> None:
    """Item 45's counterpart: one patient's image twice, with one label."""
    twin("twin.png,P00,well")(cohort)
    assert run(cohort, tmp_path).scans == 13
    assert read_json(tmp_path / "splits" / "splits.json")["repeats"] == 1


def test_what_stops_for_duplicates_can_be_accepted(cohort: Cohort, tmp_path: Path) -> None:
    across_splits(cohort)
    cohort.config["split"] = {"accept_duplicates": True}
    assert run(cohort, tmp_path).scans == 13
    accepted = read_json(tmp_path / "splits" / "splits.json")["accepted"]
    assert accepted == ["1 pair of identical images in different splits"]


# --- what is refused or noted, and the rest goes on ---


def without_a_row(cohort: Cohort) -> None:
    png(cohort.root / "extra.png", 50)


def without_a_label(cohort: Cohort) -> None:
    png(cohort.root / "extra.png", 50)
    cohort.lines.append("extra.png,P50,")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_a_row, "no row in the label table"),
        (without_a_label, "line 14: no label"),
    ],
    ids=["71 without a row", "71 without a label"],
)
def test_a_scan_without_a_label_is_quarantined(
    cohort: Cohort, tmp_path: Path, change: Change, reason: str
) -> None:
    change(cohort)
    summary = run(cohort, tmp_path)
    assert (summary.scans, summary.quarantined) == (12, 1)
    assert table(tmp_path / "manifest" / "quarantine.csv") == [
        {"path": "extra.png", "code": "label.missing", "reason": reason}
    ]
    assert "extra.png" not in records_of(tmp_path)


@pytest.mark.fault(72)
@pytest.mark.parametrize("again", ["0.png,P00,well", "./0.png,P00,well", " 0.png , P00,well "])
def test_a_row_twice_is_noted(cohort: Cohort, tmp_path: Path, again: str) -> None:
    """Item 72, the same."""
    cohort.lines.append(again)
    summary = run(cohort, tmp_path)
    assert summary.notes == ("line 14 repeats line 2: used once",)
    assert summary.scans == 12


@pytest.mark.fault(76)
def test_a_byte_order_mark_and_windows_line_ends_are_read(cohort: Cohort, tmp_path: Path) -> None:
    """Item 76, the harmless part."""
    cohort.table = ("\ufeff" + "\r\n".join(cohort.lines) + "\r\n").encode()
    assert run(cohort, tmp_path).scans == 12
    assert records_of(tmp_path)["0.png"].patient_id == "P00"


@pytest.mark.fault(77)
def test_ids_stay_text(cohort: Cohort, tmp_path: Path) -> None:
    """Item 77: no id becomes a number, and white space around cells does not count."""
    ids = ["007", "1e5", "0x1F", "1_000", "3.10", "١٢", "true", "NA", "null", "-4", "06/07", "inf"]
    for number, name in enumerate(ids):
        cohort.lines[number + 1] = (
            f"\t{number}.png\u00a0, {name} ,{'ill ' if number % 2 else ' well'}"
        )
    run(cohort, tmp_path)
    records = records_of(tmp_path)
    assert [records[f"{number}.png"].patient_id for number in range(12)] == ids
    assert {record.labels for record in records.values()} == {("ill",), ("well",)}


# --- item 80: formulas ---

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.mark.fault(80)
def test_formula_cells_are_data(cohort: Cohort, tmp_path: Path) -> None:
    for number in range(12):
        label = "=HYPERLINK(1)" if number % 2 else "-well"
        cohort.lines[number + 1] = f"{number}.png,@P{number:02d},{label}"
    run(cohort, tmp_path)
    _, task = load_manifest(tmp_path / "manifest")
    assert task.class_names == ("-well", "=HYPERLINK(1)")
    assert records_of(tmp_path)["3.png"].patient_id == "@P03"
    assert records_of(tmp_path)["3.png"].labels == ("=HYPERLINK(1)",)


@pytest.mark.fault(80)
def test_file_names_that_are_formulas_are_escaped_out(cohort: Cohort, tmp_path: Path) -> None:
    names = [f"{text}.png" for text in FORMULAS]
    for name in names:
        (cohort.root / name).write_bytes(b"\x89PNG\r\n\x1a\n broken")
        (cohort.root / f"{name}.txt").write_text("a note")
    summary = run(cohort, tmp_path)
    assert (summary.scans, summary.quarantined) == (12, 6)
    for name, expected in {
        "quarantine.csv": names,
        "skipped.csv": [f"{name}.txt" for name in names],
    }.items():
        rows = table(tmp_path / "manifest" / name)
        assert sorted(row["path"] for row in rows) == sorted(
            f"'{path}" if path[0] in "=+-@\t\r" else path for path in expected
        )


@pytest.mark.fault(80)
@pytest.mark.parametrize("start", FORMULAS)
def test_no_cell_that_is_written_runs(tmp_path: Path, start: str) -> None:
    write_csv(tmp_path / "t.csv", (start, "b"), [(start, -1.5), (f"x{start}\n=2", start)])
    rows = list(csv.reader((tmp_path / "t.csv").open(newline=""), strict=True))
    assert rows == [[f"'{start}", "b"], [f"'{start}", "-1.5"], [f"x{start}\n=2", f"'{start}"]]


def test_every_table_is_written_by_the_function_that_escapes() -> None:
    writers = re.compile(r"csv\.writer|DictWriter|to_csv|savetxt|\.write_csv\(")
    found = {
        path.relative_to(PROJECT).as_posix()
        for package in ("data_prep", "pipeline")
        for path in (PROJECT / package).rglob("*.py")
        if writers.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"data_prep/files.py"}


# --- item 87: many files ---


@pytest.mark.fault(87)
def test_two_thousand_files_do_not_fill_memory() -> None:
    """In a process of its own, so that other tests' memory does not count."""
    script = PROJECT / "benchmarks" / "ingest_memory.py"
    done = subprocess.run(
        [sys.executable, str(script), "--files", "2000", "--after", "500"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    growth = float(re.search(r"growth: (-?[\d.]+) %", done.stdout)[1])
    assert growth < 5
    assert "1900 scans + 100 quarantined = 2000 files" in done.stdout
    handles = re.search(r"open files: (\d+) at 500, (\d+) at the end", done.stdout)
    assert int(handles[2]) <= int(handles[1])


# --- item 88: a file changes while it is read ---


def meddle(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]) -> None:
    """Do something to a file after it was decoded, before ingest is done with it."""
    real = DecodePool.read

    def read(self: DecodePool, *arguments: Any) -> Iterator[Any]:
        for source, result in real(self, *arguments):
            if source.paths[0] == name:
                act()
            yield source, result

    monkeypatch.setattr(DecodePool, "read", read)


@pytest.mark.fault(88)
@pytest.mark.parametrize("kind", ["rewritten", "grown", "gone", "touched"])
def test_a_file_that_changes_while_it_is_read_is_quarantined(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = cohort.root / "5.png"
    other = tmp_path / "other.png"
    png(other, 99)
    acts: dict[str, Callable[[], object]] = {
        "rewritten": lambda: shutil.copyfile(other, path),
        "grown": lambda: path.write_bytes(path.read_bytes() + b"more"),
        "gone": path.unlink,
        "touched": lambda: os.utime(path, ns=(1, 1)),
    }
    meddle(monkeypatch, "5.png", acts[kind])
    config = cohort.write()
    summary = ingest(config, tmp_path, tmp_path / "manifest")
    assert (summary.scans, summary.quarantined) == (11, 1)
    (row,) = table(tmp_path / "manifest" / "quarantine.csv")
    assert (row["path"], row["code"]) == ("5.png", "file.changed")
    assert row["code"] in SCAN_CODES
    assert "5.png" not in records_of(tmp_path)


@pytest.mark.fault(88)
def test_a_file_that_vanishes_before_it_is_read_is_quarantined(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_prep import ingest as module

    real = module.join_labels

    def join(*arguments: Any) -> Any:
        (cohort.root / "7.png").unlink()
        return real(*arguments)

    monkeypatch.setattr(module, "join_labels", join)
    summary = ingest(cohort.write(), tmp_path, tmp_path / "manifest")
    assert (summary.scans, summary.quarantined) == (11, 1)
    (row,) = table(tmp_path / "manifest" / "quarantine.csv")
    assert (row["path"], row["code"]) == ("7.png", "file.unreadable")


def test_after_a_change_the_cohort_is_read_again(cohort: Cohort, tmp_path: Path) -> None:
    config = cohort.write()
    ingest(config, tmp_path, tmp_path / "manifest")
    before = records_of(tmp_path)["5.png"]
    png(cohort.root / "5.png", 77)
    ingest(config, tmp_path, tmp_path / "manifest")
    after = records_of(tmp_path)
    assert after["5.png"].pixel_sha256 != before.pixel_sha256
    assert len(after) == 12
