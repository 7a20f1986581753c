from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from toy_study import in_process, write_store

from data_prep.errors import ConfigError, StageError
from data_prep.files import read_json
from data_prep.stage import stage_digest
from pipeline.checkpoint import Checkpoints
from pipeline.families.checkpoint import CheckpointError
from pipeline.keeper import Keeper
from pipeline.study import compute, run, worker
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError, StudyStoppedError
from pipeline.study.grid import Plan, PlannedCell
from pipeline.study.jobs import Needs
from pipeline.study.journal import CellResult, Failure
from pipeline.study.plan import open_plan, refit
from pipeline.study.run import cost_of_study, run_study
from pipeline.study.watch import Watcher
from pipeline.study.worker import Setup

RESULT_FILES = ("results.json", "curves.csv")

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


class Notes(Watcher):
    """Keeps what it is told, and does something after each cell."""

    def __init__(self, after: Callable[[int], None] = lambda _: None) -> None:
        self.said: list[str] = []
        self.begun: list[tuple[int, int]] = []
        self.cells: list[PlannedCell] = []
        self.scores: list[float | None] = []
        self.left: list[float] = []
        self._after = after

    def event(self, text: str) -> None:
        self.said.append(text)

    def begin(self, plan: Plan, standing: Collection[str]) -> None:
        self.begun.append((len(plan.cells), len(standing)))

    def expect(self, seconds: float) -> None:
        self.left.append(seconds)

    def finished(self, planned: PlannedCell, score: float | None) -> None:
        self.cells.append(planned)
        self.scores.append(score)
        self._after(len(self.cells))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute cells in this process, which is quicker to start."""
    monkeypatch.setattr(compute, "run_local", in_process)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("phantom") / "store")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A second family: linear with one strong penalty."""
    path = tmp_path_factory.mktemp("family") / "strict.yaml"
    path.write_text("family: linear\nparams: {penalties: [1.0]}\n")
    return str(path)


@pytest.fixture
def config(strict: str) -> StudyConfig:
    return StudyConfig(
        families=("linear", strict), sizes=(6, 12, "all"), subsets=2, seeds=1, resamples=100
    )


@pytest.fixture
def unbroken(here: None, config: StudyConfig, store: Path, tmp_path: Path) -> Path:
    run_study(config, store, tmp_path / "unbroken")
    return tmp_path / "unbroken"


def assert_ended(pids: list[int]) -> None:
    """No worker may live on behind a killed study."""
    assert pids
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def same_results(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in RESULT_FILES)


