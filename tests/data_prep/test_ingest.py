"""Ingest: every input file ends up in the manifest, the quarantine or among the skipped."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_prep import labelling
from data_prep.cohort import CohortConfig
from data_prep.config import parse_config
from data_prep.errors import CohortError
from data_prep.files import read_json
from data_prep.ingest import IngestSummary, ingest, make_phantom, raw_root
from data_prep.labelling import pseudonym, pseudonym_key
from data_prep.manifest import ScanReader, ScanRecord, load_manifest


def nifti(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 100, (4, 5, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])), path)


def png(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 7)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def config(root: Path, **changes: object) -> CohortConfig:
    content = {"name": "c", "source": {"kind": "folder", "root": str(root)}, "prep": "x"}
    return parse_config(content | changes, CohortConfig, source="c.yaml")


def run(tmp_path: Path, **changes: object) -> IngestSummary:
    cohort = config(tmp_path / "raw", **changes)
    return ingest(cohort, tmp_path / "runs", tmp_path / "out")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four good scans of three patients, and their label table."""
    root = tmp_path / "raw"
    for number, name in enumerate(["a/1.nii.gz", "a/2.nii", "b/1.nii.gz", "c/1.nii.gz"]):
        nifti(root / name, number)
    (root / "labels.csv").write_text(
        "scan,patient_id,label\na/1.nii.gz,01,sick\na/2.nii,01,sick\nb,02,well\n./c/1.nii.gz,03,well\n"
    )
    return root


def test_each_scan_gets_a_row(tmp_path: Path, raw: Path) -> None:
    summary = run(tmp_path)
    assert (summary.scans, summary.patients, summary.quarantined) == (4, 3, 0)
    records, task = load_manifest(tmp_path / "out")
    assert task.class_names == ("sick", "well")
    assert [r.paths[0] for r in records] == ["a/1.nii.gz", "a/2.nii", "b/1.nii.gz", "c/1.nii.gz"]
    assert [r.patient_id for r in records] == ["01", "01", "02", "03"]
    first = records[0]
    assert first.shape == (1, 4, 5, 6)
    assert first.spacing_mm == (1.0, 2.0, 3.0)
    assert first.orientation == "RAS"
    assert (first.minimum, first.maximum) == (
        float(np.asarray(nib.load(raw / "a/1.nii.gz").dataobj).min()),
        float(np.asarray(nib.load(raw / "a/1.nii.gz").dataobj).max()),
    )
    assert summary.skipped == 0  # the label table is none


def test_what_is_not_a_scan_is_skipped_under_its_name(tmp_path: Path, raw: Path) -> None:
    (raw / "notes.txt").write_text("seen twice")
    (raw / "a" / "labels.csv").write_text("not the cohort's")
    assert run(tmp_path).skipped == 2
    rows = table(tmp_path / "out" / "skipped.csv")
    assert [row["path"] for row in rows] == ["a/labels.csv", "notes.txt"]


def test_scan_ids_follow_the_content_not_the_name(tmp_path: Path, raw: Path) -> None:
    run(tmp_path)
    before, _ = load_manifest(tmp_path / "out")
    (raw / "c/1.nii.gz").rename(raw / "c/renamed.nii.gz")
    labels = raw / "labels.csv"
    labels.write_text(labels.read_text().replace("c/1.nii.gz", "c/renamed.nii.gz"))
    run(tmp_path)
    after, _ = load_manifest(tmp_path / "out")
    assert [r.scan_id for r in before] == [r.scan_id for r in after]


