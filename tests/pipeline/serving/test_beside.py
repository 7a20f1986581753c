"""What is written beside the tables: called once a scored scan, and never at the batch's cost."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import ScanError
from data_prep.files import sha256_bytes, sha256_file, write_bytes
from data_prep.readers import read_scan
from pipeline.serving.beside import EXTRA_FAILED, ScoredScan
from pipeline.serving.inference import predict
from pipeline.serving.package import ModelPackage
from pipeline.serving.predictions import PredictionSummary


@dataclass
class Notes:
    """Writes a file for each scan but those it is told to fail on, and one for the batch."""

    fail_on: str = "-"
    scored: list[ScoredScan] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)

    def scan(self, folder: Path, scored: ScoredScan) -> None:
        self.scored.append(scored)
        if scored.row.scan.startswith(self.fail_on):
            raise ScanError("dicom.no_pixel_data", f"{scored.row.scan}: nothing to draw")
        (folder / "notes").mkdir(exist_ok=True)
        name = sha256_bytes(scored.row.scan.encode())
        write_bytes(folder / "notes" / name, scored.array.tobytes())

    def finish(self, folder: Path, package: ModelPackage, summary: PredictionSummary) -> None:
        self.tables = {path.name: sha256_file(path) for path in folder.glob("*.*")}
        write_bytes(folder / "all.txt", f"{summary.ok} by {package.digest}".encode())


@pytest.fixture
def inbox(write, tmp_path) -> Path:
    """Six scans, one of them damaged."""
    root = tmp_path / "inbox"
    for seed in range(4):
        write.nifti(root / f"{seed}.nii.gz", seed)
    write.dicom_series(root / "series", 20)
    write.nifti(root / "broken.nii.gz", 22)
    write.truncate(root / "broken.nii.gz")
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def all_digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(files)}


def test_each_scored_scan_is_shown_once_as_the_model_saw_it(make_package, inbox, tmp_path):
    notes, package = Notes(), make_package()
    predict(package, [inbox], tmp_path / "out", beside=[notes])
    table = {row["scan"]: row for row in rows(tmp_path / "out" / "predictions.csv")}
    assert sorted(one.row.scan for one in notes.scored) == [
        *(f"{seed}.nii.gz" for seed in range(4)),
        "series",
    ]
    for one in notes.scored:
        assert f"{one.row.probability[1]:.6f}" == table[one.row.scan]["p_lesion"]
        volume = read_scan(one.root, one.source)
        np.testing.assert_array_equal(one.array, package.recipe.apply(volume))
    for name, found in notes.tables.items():
        assert sha256_file(tmp_path / "out" / name) == found
    assert {"predictions.csv", "predictions.parquet", "summary.json"} <= set(notes.tables)
    assert (tmp_path / "out" / "all.txt").read_text() == f"5 by {package.digest}"


def test_an_extra_that_fails_costs_that_extra_only(make_package, inbox, tmp_path):
    failing, other = Notes(fail_on="2"), Notes()
    summary = predict(make_package(), [inbox], tmp_path / "out", beside=[failing, other])
    flagged = [
        r["scan"] for r in rows(tmp_path / "out" / "predictions.csv") if EXTRA_FAILED in r["flags"]
    ]
    assert flagged == ["2.nii.gz"]
    assert (summary.ok, summary.quarantined, summary.flagged[EXTRA_FAILED]) == (5, 1, 1)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["flagged"] == {
        EXTRA_FAILED: 1
    }
    assert rows(tmp_path / "out" / "extras.csv") == [
        {"scan": "2.nii.gz", "code": "dicom.no_pixel_data", "reason": "2.nii.gz: nothing to draw"}
    ]
    assert len(other.scored) == 5
    assert len(list((tmp_path / "out" / "notes").iterdir())) == 5


def test_extras_have_the_same_bytes_in_any_batch_and_are_private(make_package, inbox, tmp_path):
    package = make_package()
    outputs = []
    for batch_size, workers in [(1, 1), (64, 2)]:
        out = tmp_path / f"out-{batch_size}"
        predict(package, [inbox], out, batch_size=batch_size, workers=workers, beside=[Notes("3")])
        outputs.append(all_digests(out))
        written = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".json"]
        assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
        assert (out / "notes").stat().st_mode & 0o777 == 0o700
    assert outputs[0] == outputs[1]


def test_tables_without_extras_have_no_table_of_them(make_package, inbox, tmp_path):
    predict(make_package(), [inbox], tmp_path / "out")
    assert not (tmp_path / "out" / "extras.csv").exists()
