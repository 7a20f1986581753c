"""The survey reads few scans, the same each time, none of a test split, and is not repeated."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohort_rows import TASK, row
from PIL import Image

from data_prep.cohort import CohortConfig, SplitConfig
from data_prep.config import find_config, parse_config, read_config
from data_prep.errors import CohortError, ScanError, StageError
from data_prep.files import read_json, write_json, write_table
from data_prep.fingerprint import CohortFingerprint
from data_prep.ingest import ingest, make_phantom, raw_root
from data_prep.manifest import MANIFEST, ScanReader, ScanRecord, load_manifest
from data_prep.plan import plan_prep, plan_yaml, write_plan
from data_prep.prep import prepare_store
from data_prep.preprocess import PrepConfig
from data_prep.splits import split_cohort
from data_prep.stage import new_stage
from data_prep.store import Store
from data_prep.survey import draw_sample, load_sample, survey_cohort, thumbnail_path
from data_prep.volume import Volume


@dataclass(frozen=True)
class MadeReader(ScanReader):
    """Reads what was never written: each scan is of one value, the number in its scan id."""

    broken: tuple[str, ...] = ()

    def read(self, records: Sequence[ScanRecord], transform: Any = None) -> Iterator[Any]:
        """As ``ScanReader.read``, in this process."""
        for record in records:
            if record.scan_id in self.broken:
                yield ScanError("file.unreadable", f"{record.scan_id}: gone")
            else:
                value = int(record.scan_id, 16)
                yield transform(Volume(np.full((1, 6, 6, 6), value, np.float32), np.eye(4)))


def manifest(folder: Path, rows: list[ScanRecord]) -> Path:
    """A manifest of made rows, as ingest would write it."""
    with new_stage(folder, "ingest", {}, len(rows)) as partial:
        write_table(partial / MANIFEST, ScanRecord, rows)
        write_json(partial / "task.json", TASK.model_dump(mode="json"))
    return folder


def test_classes_take_turns_in_the_sample() -> None:
    rows = [row(n, labels=("malignant",) if n % 10 == 0 else ("benign",)) for n in range(400)]
    sample = draw_sample(rows, 64)
    assert len(sample) == len({record.scan_id for record in sample}) == 64
    assert Counter(record.labels for record in sample) == {("benign",): 32, ("malignant",): 32}
    numbers = [int(record.scan_id, 16) for record in sample]
    assert numbers == sorted(numbers)
    assert sample == draw_sample(rows, 64)
    assert draw_sample(rows[:5], 64) == rows[:5]


def test_a_class_of_few_scans_is_seen_whole_and_the_rest_filled_up() -> None:
    rows = [row(n, labels=("malignant",) if n < 3 else ("benign",)) for n in range(100)]
    counts = Counter(record.labels for record in draw_sample(rows, 20))
    assert counts == {("benign",): 17, ("malignant",): 3}


def test_scans_of_an_official_test_split_stay_unseen() -> None:
    rows = [row(n, official_split="test" if n % 2 else "train") for n in range(40)]
    sample = draw_sample(rows, 64)
    assert len(sample) == 20
    assert {record.official_split for record in sample} == {"train"}
    only_test = [replace(record, official_split="test") for record in rows]
    assert len(draw_sample(only_test, 64)) == 40


def test_a_scan_that_cannot_be_read_again_is_counted(tmp_path: Path) -> None:
    rows = [row(n) for n in range(4)]
    folder = manifest(tmp_path / "manifest", rows)
    reader = MadeReader(tmp_path, broken=(rows[1].scan_id,))
    steps: list[tuple[int, int]] = []
    seen = survey_cohort(
        "made", reader, folder, tmp_path / "out", lambda done, total: steps.append((done, total))
    )
    assert (seen.intensities.sampled, seen.intensities.unreadable) == (3, 1)
    assert seen.intensities.low.maximum == 3
    assert steps == [(n, 4) for n in (1, 2, 3, 4)]
    sample = load_sample(tmp_path / "out")
    assert [scan.scan_id for scan in sample] == [rows[n].scan_id for n in (0, 2, 3)]
    assert sample[1].labels == ("benign",)
    assert set(sample[1].quantiles) == {2.0}


def test_a_cohort_whose_scans_are_gone_is_refused(tmp_path: Path) -> None:
    folder = manifest(tmp_path / "manifest", [row(1)])
    reader = MadeReader(tmp_path, broken=(row(1).scan_id,))
    with pytest.raises(CohortError, match=r"none of 1 scans .* gone") as caught:
        survey_cohort("made", reader, folder, tmp_path / "out")
    assert caught.value.code == "fingerprint.unreadable"
    assert not (tmp_path / "out").exists()


def test_without_a_manifest_there_is_nothing_to_survey(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        survey_cohort("made", MadeReader(tmp_path), tmp_path / "manifest", tmp_path / "out")
    assert caught.value.code == "stage.missing"


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def phantom(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ScanReader, Path]:
    """A small phantom cohort with its splits, ingested."""
    runs = tmp_path_factory.mktemp("runs")
    source = {"kind": "phantom", "phantom": {"ndim": request.param, "n_patients": 12, "seed": 5}}
    content = {"name": "ph", "source": source, "prep": "x"}
    config = parse_config(content, CohortConfig, source="ph.yaml")
    root = make_phantom(config, runs)
    ingest(config, runs, runs / "manifest")
    split_cohort(runs / "manifest", SplitConfig(), runs / "splits")
    return ScanReader(root), runs


def test_a_survey_is_kept_and_comes_out_the_same(
    phantom: tuple[ScanReader, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, runs = phantom
    first = survey_cohort("ph", reader, runs / "manifest", runs / "one")
    again = survey_cohort("ph", reader, runs / "manifest", runs / "two")
    assert first == again == CohortFingerprint.from_json(read_json(runs / "one/fingerprint.json"))
    made = [read_json(runs / name / "provenance.json")["outputs"] for name in ("one", "two")]
    assert made[0] == made[1]
    records, task = load_manifest(runs / "manifest")
    assert first.task == task
    assert first.scans == len(records)
    for scan in load_sample(runs / "one"):
        with Image.open(thumbnail_path(runs / "one", scan.scan_id)) as picture:
            assert max(picture.size) <= 112
    monkeypatch.setattr("data_prep.manifest.DecodePool", None)
    assert survey_cohort("ph", reader, runs / "manifest", runs / "one") == first
    with pytest.raises(TypeError):
        survey_cohort("another", reader, runs / "manifest", runs / "one")


def test_the_plan_of_a_phantom_cohort_runs(phantom: tuple[ScanReader, Path]) -> None:
    reader, runs = phantom
    seen = survey_cohort("ph", reader, runs / "manifest", runs / "one")
    write_plan(runs / "plan.yaml", plan_yaml(plan_prep(seen), seen, "x"))
    config = read_config(runs / "plan.yaml", PrepConfig)
    assert config.orientation == ("RAS" if seen.spatial_ndim == 3 else "PL")
    assert config.intensity.kind == "nyul"  # gains differ from scan to scan, by design
    done = prepare_store(reader, runs / "manifest", runs / "splits", config, runs / "store")
    assert (done.scans, done.quarantined) == (seen.scans, 0)
    store = Store.open(runs / "store")
    scans = store.read(list(store.index))
    assert np.isfinite(scans).all()
    # One histogram for all: the medians of the scans' bodies meet.
    middles = [np.median(scan[scan > scan.mean()]) for scan in scans]
    assert np.std(middles) < 0.1


def real_set(dataset: str, runs: Path) -> ScanReader:
    """Ingest and split a MedMNIST set, or skip the test."""
    data = os.environ.get("MEDCURVE_DATA")
    if not data or not (Path(data) / "medmnist" / f"{dataset}.npz").is_file():
        pytest.skip(f"MEDCURVE_DATA is not set, or has no medmnist/{dataset}.npz")
    content = {
        "name": "set",
        "source": {"kind": "medmnist", "dataset": dataset},
        "split": {"accept_duplicates": True},
        "prep": "x",
    }
    config = parse_config(content, CohortConfig, source="set.yaml")
    ingest(config, runs, runs / "manifest")
    split_cohort(runs / "manifest", config.split, runs / "splits")
    return ScanReader(raw_root(config, runs))


@pytest.mark.parametrize("dataset", ["breastmnist", "adrenalmnist3d"])
def test_a_real_set_gets_the_recipe_that_was_written_for_it_by_hand(
    tmp_path: Path, dataset: str
) -> None:
    reader = real_set(dataset, tmp_path)
    seen = survey_cohort("set", reader, tmp_path / "manifest", tmp_path / "survey")
    by_hand = read_config(find_config("prep", "medmnist28"), PrepConfig)
    assert plan_prep(seen).config == by_hand.model_copy(update={"channels": 1})


def test_the_plan_of_a_real_set_runs(tmp_path: Path) -> None:
    reader = real_set("breastmnist", tmp_path)
    seen = survey_cohort("set", reader, tmp_path / "manifest", tmp_path / "survey")
    folders = (tmp_path / "manifest", tmp_path / "splits")
    prepare_store(reader, *folders, plan_prep(seen).config, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    training = store.read(store.rows("train"))
    assert training.shape[1:] == (1, 28, 28)
    assert abs(training.mean()) < 1e-3
    assert abs(training.std() - 1) < 1e-3
