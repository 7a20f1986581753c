"""Splits keep patients together and classes balanced, and stop at a leak."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohort_rows import row
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.cohort import SplitConfig
from data_prep.errors import CohortError, StageError
from data_prep.files import read_json, write_json, write_table
from data_prep.leaks import Leaks
from data_prep.manifest import MANIFEST, MINIATURES, MiniatureRow, ScanRecord
from data_prep.splits import SplitRow, assign_splits, check_classes, check_leaks, split_cohort
from data_prep.stage import new_stage
from data_prep.task import Task


def record(
    number: int,
    patient: str | None = None,
    label: str | tuple[str, ...] = "a",
    official: str = "",
    pixels: str | None = None,
) -> ScanRecord:
    return row(
        number,
        patient_id=patient or f"p{number}",
        labels=(label,) if isinstance(label, str) else label,
        official_split=official,
        sha256=f"{number:064x}",
        pixel_sha256=pixels or f"{number:064x}",
        perceptual_hash="00",
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


def test_an_official_split_can_be_drawn_anew() -> None:
    """As if there were none; and patients with an identical image stand together."""
    official = ["train"] * 60 + ["test"] * 40
    records = [record(n, label="ab"[n % 2], official=name) for n, name in enumerate(official)]
    config = SplitConfig(redraw=True, seed=3)
    bare = [replace(one, official_split="") for one in records]
    assert assign_splits(records, config) == assign_splits(bare, SplitConfig(seed=3))
    rows = assign_splits(records, config)
    assert Counter(row.split for row in rows) == {"train": 60, "val": 16, "test": 24}

    chain = [(0, 99), (99, 50), (7, 8)]  # of 0 and 99, 99 and 50, 7 and 8
    for seed in range(5):
        alike = [
            *records,
            *(
                record(1000 + at, records[one].patient_id, pixels=records[other].pixel_sha256)
                for at, (one, other) in enumerate(chain)
            ),
        ]
        found = {
            row.patient_id: (row.split, row.fold)
            for row in assign_splits(alike, SplitConfig(redraw=True, seed=seed))
        }
        where = [found[records[number].patient_id] for number in (0, 99, 50, 7, 8)]
        assert where[0] == where[1] == where[2] and where[3] == where[4]
        check_leaks(assign_splits(alike, SplitConfig(redraw=True, seed=seed)))


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


def picture(seed: int) -> bytes:
    """A miniature of noise: no two are alike."""
    return np.random.default_rng(seed).integers(0, 256, (1, 32, 32)).astype(np.uint8).tobytes()


def manifest(folder: Path, records: list[ScanRecord], pictures: list[int] | None = None) -> Path:
    """A manifest as ingest leaves it; ``pictures`` are the seeds of the scans' miniatures."""
    names = tuple(sorted({name for r in records for name in r.labels}))
    task = Task(kind="binary" if len(names) == 2 else "multi-class", class_names=names)
    seeds = pictures or list(range(len(records)))
    rows = [MiniatureRow(r.scan_id, picture(s)) for r, s in zip(records, seeds, strict=True)]
    with new_stage(folder, "ingest", {}, {"seeds": seeds}) as partial:
        write_table(partial / MANIFEST, ScanRecord, records)
        write_table(partial / MINIATURES, MiniatureRow, rows)
        write_json(partial / "task.json", task.model_dump(mode="json"))
    return folder