def test_a_study_says_what_it_found_and_leaves_a_whole_stage(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    notes = Notes()
    found = run_study(config, store, tmp_path / "out", watcher=notes)
    results = read_json(found.out / "results.json")

    assert (found.cells, found.computed, found.failed) == (10, 10, 0)
    assert notes.begun == [(10, 0)]
    assert len(notes.cells) == 10
    assert all(score is not None and 0 <= score <= 1 for score in notes.scores)
    assert notes.left[0] > 0
    assert 0 < notes.left[-1] < notes.left[0]  # the results are still to be written
    assert found.sentences[0].startswith("The test split has 16 patients, 8 of them with 'healthy'")
    assert found.sentences[1].startswith("At 24 patients")
    assert any("strict is released" in s or "linear is released" in s for s in found.sentences)
    assert results["cohort"] == store.parent.name
    assert results["config"]["families"] == ["linear", "strict"]  # never a path
    assert stage_digest(found.out)
    assert not (found.out / "features").exists()
    for path in found.out.rglob("*.json"):
        assert "PATIENT^" not in path.read_text()
        assert "train-000" not in path.read_text()  # nor a scan's id


def test_a_single_cell_pays_for_no_estimate(
    here: None, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "estimate_costs", lambda *_: pytest.fail("it was estimated"))
    notes = Notes()
    config = StudyConfig(families=("linear",), sizes=("all",), subsets=1, resamples=100)
    assert run_study(config, store, tmp_path / "out", watcher=notes).computed == 1
    assert notes.left == []
    assert len(notes.cells) == 1


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


def test_a_finished_study_is_not_computed_again(
    config: StudyConfig, store: Path, unbroken: Path
) -> None:
    before = (unbroken / "results.json").read_bytes()
    assert run_study(config, store, unbroken).computed == 0
    assert (unbroken / "results.json").read_bytes() == before


def test_a_study_is_widened_by_what_is_new_only(
    config: StudyConfig, store: Path, unbroken: Path
) -> None:
    wider = config.model_copy(update={"subsets": 3})
    assert run_study(wider, store, unbroken).computed == 4


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
    assert (
        sum("strict, 6 patients" in line and "family.refuses" in line for line in notes.said) == 2
    )
    assert notes.scores.count(None) == 2

    monkeypatch.setattr(compute, "run_local", in_process)
    again = run_study(config, store, tmp_path / "out")
    assert (again.computed, again.failed) == (1, 1)


def test_a_study_without_any_result_is_an_error(
    config: StudyConfig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hopeless(
        setup: Setup, cells: Sequence[PlannedCell], needs: Needs, **_: Any
    ) -> Iterator[tuple[PlannedCell, CellResult | Failure]]:
        for planned in cells:
            yield planned, Failure("family.refuses", "it does not want to")

    monkeypatch.setattr(compute, "run_local", hopeless)
    with pytest.raises(StudyError, match=r"all 10 cells failed.*family\.refuses") as caught:
        run_study(config, store, tmp_path / "out")
    assert caught.value.code == "study.all_failed"


def test_a_folder_of_another_kind_is_never_written_to(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("all of it")
    with pytest.raises(StageError, match="not written by medcurve"):
        run_study(config, store, out)
    with pytest.raises(StageError, match="output of stage 'prep'"):
        run_study(config, store, store)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_two_processes_do_not_run_one_study(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(StudyError, match="another process") as caught:
            run_study(config, store, out)
    finally:
        os.close(handle)
    assert caught.value.code == "study.locked"


def test_a_study_runs_in_a_thread_as_well(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    small = config.model_copy(update={"sizes": (6,), "subsets": 1})
    thread = threading.Thread(target=run_study, args=(small, store, tmp_path / "out"))
    thread.start()
    thread.join()
    assert (tmp_path / "out" / "results.json").is_file()


def test_two_families_of_one_name_are_refused(store: Path, strict: str, tmp_path: Path) -> None:
    twin = tmp_path / "strict.yaml"
    shutil.copy(strict, twin)
    config = StudyConfig(families=(strict, str(twin)), sizes=(6,))
    with pytest.raises(ConfigError, match="two configs are called 'strict'"):
        open_plan(config, store)


def test_a_family_under_two_names_is_refused(store: Path, strict: str, tmp_path: Path) -> None:
    twin = tmp_path / "twin.yaml"
    shutil.copy(strict, twin)
    config = StudyConfig(families=(strict, str(twin)), sizes=(6,))
    with pytest.raises(ConfigError, match="'twin' and 'strict' are the same family") as caught:
        open_plan(config, store)
    assert caught.value.code == "config.same_family"


def own_weights(folder: Path, sha256: str = "0" * 64) -> str:
    """A family on weights of the user's own that are not there."""
    path = folder / "own.yaml"
    path.write_text(
        "family: pretrained\n"
        f"params: {{checkpoint: {{path: own.pth, sha256: '{sha256}'}}, reading: {{sizes: [32]}}}}\n"
    )
    return str(path)


def test_files_of_a_family_are_looked_at_before_any_training(
    here: None, store: Path, tmp_path: Path
) -> None:
    config = StudyConfig(families=("prior", own_weights(tmp_path)), sizes=(6,), subsets=1)
    for run_it in (run_study, cost_of_study):
        with pytest.raises(
            CheckpointError, match=r"family 'own', params\.checkpoint\.path"
        ) as caught:
            run_it(config, store, tmp_path / "out")
        assert caught.value.code == "checkpoint.not_found"
    (tmp_path / "own.pth").write_bytes(b"other weights")
    with pytest.raises(CheckpointError, match=r"family 'own', .*own\.pth") as caught:
        run_study(config, store, tmp_path / "out")
    assert caught.value.code == "checkpoint.wrong_sha256"
    assert "params.checkpoint.sha256" in caught.value.fix
    assert not list((tmp_path / "out").iterdir())
    run_study(config, store, tmp_path / "out", only=["prior"])  # which needs no weights


def test_a_cell_fitted_again_gives_the_journals_bits(
    store: Path, config: StudyConfig, unbroken: Path
) -> None:
    results = read_json(unbroken / "results.json")
    recorded = StudyConfig.model_validate(results["config"])
    plan, _ = open_plan(config, store)
    key = results["release"]["key"]
    again = refit(recorded, plan.families, store, unbroken, key)

    assert again.same
    assert again.difference == 0
    assert again.planned.cell.size == 24
    with pytest.raises(StudyError, match="no finished cell") as caught:
        refit(recorded, plan.families, store, unbroken, "0" * 64)
    assert caught.value.code == "study.no_cell"


def test_prepared_scans_serve_every_size_and_are_removed(
    here: None, store: Path, tmp_path: Path
) -> None:
    family = tmp_path / "filters.yaml"
    family.write_text("family: random_features\nparams: {filters: 8, sizes: [3]}\n")
    config = StudyConfig(families=(str(family),), sizes=(6, "all"), subsets=1, resamples=100)
    found = run_study(config, store, tmp_path / "out")

    assert (found.cells, found.failed) == (2, 0)
    assert not (tmp_path / "out" / "features").exists()


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


def test_a_whole_curve_of_each_family_comes_first(
    here: None, config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    notes = Notes()
    run_study(config, store, tmp_path / "out", watcher=notes)
    first = {(p.cell.family, p.cell.size) for p in notes.cells[:6]}
    assert first == {(family, size) for family in ("linear", "strict") for size in (6, 12, 24)}
    assert [p.cell.subset for p in notes.cells] == [0] * 6 + [1] * 4


def test_some_families_only_and_the_others_later(
    here: None, config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    part = run_study(config, store, out, only=["linear"])
    assert (part.computed, part.pending, part.sentences) == (5, 5, ())
    assert not (out / "results.json").exists()
    page = (out / "interim" / "report.html").read_text()
    assert "Interim report: 5 of 10 cells are computed." in page
    interim = read_json(out / "interim" / "results.json")
    assert interim["pending"] == 5
    assert {p["family"] for p in interim["points"] if p["mean"] is not None} == {"linear"}

    whole = run_study(config, store, out)
    assert (whole.computed, whole.pending) == (5, 0)
    assert not (out / "interim").exists()
    assert same_results(out, unbroken)


def test_an_unknown_family_is_answered_with_the_nearest(
    config: StudyConfig, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=r"--only linaer.*'linear'") as caught:
        run_study(config, store, tmp_path / "out", only=["linaer"])
    assert caught.value.code == "study.unknown_family"
    assert not (tmp_path / "out").exists()


def test_the_cost_is_told_without_a_trace(
    here: None, config: StudyConfig, store: Path, unbroken: Path, tmp_path: Path
) -> None:
    found = cost_of_study(config, store, tmp_path / "out")
    assert (found.cells, found.standing) == (10, 0)
    assert [(name, cells) for name, cells, _ in found.families] == [("linear", 5), ("strict", 5)]
    assert all(seconds > 0 for _, _, seconds in found.families)
    assert not (tmp_path / "out").exists()
    done = cost_of_study(config, store, unbroken, only=["strict"])
    assert (done.standing, done.families) == (10, (("strict", 0, 0.0),))
