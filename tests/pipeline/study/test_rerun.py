"""A fit comes out the same again from the id of its run in MLflow, or it is said why not."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import medcurve
from toy_study import in_process, write_store

from data_prep.errors import MedcurveError, StageError
from data_prep.files import read_json, write_json
from pipeline.reproduction import rerun_stage
from pipeline.study import compute, grid, plan
from pipeline.study.config import StudyConfig
from pipeline.study.errors import StudyError
from pipeline.study.grid import Cell
from pipeline.study.journal import CellResult, Failure, Journal
from pipeline.study.rerun import Rerun, find_store, find_study, rerun
from pipeline.study.results import study_identity
from pipeline.study.run import run_study
from pipeline.tracking import TrackingError, default_uri, find_cell_run, sync_study


@dataclass(frozen=True)
class Place:
    """A ``runs`` folder with a synced study, and the ids of its runs by kind."""

    runs: Path
    ids: dict[str, str]

    @property
    def study(self) -> Path:
        return self.runs / "phantom" / "study-toy"

    @property
    def key(self) -> str:
        return find_cell_run(self.ids["cell"], default_uri(self.runs)).cell


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    from mlflow import MlflowClient

    runs = tmp_path_factory.mktemp("rerun") / "runs"
    config = StudyConfig(families=("linear",), sizes=(6, "all"), subsets=2, resamples=100)
    study, uri = runs / "phantom" / "study-toy", default_uri(runs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "run_local", in_process)
        run_study(config, write_store(runs / "phantom" / "store-toy"), study, cohort="phantom")
    report = sync_study(study, uri)
    found = MlflowClient(uri, uri).search_runs([report.experiment_id])
    return Place(runs, {run.data.tags["medcurve.kind"]: run.info.run_id for run in found})


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy that a test may change."""
    shutil.copytree(made.runs, tmp_path / "runs")
    return Place(tmp_path / "runs", made.ids)


def again(place: Place, **recorded: float) -> Rerun:
    return rerun(place.study, find_store(place.study), place.key, recorded)