def three_splits(count: int) -> list[ScanRecord]:
    """Scans of two classes in three official splits."""
    names = ["train", "val", "test"]
    return [record(n, label="ab"[n // 3 % 2], official=names[n % 3]) for n in range(count)]


def test_identical_images_across_splits_stop_unless_accepted(tmp_path: Path) -> None:
    records = three_splits(12)
    records.append(record(12, official="test", pixels=records[0].pixel_sha256))
    records.append(record(13, official="train", pixels=records[0].pixel_sha256))
    pictures = [*range(12), 0, 0]
    folder = manifest(tmp_path / "manifest", records, pictures)
    seen: list[Leaks] = []

    def publish(leaks: Leaks) -> str:
        seen.append(leaks)
        return "the page"

    with pytest.raises(CohortError) as caught:
        split_cohort(folder, SplitConfig(), tmp_path / "splits", publish=publish)
    assert caught.value.code == "split.duplicates"
    assert "1 pair of identical images in different splits, 1 pair of identical images under" in (
        caught.value.message
    )
    assert "the page" in caught.value.message
    assert "--accept-duplicates" in caught.value.fix
    assert not (tmp_path / "splits").exists()
    rows = split_cohort(
        folder, SplitConfig(accept_duplicates=True), tmp_path / "splits", publish=publish
    )
    assert len(rows) == 14
    assert seen[0] == seen[1]
    summary = read_json(tmp_path / "splits" / "splits.json")
    assert summary["accepted"] == list(seen[0].counts)
    assert summary["duplicates"] == {
        "labels": [],
        "splits": [[records[0].scan_id, records[12].scan_id]],
        "patients": [[records[0].scan_id, records[13].scan_id]],
        "near": [],
    }
    assert read_json(tmp_path / "splits" / "provenance.json")["config"]["accept_duplicates"]


def test_nearly_identical_images_across_splits_stop(tmp_path: Path) -> None:
    records = three_splits(12)
    folder = manifest(tmp_path / "manifest", records, [0, *range(1, 11), 0])
    with pytest.raises(CohortError, match=r"split\.near_duplicates\] 1 pair of nearly"):
        split_cohort(folder, SplitConfig(), tmp_path / "splits")


def test_a_cohort_without_twins_is_divided(tmp_path: Path) -> None:
    folder = manifest(tmp_path / "manifest", three_splits(12))
    steps: list[tuple[int, int]] = []
    split_cohort(folder, SplitConfig(), tmp_path / "splits", progress=lambda *at: steps.append(at))
    assert read_json(tmp_path / "splits" / "splits.json")["accepted"] == []
    assert steps[-1] == (48, 48)


def test_a_split_without_a_class_stops(tmp_path: Path) -> None:
    records = three_splits(12)
    records.append(record(12, label="c", official="test"))
    folder = manifest(tmp_path / "manifest", records)
    with pytest.raises(CohortError, match=r"split\.absent_class\] no train scan is of class 'c'"):
        split_cohort(folder, SplitConfig(), tmp_path / "splits")
    # a label may be missing from the test scans of a multi-label task, not from training
    rows = [SplitRow(r.scan_id, r.patient_id, r.official_split, 0) for r in records]
    several = Task(kind="multi-label", class_names=("a", "b"))
    check_classes(records[:4], rows[:4], several)
    with pytest.raises(CohortError, match=r"no train scan is of class 'b'"):
        check_classes(records[:3], rows[:3], several)


def test_a_manifest_without_miniatures_is_made_again(tmp_path: Path) -> None:
    records = three_splits(6)
    folder = manifest(tmp_path / "manifest", records)
    write_table(folder / MINIATURES, MiniatureRow, [MiniatureRow(records[0].scan_id, picture(0))])
    with pytest.raises(StageError, match=r"5 scans are not in it.*\n.*medcurve ingest"):
        split_cohort(folder, SplitConfig(), tmp_path / "splits")


def test_a_split_that_stands_is_not_drawn_again(tmp_path: Path) -> None:
    folder = manifest(tmp_path / "manifest", [record(n, label="ab"[n % 2]) for n in range(20)])
    first = split_cohort(folder, SplitConfig(), tmp_path / "splits")
    written = (tmp_path / "splits" / "splits.parquet").stat().st_mtime_ns
    assert split_cohort(folder, SplitConfig(), tmp_path / "splits") == first
    assert (tmp_path / "splits" / "splits.parquet").stat().st_mtime_ns == written