def test_a_bad_scan_is_quarantined_and_the_rest_goes_on(tmp_path: Path, raw: Path) -> None:
    whole = (raw / "b/1.nii.gz").read_bytes()
    (raw / "b/1.nii.gz").write_bytes(whole[: len(whole) // 2])
    nifti(raw / "d/1.nii.gz", 9)  # no row in the table
    nifti(raw / "e/1.nii.gz", 10)
    labels = raw / "labels.csv"
    labels.write_text(labels.read_text() + "e/1.nii.gz,05,\n")  # a row without a label
    summary = run(tmp_path)
    assert (summary.scans, summary.quarantined) == (3, 3)
    rows = {r["path"]: r["code"] for r in table(tmp_path / "out" / "quarantine.csv")}
    assert rows == {
        "b/1.nii.gz": "nifti.truncated",
        "d/1.nii.gz": "label.missing",
        "e/1.nii.gz": "label.missing",
    }
    counts = read_json(tmp_path / "out" / "ingest.json")
    assert counts["quarantined_by_code"] == {"label.missing": 2, "nifti.truncated": 1}


def test_a_row_without_a_scan_stops(tmp_path: Path, raw: Path) -> None:
    labels = raw / "labels.csv"
    labels.write_text(labels.read_text() + "zz.nii,09,sick\n")
    with pytest.raises(
        CohortError, match=r"1 of 5 rows name a scan .*line 6, 'zz\.nii'\n"
    ) as caught:
        run(tmp_path)
    assert caught.value.fix.startswith("remove the row or add the file")
    labels.write_text(labels.read_text() + "".join(f"y{n}.nii,1{n},sick\n" for n in range(3)))
    with pytest.raises(CohortError, match=r"4 of 8 .*'zz\.nii'.*'y0.*'y1\.nii'; and 1 more\n"):
        run(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_pair_that_is_refused_is_one_scan_of_two_files(tmp_path: Path, raw: Path) -> None:
    pair = nib.Nifti1Pair(np.zeros((2, 3, 4), np.int16), np.eye(4))
    nib.save(pair, raw / "pair.img")
    (raw / "pair.img").write_bytes(b"short")
    labels = raw / "labels.csv"
    labels.write_text(labels.read_text() + "pair.img,09,sick\n")
    summary = run(tmp_path)
    assert (summary.scans, summary.quarantined, summary.quarantined_files) == (4, 1, 2)
    counts = read_json(tmp_path / "out" / "ingest.json")
    assert counts["quarantined_by_code"] == {"nifti.truncated": 1}
    assert [row["path"] for row in table(tmp_path / "out" / "quarantine.csv")] == [
        "pair.hdr",
        "pair.img",
    ]


def test_a_row_whose_scan_was_refused_does_not_stop(tmp_path: Path, raw: Path) -> None:
    (raw / "c/1.nii.gz").write_bytes(b"")
    summary = run(tmp_path)
    assert (summary.scans, summary.quarantined) == (3, 1)


def test_copies_are_used_once_and_contradictions_stop(tmp_path: Path, raw: Path) -> None:
    (raw / "a/3.nii").write_bytes((raw / "a/2.nii").read_bytes())
    labels = raw / "labels.csv"
    text = labels.read_text()
    labels.write_text(text + "a/3.nii,01,sick\n")
    summary = run(tmp_path)
    assert (summary.scans, summary.skipped) == (4, 1)
    reasons = {r["path"]: r["reason"] for r in table(tmp_path / "out" / "skipped.csv")}
    assert reasons["a/3.nii"] == "a copy of 'a/2.nii'"
    labels.write_text(text + "a/3.nii,04,sick\n")
    with pytest.raises(CohortError, match=r"cohort\.contradiction"):
        run(tmp_path)


def test_a_class_without_a_readable_scan_stops(tmp_path: Path, raw: Path) -> None:
    (raw / "b/1.nii.gz").write_bytes(b"")
    (raw / "c/1.nii.gz").write_bytes(b"")
    with pytest.raises(CohortError, match=r"labels\.class_count"):
        run(tmp_path)
    with pytest.raises(CohortError, match=r"no readable scan of class 'well'"):
        run(tmp_path, labels={"kind": "table", "classes": ["sick", "well"]})


def test_nothing_readable_stops(tmp_path: Path, raw: Path) -> None:
    for path in raw.rglob("*.nii*"):
        path.write_bytes(b"")
    with pytest.raises(CohortError, match=r"cohort\.empty"):
        run(tmp_path)


def test_an_unchanged_cohort_is_not_read_again(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path)
    monkeypatch.setattr("data_prep.ingest.DecodePool", None)
    assert run(tmp_path) == first
    os.utime(raw / "a/2.nii", (1, 1))
    with pytest.raises(TypeError):  # it would be read
        run(tmp_path)


def test_class_per_folder_with_patients_from_the_path(tmp_path: Path) -> None:
    for number in range(4):
        png(tmp_path / "raw" / ("sick" if number % 2 else "well") / f"P{number}_x.png", number)
    png(tmp_path / "raw" / "loose.png", 9)
    summary = run(
        tmp_path, labels={"kind": "folders"}, patient={"kind": "path", "pattern": r"/(P\d+)_"}
    )
    records, _ = load_manifest(tmp_path / "out")
    assert (summary.scans, summary.quarantined) == (4, 1)
    assert {(r.patient_id, r.labels[0]) for r in records} == {
        ("P0", "well"),
        ("P1", "sick"),
        ("P2", "well"),
        ("P3", "sick"),
    }
    with pytest.raises(CohortError, match=r"does not match patient\.pattern"):
        run(tmp_path, labels={"kind": "folders"}, patient={"kind": "path", "pattern": "(Q)"})


def test_dicom_patients_become_keyed_pseudonyms(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDCURVE_PSEUDONYM_KEY", raising=False)
    with pytest.raises(CohortError, match=r"has no DICOM PatientID"):
        run(tmp_path, patient={"kind": "dicom"})
    key = pseudonym_key(tmp_path / "site")
    assert key == pseudonym_key(tmp_path / "site")
    assert key != pseudonym_key(tmp_path / "other")
    assert (tmp_path / "site" / ".pseudonym-key").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("MEDCURVE_PSEUDONYM_KEY", "secret")
    assert pseudonym_key(tmp_path / "site") == b"secret"
    assert pseudonym("Doe^Jane", b"1") == pseudonym("Doe^Jane", b"1")
    assert pseudonym("Doe^Jane", b"1") != pseudonym("Doe^Jane", b"2")
    assert "Doe" not in pseudonym("Doe^Jane", b"1")
    source = labelling.ScanSource("dicom", ("x.dcm",), patient_key="Doe^Jane")
    rule = config(raw, patient={"kind": "dicom"})
    assert labelling._patient(rule, source, tmp_path) == pseudonym("Doe^Jane", b"secret")


def test_a_missing_root_says_which_field(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"source\.root .* is not a folder"):
        raw_root(config(tmp_path / "nowhere"), tmp_path)


def medmnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> CohortConfig:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 546), ("val", 78), ("test", 156)):
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 28, 28)).astype(np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, 2, (count, 1)).astype(np.uint8)
    (folder / "medmnist").mkdir()
    np.savez(folder / "medmnist" / "breastmnist.npz", **arrays)
    monkeypatch.setenv("MEDCURVE_DATA", str(folder))
    content = {
        "name": "breast",
        "source": {"kind": "medmnist", "dataset": "breastmnist"},
        "prep": "x",
    }
    return parse_config(content, CohortConfig, source="breast.yaml")


