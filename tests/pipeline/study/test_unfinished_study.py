"""Extended, stopped and narrowed: what the commands say of a study that is not as it was."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_study import in_process, write_store

from data_prep.cohort import CohortConfig
from data_prep.errors import CohortError, StageError
from data_prep.files import read_json, write_json
from pipeline import study_stages
from pipeline.model_stages import release_stage
from pipeline.study import compute, interim, report, run
from pipeline.study.errors import StudyError, StudyStoppedError
from pipeline.study.jobs import Finished
from pipeline.study.journal import Failure
from pipeline.study.plan import recorded_study
from pipeline.study.record import read_standing
from pipeline.study.report import write_report
from pipeline.study_board import Board
from pipeline.tracking import TrackingError
from pipeline.workspace import Workspace

COHORT = {"name": "toy", "source": {"kind": "folder", "root": "raw"}, "prep": "phantom2d"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``runs`` folder with a finished study of six cells, and the study's file."""
    place = tmp_path_factory.mktemp("place")
    (place / "s.yaml").write_text(
        "{families: [prior, linear], sizes: [6, all], subsets: 2, resamples: 100}"
    )
    workspace = workspace_in(place)
    write_store(workspace.store)
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        study_stages.study_stage(workspace, str(place / "s.yaml"), 1, None)
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    quick(monkeypatch)
    shutil.copytree(made, tmp_path / "place")
    return tmp_path / "place"


def workspace_in(place: Path) -> Workspace:
    return Workspace(place / "runs", CohortConfig.model_validate(COHORT), "phantom2d")


def quick(patch: pytest.MonkeyPatch) -> None:
    """Cells in this process; a store without a manifest; no MLflow but where it is asked for."""
    patch.setattr(compute, "run_local", in_process)
    patch.setattr(study_stages, "refuse_stale", lambda workspace: None)
    patch.setattr(study_stages, "sync_stage", lambda *given: None)


def study(place: Path, *extend: str) -> Path:
    """Run the study; returns its folder."""
    study_stages.study_stage(workspace_in(place), str(place / "s.yaml"), 1, None, extend=extend)
    return workspace_in(place).study("s")


