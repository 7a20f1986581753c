"""The Ray engine on a cluster of two nodes, both on this machine."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from toy_study import Toys, assert_same_bits, in_process, toy_config, toy_needs, write_store
from two_nodes import TwoNodes

from pipeline.study.cell import arithmetic
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.jobs import Needs
from pipeline.study.journal import CellResult, Failure
from pipeline.study.run import run_study
from pipeline.study.worker import Setup

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

from pipeline.study import identity, ray_engine
from pipeline.study.ray_cluster import slots
from pipeline.study.ray_engine import as_seen_here, run_ray


def test_a_study_gives_the_same_bytes_on_two_nodes_as_in_local_processes(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    store = write_store(tmp_path / "cohort" / "store")
    for name, text in {
        "filters": "family: random_features\nparams: {filters: 8, sizes: [3]}\n",
        "small": "family: mlp\nparams: {widths: [4], train: {epochs: 3, min_steps: 6}}\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    families = ("linear", str(tmp_path / "filters.yaml"), str(tmp_path / "small.yaml"))
    config = StudyConfig(families=families, sizes=(6, "all"), subsets=2, seeds=2, resamples=100)
    run_study(config, store, tmp_path / "one", workers=1)
    run_study(config, store, tmp_path / "two", workers=2)
    run_study(config, store, tmp_path / "ray", workers=slots(1), engine=run_ray)

    assert slots(1) == 2
    cells = sorted(path.name for path in (tmp_path / "one" / "cells").glob("*.safetensors"))
    assert len(cells) == 18
    for name in [*(f"cells/{cell}" for cell in cells), "results.json", "curves.csv"]:
        one, two, ray = ((tmp_path / out / name).read_bytes() for out in ("one", "two", "ray"))
        assert one == two == ray
    assert not (tmp_path / "ray" / "features").exists()
    assert not (tmp_path / "ray" / "checkpoints").exists()


def test_a_removed_node_costs_its_cells_in_flight_and_one_that_joins_is_used(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    fits, diary = tmp_path / "fits", tmp_path / "diary"
    family = toy_config("dawdles", diary=diary, fits=fits)
    toys = Toys(tmp_path, {"toy": family}, subsets=8, seeds=2)

    def begun() -> list[list[str]]:
        """The cell and the node of each fit."""
        return [line.split() for line in fits.read_text().splitlines()]

    def after(done: int) -> None:
        if done == 6:
            nodes.kill()
            nodes.add()
        elif done > 6 and len({node for _, node in begun()}) < 3:
            # The more patient, the longer it takes: cells must be left when the new node is ready.
            time.sleep(0.2 * (done - 6))

    found = toys.run(run_ray, 2, toy_needs, after=after)
    quick = Toys(tmp_path / "here", {"toy": toy_config()}, subsets=8, seeds=2)

    assert_same_bits(found, quick.run(in_process, needs=toy_needs))
    assert len({cell for cell, _ in begun()}) == len(found) == 32
    assert len(begun()) <= 32 + 1  # the node that was removed had one cell in hand
    assert len({node for _, node in begun()}) == 3
    # Each seed prepared the three splits once, for all nodes.
    prepared = [f"{seed} {scans}" for seed in (0, 1) for scans in (20, 32, 48)]
    assert sorted(diary.read_text().splitlines()) == prepared


def test_failures_are_those_of_the_local_engine(nodes: TwoNodes, tmp_path: Path) -> None:
    moods = ("refuses", "crashes", "unprepared")
    toys = Toys(tmp_path, {mood: toy_config(mood) for mood in moods}, subsets=1)
    needs: Needs = lambda p: toy_needs(p) if p.cell.family == "unprepared" else None  # noqa: E731
    found = toys.run(run_ray, needs=needs)

    assert len(found) == 6
    assert found == toys.run(in_process, needs=needs)


def test_a_worker_that_dies_costs_its_cell_only(nodes: TwoNodes, tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"mortal": toy_config("dies when large")}, subsets=1)
    found = toys.run(run_ray)
    died = found["mortal", 12, 0, 0]

    assert isinstance(found["mortal", 6, 0, 0], CellResult)
    assert isinstance(died, Failure)
    assert (died.code, died.passing) == ("study.worker_died", True)
    assert f"on node {os.uname().nodename}" in died.message and "2 times" in died.message


def test_a_full_disk_ends_the_study(nodes: TwoNodes, tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"full": toy_config("fills the disk")}, subsets=1)
    with pytest.raises(OSError, match="No space left") as caught:
        toys.run(run_ray)
    assert caught.value.filename == "features/x.npy"


def test_features_that_stand_are_not_made_again(nodes: TwoNodes, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    toys = Toys(tmp_path, {"toy": toy_config(diary=diary)})
    here = toys.run(in_process, needs=toy_needs)
    prepared = diary.read_text()

    assert_same_bits(toys.run(run_ray, needs=toy_needs), here)
    assert diary.read_text() == prepared


def test_stopping_ends_the_workers_at_once(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_PATIENCE_SECONDS", 0.0)
    toys = Toys(tmp_path, {"toy": toy_config(), "slow": toy_config("sleeps")})
    done: list[int] = []
    said: list[str] = []
    engine = partial(run_ray, say=said.append)
    found = toys.run(engine, stopped=lambda: len(done) == 2, after=done.append)

    assert len(found) == 2  # a later cell would sleep for a minute
    assert len(said) == 1
    assert said[0].startswith("no worker has begun yet on ")


def test_nodes_of_another_arithmetic_are_refused_in_words(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = arithmetic(1)
    monkeypatch.setattr(identity, "arithmetic", lambda _: mine | {"instructions": "VSX"})
    said: list[str] = []
    with pytest.raises(StudyError, match="would give other bits") as caught:
        Toys(tmp_path, {"toy": toy_config()}).run(partial(run_ray, say=said.append), 2)

    assert caught.value.code == "study.no_node"
    refused = [line for line in said if line.startswith("node ")]  # beside calls for patience
    assert len(refused) == 2
    for line in refused:
        assert f"node {os.uname().nodename}" in line
        assert f"instructions is '{mine['instructions']}' there and 'VSX' here" in line
        assert line in caught.value.message


def test_a_cell_that_no_node_has_room_for_is_refused(nodes: TwoNodes, tmp_path: Path) -> None:
    toys = Toys(tmp_path, {"toy": toy_config()})
    toys.setup = replace(toys.setup, threads=64)
    with pytest.raises(StudyError, match="no node of the Ray cluster has 64 CPUs"):
        toys.run(run_ray)
    assert slots(64) == 0


def test_a_node_keeps_checkpoints_only_where_it_sees_their_folder(tmp_path: Path) -> None:
    setup = Setup(tmp_path, tmp_path, tmp_path / "checkpoints", {}, 1)
    assert as_seen_here(setup).checkpoints is None
    (tmp_path / "checkpoints").mkdir()
    assert as_seen_here(setup) == setup