def test_medmnist_keeps_its_official_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = medmnist(tmp_path, monkeypatch)
    summary = ingest(cohort, tmp_path, tmp_path / "out")
    assert (summary.scans, summary.patients) == (780, 780)
    assert "not the official file" in summary.notes[0]
    records, task = load_manifest(tmp_path / "out")
    assert task.class_names == ("malignant", "normal, benign")
    assert sum(r.official_split == "test" for r in records) == 156
    archive = np.load(tmp_path / "medmnist" / "breastmnist.npz")
    by_item: dict[str, ScanRecord] = {r.item: r for r in records}
    for item in ("train/5", "val/77", "test/0"):
        split, number = item.split("/")
        label = int(archive[f"{split}_labels"][int(number), 0])
        assert by_item[item].labels == (task.class_names[label],)
        (volume,) = ScanReader(raw_root(cohort, tmp_path)).read([by_item[item]])
        assert np.array_equal(volume.array[0], archive[f"{split}_images"][int(number)])
    assert ingest(cohort, tmp_path, tmp_path / "out") == summary


def test_an_absent_medmnist_file_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = medmnist(tmp_path, monkeypatch)
    monkeypatch.delenv("MEDCURVE_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CohortError, match=r"run `medcurve data breast`"):
        raw_root(cohort, tmp_path)


def test_a_phantom_is_written_once(tmp_path: Path) -> None:
    content = {
        "name": "ph",
        "source": {"kind": "phantom", "phantom": {"ndim": 2, "n_patients": 4, "seed": 1}},
        "prep": "x",
    }
    cohort = parse_config(content, CohortConfig, source="ph.yaml")
    folder = make_phantom(cohort, tmp_path)
    written = (folder / "labels.csv").stat().st_mtime_ns
    assert make_phantom(cohort, tmp_path) == folder
    assert (folder / "labels.csv").stat().st_mtime_ns == written
    summary = ingest(cohort, tmp_path, tmp_path / "out")
    records, _ = load_manifest(tmp_path / "out")
    assert summary.patients == 4
    assert all(len(r.bayes) == 2 and abs(sum(r.bayes) - 1) < 1e-6 for r in records)