def stopped(place: Path, after: int, *extend: str) -> Path:
    """Run the study until a signal stops it; returns its folder."""

    def finished(self: Board, *_: object) -> None:
        finished.cells -= 1  # type: ignore[attr-defined]
        if finished.cells == 0:  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGINT)

    finished.cells = after  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Board, "finished", finished)
        with pytest.raises(StudyStoppedError) as caught:
            study(place, *extend)
    assert "medcurve report" in caught.value.fix
    return workspace_in(place).study("s")


Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What was printed since it was last asked, in one line."""
    return lambda: " ".join(capsys.readouterr().out.split())


def cells_of(out: Path) -> int:
    return len(read_json(out / "results.json")["cells"])


def test_an_extension_stays_until_it_is_taken_back(place: Path, said: Said) -> None:
    out = study(place, "subsets=3")
    assert cells_of(out) == 8
    assert "was extended before" not in said()

    study(place)
    assert cells_of(out) == 8
    assert "extended before (subsets=3) and stays so" in said()
    study(place, "sizes=12")
    assert cells_of(out) == 14
    assert "not in the study's grid" not in said()

    study(place, "none")
    assert cells_of(out) == 6
    assert "8 computed cells are not in the study's grid any more (sizes 12, subsets 2)" in said()
    study(place)
    assert cells_of(out) == 6
    assert "0 computed now" in said()


def test_a_file_that_asks_for_less_is_obeyed_aloud(place: Path, said: Said) -> None:
    text = (place / "s.yaml").read_text()
    (place / "s.yaml").write_text(text.replace("prior, ", ""))
    out = study(place)
    assert cells_of(out) == 3
    assert "3 computed cells are not in the study's grid any more (families prior)" in said()
    assert len(list((out / "cells").glob("*.json"))) == 6


def test_a_broken_extension_is_told_and_shown(
    place: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = stopped(place, 3, "subsets=3", "sizes=12")
    pending = "study: 5 of 14 cells are pending; the results are those of 6 cells before; "
    said()

    study_stages.report_stage(workspace_in(place), "s")
    assert f"{pending}`medcurve study` goes on interim report:" in said()
    page = (out / "interim" / "report.html").read_text()
    assert "Interim report: 9 of 14 cells are computed." in page
    monkeypatch.undo()
    study_stages.sync_stage(workspace_in(place), "s", None, strict=True)
    assert pending in said()

    quick(monkeypatch)
    study(place)  # without saying again what it was extended by
    assert cells_of(out) == 14
    assert "extended before (subsets=3 sizes=12)" in said()
    assert not (out / "interim").exists()
    study_stages.report_stage(workspace_in(place), "s")
    assert said().startswith("report: ")


def test_a_stopped_study_has_an_interim_report(
    place: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_in(place)
    shutil.rmtree(workspace.study("s"))
    out = stopped(place, 4)
    said()
    study_stages.report_stage(workspace, "s")
    assert "study: 2 of 6 cells are pending; `medcurve study` goes on" in said()
    assert "4 of 6 cells" in (out / "interim" / "report.html").read_text()
    monkeypatch.undo()
    with pytest.raises(TrackingError, match="has not finished"):
        study_stages.sync_stage(workspace, "s", None, strict=True)
    assert "2 of 6 cells are pending" in said()

    shutil.rmtree(out / "cells")
    with pytest.raises(StudyError, match="none of its 6 cells is computed") as caught:
        study_stages.report_stage(workspace, "s")
    assert caught.value.code == "study.no_results"


def alone(out: Path) -> bool:
    """True where another process that shows the study would have to wait now."""
    handle = os.open(out / "cells", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def test_a_report_and_the_end_of_the_study_wait_for_each_other(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    def removed(folder: Path, **_: object) -> None:
        if (folder.parent / "cells").is_dir():
            waited.append(alone(folder.parent))

    def written(out: Path, results_in: Path | None = None) -> Path:
        waited.append(alone(out))
        return write_report(out, results_in)

    out = stopped(place, 1, "subsets=3")
    monkeypatch.setattr(interim, "write_report", written)
    study_stages.report_stage(workspace_in(place), "s")
    monkeypatch.setattr(report, "write_report", written)
    monkeypatch.setattr(run.shutil, "rmtree", removed)
    study(place)
    assert waited == [True] * 5  # two reports; features, checkpoints and interim report removed
    assert not alone(out)


def test_damaged_cells_are_named(
    place: Path, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    out = workspace_in(place).study("s")
    study_stages.report_stage(workspace_in(place), "s")
    assert capsys.readouterr().err == ""
    cells = sorted((out / "cells").glob("*.json"))
    cells[0].write_text(cells[0].read_text()[:50])
    study_stages.report_stage(workspace_in(place), "s")
    printed = " ".join(capsys.readouterr().err.split())
    assert "[study.damaged_cell] 1 cell of the journal is damaged: " in printed
    assert f"{cells[0].name} is not a journal entry → run `medcurve study` again" in printed
    for cell in cells[1:]:
        cell.write_bytes(cell.read_bytes().replace(b'"', b"'", 1))
    study_stages.report_stage(workspace_in(place), "s")
    printed = " ".join(capsys.readouterr().err.split())
    assert "6 cells of the journal are damaged: " in printed
    assert "; and 1 more" in printed


def test_families_whose_cells_failed_are_named_at_the_end(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: Any, **more: Any) -> Iterator[Finished]:
        for planned, result in in_process(*given, **more):
            lost = planned.cell.family == "linear"
            yield planned, Failure("a.b", "no luck", passing=True) if lost else result

    shutil.rmtree(workspace_in(place).study("s"))
    monkeypatch.setattr(compute, "run_local", failing)
    out = study(place)
    said = (
        "linear has no result: all 3 of its cells failed (first: [a.b] no luck; running the study "
        "again tries 3 once more)."
    )
    assert f"[study.failed_cells] {said}" in " ".join(capsys.readouterr().err.split())
    assert read_json(out / "results.json")["sentences"][0] == said
    assert said in (out / "report.html").read_text()


def test_results_that_are_cut_off_lead_to_the_command_that_writes_them(place: Path) -> None:
    out = workspace_in(place).study("s")
    whole = (out / "results.json").read_bytes()
    (out / "results.json").write_bytes(whole[:200])
    with pytest.raises(StudyError, match=r"results\.json: cannot be read") as caught:
        study_stages.report_stage(workspace_in(place), "s")
    assert caught.value.code == "study.damaged_results"
    assert "medcurve study" in caught.value.fix
    study(place)
    assert (out / "results.json").read_bytes() == whole


def test_before_any_study_it_is_said_that_there_is_none(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StudyError, match="this study was never run") as caught:
        study_stages.report_stage(workspace_in(place), "other")
    assert caught.value.code == "study.no_results"
    monkeypatch.undo()
    with pytest.raises(TrackingError, match="this study was never run"):
        study_stages.sync_stage(workspace_in(place), "other", None, strict=True)
    assert not workspace_in(place).study("other").exists()


def test_of_a_store_that_changed_no_report_is_made(place: Path) -> None:
    workspace = workspace_in(place)
    stopped(place, 1, "subsets=3")
    shutil.rmtree(workspace.store)
    write_store(workspace.store, seed=1)
    with pytest.raises(StudyError, match="was run on the store") as caught:
        study_stages.report_stage(workspace, "s")
    assert caught.value.code == "study.other_store"


def test_a_kill_before_the_results_were_written_is_told(place: Path) -> None:
    out = workspace_in(place).study("s")
    (out / "results.json").unlink()
    standing = read_standing(out)
    assert str(standing).startswith("all 6 cells are computed, their results are not yet written;")


def test_a_dry_run_says_that_nothing_is_to_be_computed(place: Path, said: Said) -> None:
    study_stages.cost_stage(workspace_in(place), str(place / "s.yaml"), 1)
    assert "6 cells stand in the journal; nothing is to be computed" in said()
    study_stages.cost_stage(workspace_in(place), str(place / "s.yaml"), 1, extend=["subsets=3"])
    told = "2 of 8 cells to compute (6 stand in the journal), about 7 s on 1 process (nothing"
    assert told in said()
    shutil.rmtree(workspace_in(place).study("s"))
    study_stages.cost_stage(workspace_in(place), str(place / "s.yaml"), 1, only=["prior"])
    assert "3 of 6 cells to compute, about " in said()


def test_a_folder_of_an_earlier_version_has_a_report(place: Path, said: Said) -> None:
    out = workspace_in(place).study("s")
    (out / "study.json").write_text('{"format": "medcurve-study", "version": 2}')
    assert read_standing(out) is None
    study_stages.report_stage(workspace_in(place), "s")
    assert said().startswith("report: ")


def test_settings_that_this_version_does_not_know_are_no_record(place: Path) -> None:
    out = workspace_in(place).study("s")
    for name in ("study.json", "results.json"):
        content = read_json(out / name)
        content["config"]["epochs_of_old"] = 3
        write_json(out / name, content)
    assert read_standing(out) is None
    with pytest.raises(StudyError, match="none of this version") as caught:
        recorded_study(read_json(out / "results.json"))
    assert caught.value.code == "study.foreign_results"


def refused_release(place: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        release_stage(workspace_in(place), str(place / "s.yaml"), None)
    assert caught.value.code == "stage.incomplete"
    return caught.value


def test_a_stopped_study_is_not_released_and_says_how_far_it_is(place: Path) -> None:
    shutil.rmtree(workspace_in(place).study("s"))
    stopped(place, 2)
    error = refused_release(place)
    assert "4 of 6 cells are pending; `medcurve study` goes on" in error.message
    assert "--prep" not in error.fix


@pytest.mark.parametrize("begun", [True, False])
def test_a_release_without_prep_is_told_where_the_finished_study_stands(
    place: Path, begun: bool
) -> None:
    own = workspace_in(place).study("s")
    other = own.rename(own.with_name("study-s-plan"))
    (own.parent / "store-plan").mkdir()
    shutil.copytree(other, own.with_name("study-s-twice"))  # no prep config: it has no store
    if begun:
        stopped(place, 2)
    error = refused_release(place)
    assert ("4 of 6 cells" in error.message) is begun
    assert f"{other}: name the prep config that it ran on by --prep" in error.fix
    assert "study-s-twice" not in error.fix


def test_sizes_that_a_small_cohort_cannot_hold_give_way_to_all(place: Path, said: Said) -> None:
    file = place / "s.yaml"
    file.write_text("{families: [prior, linear], sizes: [6, 40, 80], subsets: 2, resamples: 100}")
    with pytest.raises(CohortError, match="24 training patients") as caught:
        study(place)
    assert "--to-fit" in caught.value.fix
    found = study_stages.study_stage(workspace_in(place), str(file), 1, None, to_fit=True)
    assert found.computed == 0  # it is the study of 6 and all
    replaced = "24 training patients: 'all' of them in place of 40 and 80"
    assert replaced in said()
    study_stages.cost_stage(workspace_in(place), str(file), 1, to_fit=True)
    told = said()
    assert replaced in told
    assert "nothing is to be computed" in told
    file.write_text("{families: [prior, linear], sizes: [6, all], subsets: 2, resamples: 100}")
    study_stages.study_stage(workspace_in(place), str(file), 1, None, to_fit=True)
    assert "in place of" not in said()
