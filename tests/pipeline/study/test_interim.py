"""Reports of a study that goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from toy_study import in_process, write_store

from pipeline.study import compute, interim
from pipeline.study.config import StudyConfig
from pipeline.study.interim import InterimReports, write_interim
from pipeline.study.plan import open_plan
from pipeline.study.run import run_study

CONFIG = StudyConfig(families=("linear",), sizes=(6, 12), subsets=2, resamples=100)


class Clock:
    """A clock to be set, in place of ``time``."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class FakeProcess:
    begun = 0
    alive = False

    def __init__(self, *_: Any) -> None:
        self.ended = False
        FakeProcess.begun += 1

    def is_alive(self) -> bool:
        return FakeProcess.alive

    def terminate(self) -> None:
        self.ended = True

    def join(self) -> None:
        assert self.ended


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    FakeProcess.begun, FakeProcess.alive = 0, False
    monkeypatch.setattr(interim, "time", clock)
    monkeypatch.setattr(interim, "spawned", FakeProcess)
    return clock


def test_the_first_is_there_within_a_minute_and_the_next_take_their_time(
    clock: Clock, tmp_path: Path
) -> None:
    begun = []
    with InterimReports(CONFIG, tmp_path, tmp_path, "c") as reports:
        for clock.now in range(0, 1000, 10):
            before = FakeProcess.begun
            reports.perhaps(3600)
            begun += [clock.now] * (FakeProcess.begun - before)
    assert begun == [30, 90, 270, 810]


def test_none_near_the_end_nor_beside_another(clock: Clock, tmp_path: Path) -> None:
    with InterimReports(CONFIG, tmp_path, tmp_path, "c") as reports:
        clock.now = 500
        reports.perhaps(20)
        assert FakeProcess.begun == 0
        reports.perhaps(600)
        FakeProcess.alive = True
        clock.now = 5000
        reports.perhaps(600)
    assert FakeProcess.begun == 1


def test_nothing_is_written_before_the_first_cell(tmp_path: Path) -> None:
    plan, store = open_plan(CONFIG, write_store(tmp_path / "store"))
    assert not write_interim(plan, store, tmp_path, "c", {})
    assert not (tmp_path / "interim").exists()


def test_it_shows_what_stands_and_skips_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "run_local", in_process)
    store = write_store(tmp_path / "store")
    run_study(CONFIG, store, tmp_path / "out")
    damaged = next((tmp_path / "out" / "cells").glob("*.safetensors"))
    damaged.write_bytes(b"damaged")
    niced: list[int] = []
    monkeypatch.setattr(os, "nice", niced.append)  # or all tests that follow here would be slow
    interim._write_quietly(CONFIG, store, tmp_path / "out", "c")
    page = (tmp_path / "out" / "interim" / "report.html").read_text()
    assert "3 of 4 cells are computed" in page
    interim._write_quietly(CONFIG, tmp_path / "gone", tmp_path / "out", "c")  # says nothing
    assert min(niced) > 0
