"""Splits keep patients together and classes balanced, and stop at a leak."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.cohort import SplitConfig
from data_prep.errors import CohortError
from data_prep.files import read_json, write_table
from data_prep.manifest import MANIFEST, ScanRecord
from data_prep.splits import SplitRow, assign_splits, check_leaks, split_cohort
from data_prep.stage import new_stage


def record(
    number: int,
    patient: str | None = None,
    label: str | tuple[str, ...] = "a",
    official: str = "",
    pixels: str | None = None,
) -> ScanRecord:
    return ScanRecord(
        scan_id=f"{number:016x}",
        patient_id=patient or f"p{number}",
        labels=(label,) if isinstance(label, str) else label,
        official_split=official,
        bayes=(),
        format="nifti",
        paths=(f"{number}.nii",),
        item="",
        modality="MR",
        shape=(1, 4, 4, 4),
        spacing_mm=(1.0, 1.0, 1.0),
        orientation="RAS",
        dtype="int16",
        minimum=0.0,
        maximum=1.0,
        mean=0.5,
        sha256=f"{number:064x}",
        pixel_sha256=pixels or f"{number:064x}",
        flags=(),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(12, 60), st.integers(1, 3))
def test_patients_stay_together_and_classes_are_shared_out(
    seed: int, patients: int, scans: int
) -> None:
    records = [
        record(p * 10 + s, f"p{p}", "ab"[p % 2]) for p in range(patients) for s in range(scans)
    ]
    rows = assign_splits(records, SplitConfig(seed=seed))
    check_leaks(rows)
    assert [row.scan_id for row in rows] == [r.scan_id for r in records]
    for split, share in (("train", 0.6), ("val", 0.15), ("test", 0.25)):
        for label in "ab":
            ids = {
                r.patient_id
                for r, row in zip(records, rows, strict=True)
                if row.split == split and r.labels == (label,)
            }
            assert abs(len(ids) - share * patients / 2) <= 2
    folds = Counter(row.fold for row in rows if row.split != "test")
    assert set(folds) <= set(range(5))
    assert max(folds.values()) - min(folds.values()) <= scans
    assert all(row.fold == -1 for row in rows if row.split == "test")


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    records = [record(n, label="ab"[n % 2]) for n in range(40)]
    first = {row.scan_id: row.split for row in assign_splits(records, SplitConfig(seed=1))}
    again = {row.scan_id: row.split for row in assign_splits(records[::-1], SplitConfig(seed=1))}
    other = {row.scan_id: row.split for row in assign_splits(records, SplitConfig(seed=2))}
    assert first == again
    assert first != other


def test_official_splits_are_kept() -> None:
    official = ["train", "val", "test"] * 4
    records = [record(n, official=name) for n, name in enumerate(official)]
    assert [row.split for row in assign_splits(records, SplitConfig())] == official


def test_a_missing_official_validation_is_drawn_from_training() -> None:
    records = [record(n, label="ab"[n % 2], official="train") for n in range(40)]
    records += [record(n, label="ab"[n % 2], official="test") for n in range(40, 50)]
    splits = Counter(row.split for row in assign_splits(records, SplitConfig(val=0.2, test=0.2)))
    assert splits == {"train": 30, "val": 10, "test": 10}


def test_a_patient_in_two_official_splits_stops() -> None:
    records = [record(0, "p", official="train"), record(1, "p", official="test")]
    with pytest.raises(CohortError, match=r"split\.patient_leak"):
        assign_splits(records, SplitConfig())
    rows = [SplitRow("a", "p", "train", 0), SplitRow("b", "p", "test", -1)]
    with pytest.raises(CohortError, match=r"1 patients stand in more than one split"):
        check_leaks(rows)


def test_a_half_filled_split_column_stops() -> None:
    records = [record(0, official="train"), record(1, official="val"), record(2)]
    with pytest.raises(CohortError, match=r"split\.incomplete"):
        assign_splits(records, SplitConfig())


def test_a_class_of_two_patients_stops_with_advice() -> None:
    records = [record(n) for n in range(10)] + [record(90, label="b"), record(91, label="b")]
    with pytest.raises(CohortError, match=r"class 'b' has 2 patients.*\n.*add patients"):
        assign_splits(records, SplitConfig())


def test_rare_label_combinations_are_pooled() -> None:
    records = [record(n, label=("a",)) for n in range(30)]
    records += [record(100, label=("a", "b")), record(101, label=()), record(102, label=("b", "c"))]
    rows = assign_splits(records, SplitConfig())
    assert sum(row.split == "test" for row in rows[30:]) == 1


def manifest(folder: Path, records: list[ScanRecord]) -> Path:
    with new_stage(folder, "ingest", {}, {}) as partial:
        write_table(partial / MANIFEST, ScanRecord, records)
    return folder


def test_identical_images_across_splits_stop_unless_accepted(tmp_path: Path) -> None:
    records = [record(n, official=["train", "val", "test"][n % 3]) for n in range(9)]
    records.append(record(9, official="test", pixels=records[0].pixel_sha256))
    records.append(record(10, official="train", pixels=records[0].pixel_sha256))
    folder = manifest(tmp_path / "manifest", records)
    with pytest.raises(CohortError, match=r"1 images are identical .*\n.*accept_duplicates"):
        split_cohort(folder, SplitConfig(), tmp_path / "splits")
    assert not (tmp_path / "splits").exists()
    rows = split_cohort(folder, SplitConfig(accept_duplicates=True), tmp_path / "splits")
    assert len(rows) == 11
    summary = read_json(tmp_path / "splits" / "splits.json")
    assert summary["identical_images_across_splits"] == [[records[0].scan_id, records[9].scan_id]]
    assert read_json(tmp_path / "splits" / "provenance.json")["config"]["accept_duplicates"]


def test_a_split_that_stands_is_not_drawn_again(tmp_path: Path) -> None:
    folder = manifest(tmp_path / "manifest", [record(n, label="ab"[n % 2]) for n in range(20)])
    first = split_cohort(folder, SplitConfig(), tmp_path / "splits")
    written = (tmp_path / "splits" / "splits.parquet").stat().st_mtime_ns
    assert split_cohort(folder, SplitConfig(), tmp_path / "splits") == first
    assert (tmp_path / "splits" / "splits.parquet").stat().st_mtime_ns == written
