"""Scans read by decode children on the nodes of a Ray cluster, both on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from decode_transforms import has_a_defect, turned_but_the_fifth
from two_nodes import TwoNodes

from data_prep.errors import ScanError
from data_prep.ingest import ingest
from data_prep.manifest import ScanReader
from data_prep.prep import prepare_store
from data_prep.preprocess import PrepConfig
from data_prep.readers.decode_child import Job
from data_prep.readers.policy import DEFAULT_POLICY
from data_prep.readers.sandbox import DecodeError, DecodePool
from data_prep.readers.source import ScanSource
from data_prep.splits import split_cohort
from data_prep.volume import Volume

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

from ray.exceptions import RayActorError

from pipeline import ray_decode
from pipeline.ray_decode import RayChild, RayReaders
from pipeline.workspace import open_workspace

COUNT = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small volumes; every seventh is cut off."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        path = folder / f"{number:02d}.nii.gz"
        array = rng.normal(size=(6, 5, 4)).astype(np.float32)
        array[0, 0, 0] = number + 0.5
        nib.Nifti1Image(array, np.eye(4)).to_filename(path)
        if number % 7 == 3:
            path.write_bytes(path.read_bytes()[:-40])
    return folder


def sources(folder: Path) -> list[ScanSource]:
    return [ScanSource("nifti", (path.name,)) for path in sorted(folder.iterdir())]


def read(folder: Path, transform: Callable[[Volume], Any] | None = None, **how: Any) -> list[Any]:
    with DecodePool(folder, workers=2, **how) as pool:
        return [result for _, result in pool.read(sources(folder), transform)]


def layout(array: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Length and stride of each axis; that of an axis of one element says nothing."""
    pairs = zip(array.shape, array.strides, strict=True)
    return [(length, stride) for length, stride in pairs if length > 1]


def assert_same(mine: list[Any], theirs: list[Any]) -> None:
    assert len(mine) == len(theirs) == COUNT
    for here, there in zip(mine, theirs, strict=True):
        if isinstance(here, ScanError):
            assert isinstance(there, ScanError)
            assert (here.code, here.message, here.fix) == (there.code, there.message, there.fix)
        else:
            assert here.array.tobytes("A") == there.array.tobytes("A")
            assert layout(here.array) == layout(there.array)  # sums depend on it
            assert here.array.flags.writeable == there.array.flags.writeable
            assert np.array_equal(here.affine, there.affine)


@pytest.mark.parametrize("transform", [None, turned_but_the_fifth])
def test_scans_are_the_same_as_read_here(
    nodes: TwoNodes, folder: Path, transform: Callable[[Volume], Volume] | None
) -> None:
    found = read(folder, transform, new_child=RayReaders())
    refused = [result for result in found if isinstance(result, ScanError)]
    assert len(refused) == (7 if transform else 6)
    assert_same(found, read(folder, transform))


