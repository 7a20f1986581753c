"""Prep: the store holds what the recipe makes of each scan; a broken run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep import prep, store
from data_prep.cohort import CohortConfig, SplitConfig
from data_prep.config import parse_config
from data_prep.errors import CohortError, ScanError, StageError
from data_prep.files import read_json, read_table, write_table
from data_prep.ingest import ingest, make_phantom
from data_prep.manifest import ScanReader, load_manifest, source_of
from data_prep.prep import prepare_store
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.readers import read_scan
from data_prep.splits import SPLIT_TABLE, SplitRow, split_cohort
from data_prep.stage import new_stage, stage_digest
from data_prep.store import Store

CONFIG = parse_config(
    {"shape": 12, "spacing_mm": 3.0, "intensity": {"kind": "training_z_score"}},
    PrepConfig,
    source="prep.yaml",
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScanReader, Path, Path]:
    """A small 2D phantom cohort, ingested and split."""
    runs = tmp_path_factory.mktemp("runs")
    content = {
        "name": "ph",
        "source": {"kind": "phantom", "phantom": {"ndim": 2, "n_patients": 24, "seed": 3}},
        "prep": "x",
    }
    config = parse_config(content, CohortConfig, source="ph.yaml")
    root = make_phantom(config, runs)
    ingest(config, runs, runs / "manifest")
    split_cohort(runs / "manifest", SplitConfig(), runs / "splits")
    return ScanReader(root), runs / "manifest", runs / "splits"


def test_the_store_holds_what_the_recipe_makes(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path]
) -> None:
    reader, manifest, _ = cohort
    steps: list[tuple[int, int]] = []
    done = prepare_store(*cohort, CONFIG, tmp_path / "store", progress=lambda *at: steps.append(at))
    opened = Store.open(tmp_path / "store")
    recipe = PrepRecipe.from_json(read_json(tmp_path / "store" / "recipe.json"))
    records, task = load_manifest(manifest)
    assert (done.scans, done.quarantined) == (len(records), 0)
    assert opened.task == task
    assert steps[-1][0] == steps[-1][1]
    by_id = {record.scan_id: record for record in records}
    for row in opened.index:
        record = by_id[row.scan_id]
        volume = read_scan(reader.root, source_of(record))
        assert np.array_equal(opened.read([row])[0], recipe.apply(volume))
        assert row.target == task.encode(record.labels)
        assert row.bayes == record.bayes
    names = {row.scan_id: row.split for row in opened.index}
    training = [r for r in records if names[r.scan_id] == "train"]
    volumes = [read_scan(reader.root, source_of(r)) for r in training]
    assert PrepRecipe.fit(CONFIG, iter(volumes)) == recipe  # training scans only


def test_a_store_that_stands_is_kept(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_store(*cohort, CONFIG, tmp_path / "store")
    monkeypatch.setattr(ScanReader, "read", None)
    again = prepare_store(*cohort, CONFIG, tmp_path / "store")
    assert (again.scans, again.quarantined) == (first.scans, first.quarantined)


def _failing_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Let the disk fill up at the given call of write_shard."""
    real: Callable[..., str] = store.write_shard
    count = 0

    def write(*arguments: object) -> str:
        nonlocal count
        count += 1
        if count > calls:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(prep, "write_shard", write)


