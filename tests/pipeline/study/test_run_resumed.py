"""A study that was killed, stopped, damaged or failed in part goes on where it was."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from finished_study import Notes, same_results
from toy_study import in_process

from data_prep.files import read_json
from pipeline.checkpoint import Checkpoints
from pipeline.keeper import Keeper
from pipeline.study import compute, features, run, worker
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError, StudyStoppedError
from pipeline.study.grid import PlannedCell
from pipeline.study.jobs import Needs
from pipeline.study.journal import CellResult, Failure
from pipeline.study.run import run_study
from pipeline.study.worker import Setup

KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from pipeline.study.config import StudyConfig
from pipeline.study.run import run_study
from pipeline.study.watch import Watcher

class Killer(Watcher):
    done = 0

    def finished(self, planned, score):
        self.done += 1
        if self.done == 5:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    config = StudyConfig.model_validate_json(sys.argv[1])
    run_study(config, Path(sys.argv[2]), Path(sys.argv[3]), workers=2, watcher=Killer())
"""


def assert_ended(pids: list[int]) -> None:
    """No worker may live on behind a killed study."""
    assert pids
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_in_the_middle_only_the_missing_cells_are_computed(
    config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), config.model_dump_json(), str(store), str(out)]
    here = Path(run.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(here)}
    killed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert_ended([int(pid) for pid in killed.stdout.split()])
    assert not (out / "results.json").exists()
    standing = {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}
    assert len(standing) == 5

    notes = Notes()
    found = run_study(config, store, out, watcher=notes)

    assert found.computed == 5
    assert "5 of 10 cells stand in the journal" in notes.said
    assert notes.begun == [(10, 5)]
    assert {path: path.stat().st_mtime_ns for path in standing} == standing
    assert same_results(out, unbroken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_study_and_it_goes_on_later(
    config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path, number: signal.Signals
) -> None:
    def interrupt(done: int) -> None:
        if done == 3:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(StudyStoppedError, match=f"{number.name}; 3 of 10 cells") as caught:
        run_study(config, store, tmp_path / "out", watcher=Notes(interrupt))

    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert run_study(config, store, tmp_path / "out").computed == 7
    assert same_results(tmp_path / "out", unbroken)


def test_a_damaged_cell_is_computed_again_aloud(
    config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(unbroken, broken)
    path = next((broken / "cells").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    notes = Notes()
    found = run_study(config, store, broken, watcher=notes)

    assert found.computed == 1
    assert any(path.name in line and "computed again" in line for line in notes.said)
    assert same_results(broken, unbroken)


def test_failures_are_reported_kept_or_tried_again(
    config: StudyConfig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(
        setup: Setup, cells: Sequence[PlannedCell], needs: Needs, **_: Any
    ) -> Iterator[tuple[PlannedCell, CellResult | Failure]]:
        for planned, result in in_process(setup, cells, needs, workers=1, stopped=lambda: False):
            if planned.cell.size == 6 and planned.cell.family == "strict":
                passing = planned.cell.subset == 0
                yield planned, Failure("family.refuses", "it does not want to", passing)
            else:
                yield planned, result

    notes = Notes()
    monkeypatch.setattr(compute, "run_local", failing)
    found = run_study(config, store, tmp_path / "out", watcher=notes)
    assert found.failed == 2
    said = (
        "2 of 5 cells of strict failed and are left out (first: [family.refuses] it does not want "
        "to; running the study again tries 1 once more)."
    )
    assert found.failures == found.sentences[:1] == (said,)
    assert (
        sum("strict, 6 patients" in line and "family.refuses" in line for line in notes.said) == 2
    )
    assert notes.scores.count(None) == 2

    monkeypatch.setattr(compute, "run_local", in_process)
    again = run_study(config, store, tmp_path / "out")
    assert (again.computed, again.failed) == (1, 1)


def test_a_full_disk_ends_the_study_and_is_no_cells_failure(
    here: None, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = tmp_path / "filters.yaml"
    family.write_text("family: random_features\nparams: {filters: 8, sizes: [3]}\n")
    config = StudyConfig(families=("prior", str(family)), sizes=(6, 12), subsets=1, resamples=100)
    out = tmp_path / "out"

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(features, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            run_study(config, store, out)
    journaled = [read_json(path) for path in (out / "cells").glob("*.json")]
    assert all(cell["status"] == "done" for cell in journaled)
    assert not (out / "results.json").exists()
    assert run_study(config, store, out).failed == 0


def test_a_cell_that_was_killed_goes_on_from_its_checkpoint(
    here: None, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(
        "family: mlp\nparams: {widths: [4], train: {epochs: 4, min_steps: 8, batch_size: 8}}\n"
    )
    config = StudyConfig(families=(str(small),), sizes=("all",), subsets=1, resamples=100)
    run_study(config, store, tmp_path / "unbroken")
    monkeypatch.setattr(worker, "Checkpoints", partial(Checkpoints, every_seconds=0))
    look_at, looks = Keeper.look_at, iter(range(99))

    def killed(keeper: Keeper, *judged: Any) -> None:
        if next(looks) == 2:
            raise RuntimeError("killed")
        look_at(keeper, *judged)

    monkeypatch.setattr(Keeper, "look_at", killed)
    out, notes = tmp_path / "out", Notes()
    with pytest.raises(StudyError, match="killed"):
        run_study(config, store, out)
    (place,) = (out / "checkpoints").iterdir()
    assert (place / "checkpoint.json").is_file()

    run_study(config, store, out, watcher=notes)

    assert any("small" in line and "checkpoint after epoch 2" in line for line in notes.said)
    assert not (out / "checkpoints").exists()
    assert same_results(out, tmp_path / "unbroken")