@pytest.mark.parametrize("together", [1, 8])
def test_a_node_that_is_killed_costs_no_scan(
    nodes: TwoNodes, folder: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr("data_prep.readers.sandbox._CHUNK_FILES", together)
    said: list[str] = []
    found = []
    with DecodePool(folder, workers=3, new_child=RayReaders(said.append)) as pool:
        for number, (_, result) in enumerate(pool.read(sources(folder))):
            found.append(result)
            if number == 2:
                nodes.kill()
    assert_same(found, read(folder))
    assert said == []


def test_children_are_spread_over_nodes_and_ended(nodes: TwoNodes) -> None:
    readers = RayReaders()
    workers = [readers.start() for _ in range(4)]
    places = sorted(worker.node.id for worker in workers)
    assert places[0] == places[1] != places[2] == places[3]
    for worker in workers:
        readers.end(worker)
        readers.end(worker)
    again = [readers.start() for _ in range(2)]
    assert {worker.node.id for worker in again} == set(places)
    for worker in again:
        readers.end(worker)


def test_a_defect_of_the_transform_is_no_damaged_scan(nodes: TwoNodes, folder: Path) -> None:
    with pytest.raises(DecodeError, match="KeyError") as caught:
        read(folder, has_a_defect, new_child=RayReaders())
    assert caught.value.code == "decode.failed"


def test_files_that_nodes_see_otherwise_are_no_damaged_scans(
    nodes: TwoNodes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = [[1 << 20]] * COUNT
    monkeypatch.setattr(ray_decode, "seen_sizes", lambda job: elsewhere[: len(job.sources)])
    with pytest.raises(DecodeError, match=r"00\.nii\.gz is missing there, or not") as caught:
        read(folder, new_child=RayReaders())
    assert caught.value.code == "decode.unseen_folder"
    assert str(folder) in caught.value.message


def test_foreign_nodes_are_left_out_and_named(
    nodes: TwoNodes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ray_decode.reading_identity()
    monkeypatch.setattr(ray_decode, "reading_identity", lambda: mine | {"pydicom": "0.1"})
    said: list[str] = []
    with pytest.raises(DecodeError, match=r"pydicom is '.*' there and '0\.1' here") as caught:
        read(folder, new_child=RayReaders(said.append))
    assert caught.value.code == "decode.no_node"
    assert len(said) == 2
    for line in said:
        assert f"node {os.uname().nodename}" in line
        assert line in caught.value.message


def job(folder: Path) -> Job:
    return Job(folder.absolute(), tuple(sources(folder)[:3]), b"", DEFAULT_POLICY, 1 << 30, 60.0)


def test_a_scan_with_which_every_worker_ends_is_refused(
    nodes: TwoNodes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def lost(self: RayChild, count: int, timeout_s: float) -> list[Any]:
        asked.append(count)
        return []

    monkeypatch.setattr(RayChild, "_receive", lost)
    child = RayReaders()()
    child.wait_until_ready()
    given = job(folder)
    assert child.send(given)
    answer, _ = child.answer(given.sources[1], 1.0)
    assert isinstance(answer, ScanError)
    assert answer.code == "file.crashed"
    assert "3 Ray workers ended" in answer.message
    assert asked == [2, 2, 2]  # from that scan on
    assert child.ended
    assert not child.send(given)


def test_a_node_on_which_no_worker_begins_is_left_out(
    nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    readers = RayReaders(said.append)

    def ends(_: Any, timeout: float) -> None:
        raise RayActorError

    monkeypatch.setattr(ray_decode.ray, "get", ends)
    with pytest.raises(DecodeError, match="cannot run medcurve") as caught:
        readers().wait_until_ready()
    assert caught.value.code == "decode.no_node"
    assert len(said) == 2


def test_a_child_that_was_ended_begins_no_more(nodes: TwoNodes) -> None:
    child = RayReaders()()
    child.end()
    with pytest.raises(DecodeError) as caught:
        child.wait_until_ready()
    assert caught.value.code == "decode.closed"


def test_ingest_and_prep_write_the_same_bytes_though_a_node_is_killed(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    for label in ("ill", "well"):
        (scans / label).mkdir(parents=True)
        for number in range(6):
            array = np.random.default_rng(number).normal(size=(6, 6, 6)) + (label == "ill")
            nib.Nifti1Image(array, np.eye(4)).to_filename(scans / label / f"{number}.nii.gz")
    (scans / "ill" / "0.nii.gz").write_bytes(b"\x1f\x8b cut off")
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nprep: mri\nsource: {kind: folder, root: scans}\n"
        "labels: {kind: folders}\npatient: {kind: path, pattern: '(\\w+/\\d)'}\n"
        "split: {accept_duplicates: true}\n"
    )
    workspace = open_workspace(tmp_path / "runs", str(tmp_path / "mine.yaml"))
    config = PrepConfig.model_validate({"shape": 4, "intensity": {"kind": "nyul"}})
    for name, how in {"here": {}, "there": {"new_child": RayReaders()}}.items():
        manifest, splits, store = (tmp_path / name / stage for stage in ("m", "s", "store"))

        def on(done: int, _: int, there: bool = bool(how)) -> None:
            if there and done == 2:
                nodes.kill()

        ingest(workspace.cohort, workspace.runs, manifest, workers=2, progress=on, **how)
        split_cohort(manifest, workspace.cohort.split, splits)
        prepare_store(ScanReader(scans, workers=2, **how), manifest, splits, config, store)
    files = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        there = tmp_path / "there" / path.relative_to(tmp_path / "here")
        if path.name != "provenance.json":  # it says when
            assert path.read_bytes() == there.read_bytes(), path