def test_a_broken_run_goes_on_behind_its_last_whole_shard(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHARD_BYTES", 4 * 144 * 8)  # eight scans a shard
    prepare_store(*cohort, CONFIG, tmp_path / "whole")
    with monkeypatch.context() as patch:
        _failing_after(patch, 2)
        with pytest.raises(OSError, match="No space"):
            prepare_store(*cohort, CONFIG, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    done = prepare_store(*cohort, CONFIG, tmp_path / "store")
    assert done.kept_shards == 2
    assert Store.open(tmp_path / "store").digest == Store.open(tmp_path / "whole").digest
    with monkeypatch.context() as patch:
        _failing_after(patch, 2)
        with pytest.raises(OSError, match="No space"):
            prepare_store(*cohort, CONFIG, tmp_path / "other")
    shard = tmp_path / ".other.part" / "shard-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x99")
    assert prepare_store(*cohort, CONFIG, tmp_path / "other").kept_shards == 1
    assert Store.open(tmp_path / "other").digest == Store.open(tmp_path / "whole").digest


def test_another_config_does_not_go_on_with_the_old_shards(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _failing_after(patch, 0)
        with pytest.raises(OSError, match="No space"):
            prepare_store(*cohort, CONFIG, tmp_path / "store")
    other = CONFIG.model_copy(update={"shape": 10})
    assert prepare_store(*cohort, other, tmp_path / "store").kept_shards == 0
    opened = Store.open(tmp_path / "store")
    assert opened.read([opened.index[0]]).shape == (1, 1, 10, 10)


def test_a_scan_that_the_recipe_refuses_is_quarantined(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    records, _ = load_manifest(cohort[1])
    victim = records[5]
    real = ScanReader.read

    def read(self: ScanReader, rows: list[object], transform: object = None) -> object:
        for row, result in zip(rows, real(self, rows, transform), strict=True):  # type: ignore[call-overload]
            yield ScanError("volume.wrong_ndim", "3D") if row == victim else result

    monkeypatch.setattr(ScanReader, "read", read)
    done = prepare_store(*cohort, CONFIG, tmp_path / "store")
    assert (done.scans, done.quarantined) == (len(records) - 1, 1)
    text = (tmp_path / "store" / "quarantine.csv").read_text()
    assert f"{victim.paths[0]},volume.wrong_ndim,3D" in text
    assert victim.scan_id not in {row.scan_id for row in Store.open(tmp_path / "store").index}


def test_nothing_left_of_a_split_stops(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ScanReader.read

    def read(self: ScanReader, rows: list[object], transform: object = None) -> object:
        for result in real(self, rows, transform):  # type: ignore[call-overload]
            yield ScanError("volume.wrong_ndim", "3D") if transform else result

    monkeypatch.setattr(ScanReader, "read", read)
    with pytest.raises(CohortError, match=r"prep\.nothing_left"):
        prepare_store(*cohort, CONFIG, tmp_path / "store")


def test_a_patient_in_two_splits_stops_before_any_work(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path]
) -> None:
    records, _ = load_manifest(cohort[1])
    rows = [
        SplitRow(r.scan_id, "same", ("train", "test")[n % 2], -1) for n, r in enumerate(records)
    ]
    inputs = {"manifest": stage_digest(cohort[1])}
    with new_stage(tmp_path / "splits", "split", inputs, {}) as folder:
        write_table(folder / SPLIT_TABLE, SplitRow, rows)
    with pytest.raises(CohortError, match=r"split\.patient_leak"):
        prepare_store(cohort[0], cohort[1], tmp_path / "splits", CONFIG, tmp_path / "store")


def test_splits_of_another_manifest_are_refused(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path]
) -> None:
    rows = read_table(cohort[2] / SPLIT_TABLE, SplitRow)
    with new_stage(tmp_path / "splits", "split", {}, {}) as folder:
        write_table(folder / SPLIT_TABLE, SplitRow, rows[2:])
    with pytest.raises(StageError, match=r"stage\.stale.*another manifest.*\n.*medcurve split"):
        prepare_store(cohort[0], cohort[1], tmp_path / "splits", CONFIG, tmp_path / "store")


def test_a_damaged_shard_is_refused_by_name(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path]
) -> None:
    prepare_store(*cohort, CONFIG, tmp_path / "store")
    shard = tmp_path / "store" / "shard-00000.npy"
    whole = shard.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 20):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        shard.write_bytes(bytes(damaged))
        with pytest.raises(StageError, match=r"store\.damaged_shard.*shard-00000\.npy"):
            Store.open(tmp_path / "store")
    shard.unlink()
    with pytest.raises(StageError, match="the file is gone"):
        Store.open(tmp_path / "store")
    with pytest.raises(StageError, match=r"store\.empty_split"):
        Store.open(tmp_path / "store", verify=False).read([])


def test_a_damaged_store_is_written_anew(
    tmp_path: Path, cohort: tuple[ScanReader, Path, Path]
) -> None:
    prepare_store(*cohort, CONFIG, tmp_path / "store")
    before = Store.open(tmp_path / "store").digest
    (tmp_path / "store" / "shard-00000.npy").write_bytes(b"damaged")
    prepare_store(*cohort, CONFIG, tmp_path / "store")
    assert Store.open(tmp_path / "store").digest == before