def test_a_run_comes_out_the_same_from_its_id(
    made: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medcurve("rerun", made.ids["cell"], "--runs", str(made.runs)) == 0
    said = capsys.readouterr().out
    assert "probabilities: equal bit by bit" in said
    assert "metrics: all 15 are equal" in said  # five metrics on three splits
    assert "test_log_loss" in said and "not as it was" not in said


def test_another_score_than_the_runs_is_told_and_is_no_success(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    uri = default_uri(place.runs)
    MlflowClient(uri, uri).log_metric(place.ids["cell"], "test_auc", 0.125, step=1000)
    assert medcurve("rerun", place.ids["cell"], "--runs", str(place.runs)) == 1
    said = capsys.readouterr().out
    assert "0.125000" in said
    assert "1 are not equal, test_auc is off by" in said


def test_other_probabilities_than_the_journals_are_told(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(place.study / "cells")
    entry = journal.read(place.key)
    assert entry is not None
    val, test = journal.probabilities(entry)
    journal.write(entry.cell, entry.key, CellResult(val, test + 1e-6), 0)

    assert rerun_stage(place.ids["cell"], place.runs, None, 0.0)
    assert "probabilities: they differ by up to 1.0e-06" in capsys.readouterr().out


def test_another_machine_is_named_and_its_results_may_be_off_a_little(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = plan.arithmetic(1)
    monkeypatch.setattr(plan, "arithmetic", lambda _: {**real, "torch": "9.9"})
    found = again(place, test_auc=0.5)
    assert found.differs == (f"torch: {real['torch']} then, 9.9 now",)
    assert found.same_bits and found.difference == 0

    assert rerun_stage(place.ids["cell"], place.runs, None, 1e-4)
    assert "not as it was: torch" in capsys.readouterr().out


def test_another_version_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    record = read_json(place.study / "provenance.json")
    write_json(place.study / "provenance.json", record | {"medcurve": "0.0.1"})
    assert any(line.startswith("medcurve: 0.0.1 then") for line in again(place).differs)

    (place.study / "provenance.json").unlink()
    assert again(place).differs == ()
    monkeypatch.setattr(grid, "RESULT_VERSION", 99)
    assert again(place).differs[0].startswith("medcurve's code")


@pytest.mark.parametrize(
    ("differs", "off", "tolerance", "reproduces"),
    [
        ((), 0.0, 0.0, True),
        ((), 1e-9, 1.0, False),  # the same arithmetic gives the same bits
        (("torch",), 1e-5, 1e-4, True),
        (("torch",), 1e-3, 1e-4, False),
        (("torch",), float("nan"), 1e-4, False),
    ],
)
def test_what_counts_as_equal(
    differs: tuple[str, ...], off: float, tolerance: float, reproduces: bool
) -> None:
    cell = Cell("toy", 6, 0, 0)
    found = Rerun(cell, differs, {"test_auc": (0.5, 0.5 + off)}, True, 0.0)
    assert found.reproduces(tolerance) is reproduces
    assert not Rerun(cell, differs, {}, True, 0.0).reproduces(tolerance)  # nothing was compared


def test_a_study_that_is_gone_is_named(place: Place) -> None:
    key = place.key
    shutil.rmtree(place.study)
    with pytest.raises(StudyError, match=key[:12]) as caught:
        find_study(place.runs, key, "")
    assert caught.value.code == "study.no_folder"
    assert "--runs" in caught.value.fix


def test_of_two_studies_with_the_same_cell_the_runs_own_is_taken(place: Place) -> None:
    other = place.runs / "phantom" / "study-another"
    shutil.copytree(place.study, other)

    for folder in (other, place.study):
        wanted = study_identity(folder, read_json(folder / "results.json"))
        assert find_study(place.runs, place.key, wanted) == folder
    assert find_study(place.runs, place.key, "neither") == other


def test_a_store_that_has_changed_is_named(place: Place) -> None:
    store = find_store(place.study)
    shutil.rmtree(store)
    with pytest.raises(StudyError, match="there is no store") as caught:
        find_store(place.study)
    assert caught.value.code == "study.no_store"
    write_store(store, seed=7)
    broken = store.with_name("store-broken")
    shutil.copytree(store, broken)
    (broken / "provenance.json").write_text("{")
    with pytest.raises(StudyError, match="store-toy is ") as caught:
        find_store(place.study)
    assert "prep" in caught.value.fix


def test_a_damaged_store_is_refused(place: Place) -> None:
    store = find_store(place.study)
    shard = next(store.glob("shard-*.npy"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StageError) as caught:
        again(place)
    assert caught.value.code == "store.damaged_shard"


def test_a_cell_without_a_result_cannot_be_compared(place: Place) -> None:
    journal = Journal(place.study / "cells")
    entry = journal.read(place.key)
    assert entry is not None
    journal.write(entry.cell, entry.key, Failure("family.one_class", "of one class"), 0)
    with pytest.raises(StudyError, match=r"failed \(family\.one_class\)") as caught:
        again(place)
    assert caught.value.code == "study.no_cell"


@pytest.mark.parametrize("kind", ["study", "family"])
def test_a_run_of_many_fits_leads_to_one(made: Place, kind: str) -> None:
    uri = default_uri(made.runs)
    with pytest.raises(TrackingError, match=f"shows a {kind}") as caught:
        find_cell_run(made.ids[kind], uri)
    assert caught.value.code == "tracking.not_a_cell"
    named = caught.value.fix.partition("such as ")[2].split()[0]
    assert find_cell_run(named, uri).metrics["test_auc"] >= 0


def test_a_run_that_is_not_medcurves_is_no_cell(place: Place) -> None:
    from mlflow import MlflowClient

    uri = default_uri(place.runs)
    foreign: Any = MlflowClient(uri, uri).create_run("0")
    with pytest.raises(TrackingError, match="nothing that medcurve knows"):
        find_cell_run(foreign.info.run_id, uri)


@pytest.mark.parametrize("run_id", ["0123456789abcdef0123456789abcdef", "no id", "../x"])
def test_an_unknown_run_is_named(made: Place, run_id: str) -> None:
    with pytest.raises(MedcurveError, match="has no such run") as caught:
        find_cell_run(run_id, default_uri(made.runs))
    assert caught.value.code == "tracking.no_run"


def test_a_store_of_runs_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="there is no such file") as caught:
        find_cell_run("abc", default_uri(tmp_path / "elsewhere"))
    assert caught.value.code == "tracking.no_run"
    assert not (tmp_path / "elsewhere").exists()


def test_scores_are_those_of_the_probabilities(made: Place) -> None:
    found = again(made, test_auc=0.0, fit_seconds=3.0)
    assert set(found.scores) == {"test_auc"}  # what is no score is left out
    assert np.isfinite(found.scores["test_auc"][1])
