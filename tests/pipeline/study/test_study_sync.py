"""A real study in a real MLflow store: every run once, every point once, no patient."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from finished_study import write_toy_study

from data_prep.files import read_json, write_json
from pipeline.tracking import SyncReport, TrackingError, prepare_store, sync, sync_study
from pipeline.tracking.study_runs import ARTIFACTS, read_study

N_RUNS = 1 + 2 + 6  # study, families, cells


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs, to be copied: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    prepare_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    with (
        closing(sqlite3.connect(empty)) as made,
        closing(sqlite3.connect(tmp_path / "mlflow.db")) as copy,
    ):
        made.backup(copy)  # unlike a copy of the file, with what is still in its log
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    shutil.copytree(study.parent, tmp_path / "place")
    return tmp_path / "place" / "study-toy"


def runs(uri: str, report: SyncReport) -> list[Any]:
    from mlflow import MlflowClient

    return list(MlflowClient(uri, uri).search_runs([report.experiment_id], max_results=1000))


def points(uri: str) -> Counter[tuple[Any, ...]]:
    """Every metric point in the store, without its time."""
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        rows = database.execute("SELECT run_uuid, key, step, value FROM metrics").fetchall()
    return Counter(rows)


def test_a_study_stands_as_study_families_and_cells(uri: str, study: Path) -> None:
    told: list[tuple[int, int]] = []
    report = sync_study(study, uri, progress=lambda done, total: told.append((done, total)))
    found = runs(uri, report)
    by_id = {found_run.info.run_id: found_run for found_run in found}
    kinds = Counter(found_run.data.tags["medcurve.kind"] for found_run in found)

    assert (report.created, report.unchanged) == (N_RUNS, 0)
    assert kinds == {"study": 1, "family": 2, "cell": 6}
    assert told[-1] == (N_RUNS, N_RUNS)
    for found_run in found:
        assert found_run.info.status == "FINISHED"
        parent = found_run.data.tags.get("mlflow.parentRunId")
        wanted = {"study": None, "family": "study", "cell": "family"}
        kind = wanted[found_run.data.tags["medcurve.kind"]]
        assert (by_id[parent].data.tags["medcurve.kind"] if parent else None) == kind
    parent = by_id[report.run_id]
    sentences = read_json(study / "results.json")["sentences"]
    assert all(sentence in parent.data.tags["mlflow.note.content"] for sentence in sentences)
    assert parent.data.tags["medcurve.families"] == "linear, strict"
    assert parent.data.tags["medcurve.sizes"] == "6, all"
    assert {"cells", "test_auc/linear", "test_auc/strict"} <= set(parent.data.metrics)
    assert parent.data.metrics["cells"] == 6
    assert parent.inputs.dataset_inputs[0].dataset.name == "phantom"
    artifacts = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert {path.name for path in artifacts.iterdir()} == {*ARTIFACTS, "figures"}
    drawn = {path.name for path in (study / "figures").iterdir()}
    assert {path.name for path in (artifacts / "figures").iterdir()} == drawn
    assert {"learning-curves.svg", "bias-variance.svg", "reliability.svg"} <= drawn


def test_a_family_run_draws_the_learning_curve(uri: str, study: Path) -> None:
    from mlflow import MlflowClient

    report = sync_study(study, uri)
    client = MlflowClient(uri, uri)
    family = next(r for r in runs(uri, report) if r.info.run_name == "linear")
    history = client.get_metric_history(family.info.run_id, "test_auc")
    wanted = {
        point["size"]: point["mean"]
        for point in read_json(study / "results.json")["points"]
        if (point["family"], point["metric"], point["split"]) == ("linear", "auc", "test")
    }

    assert {point.step: point.value for point in history} == wanted
    assert {
        "val_auc",
        "test_accuracy_low",
        "test_brier_high",
        "fit_seconds",
    } <= set(family.data.metrics)
    assert family.info.run_id in report.curves_page
    assert report.curves_page.startswith("/#/metric?")
    assert "test_auc" in report.curves_page
    assert family.info.run_id in report.tradeoff_pages[0]
    assert "bias2" in report.tradeoff_pages[0] and "noise" not in report.tradeoff_pages[0]
    assert report.tradeoff_pages[0][1:] in family.data.tags["mlflow.note.content"]
    parent = client.get_run(report.run_id)
    assert parent.data.tags["mlflow.note.content"].startswith(
        f"[Learning curves]({report.curves_page[1:]})"
    )


def test_syncing_twice_adds_nothing(uri: str, study: Path) -> None:
    first = sync_study(study, uri)
    before = points(uri)
    second = sync_study(study, uri)

    assert (second.created, second.unchanged) == (0, N_RUNS)
    assert second.run_id == first.run_id
    assert points(uri) == before
    assert max(before.values()) == 1


def test_a_sync_that_broke_off_is_completed(
    uri: str, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sync._Sync._fill
    calls = []

    def failing(self: Any, run_id: str, record: Any) -> None:
        calls.append(run_id)
        if len(calls) == 4:
            self.client.log_batch(run_id, params=[])  # begun, not finished
            raise ConnectionError("the network is gone")
        real(self, run_id, record)

    monkeypatch.setattr(sync._Sync, "_fill", failing)
    with pytest.raises(TrackingError, match="the network is gone") as caught:
        sync_study(study, uri)
    assert caught.value.code == "tracking.unreachable"
    assert "medcurve sync" in caught.value.fix
    monkeypatch.setattr(sync._Sync, "_fill", real)
    report = sync_study(study, uri)

    found = runs(uri, report)
    assert len(found) == N_RUNS
    assert {found_run.info.status for found_run in found} == {"FINISHED"}
    _, record = read_study(study)
    assert points(uri).total() == sum(len(wanted.metrics) for wanted in record)


def test_what_has_changed_is_replaced_and_its_cells_move(uri: str, copied: Path) -> None:
    first = sync_study(copied, uri)
    results = read_json(copied / "results.json")
    changed = next(
        p for p in results["points"] if (p["family"], p["metric"]) == ("linear", "brier")
    )
    changed["mean"] = 0.123
    write_json(copied / "results.json", results)
    second = sync_study(copied, uri)

    assert (second.created, second.unchanged) == (1, N_RUNS - 1)
    assert second.run_id == first.run_id
    found = runs(uri, second)
    assert len(found) == N_RUNS
    family = next(r for r in found if r.info.run_name == "linear")
    cells = [r for r in found if r.data.tags.get("mlflow.parentRunId") == family.info.run_id]
    assert len(cells) == 3


WIDER = {"subsets": 3, "sizes": (6, 12, "all")}  # 2 x (3 + 3 + 1) cells


def assert_shows(uri: str, report: SyncReport, study: Path) -> None:
    """Every run once, whole and in its place; every point once; the latest are the study's."""
    _, record = read_study(study)
    found = {found_run.data.tags["medcurve.key"]: found_run for found_run in runs(uri, report)}
    assert len(found) == len(runs(uri, report))
    assert found.keys() == {wanted.key for wanted in record}
    cells = [r.data.tags["medcurve.cell"] for r in found.values() if "medcurve.cell" in r.data.tags]
    assert len(cells) == len(set(cells))
    for wanted in record:
        shown = found[wanted.key]
        assert shown.info.status == "FINISHED"
        assert shown.data.params == wanted.params
        assert shown.data.metrics == {point.name: point.value for point in wanted.metrics}
        for child in wanted.children:
            parent = found[child.key].data.tags["mlflow.parentRunId"]
            assert parent == shown.info.run_id
    stands = points(uri)
    assert max(stands.values()) == 1
    steps = Counter((run, name, step) for run, name, step, _ in stands.elements())
    assert max(steps.values()) == 1


def test_an_extended_study_stays_one_run_with_every_cell_once(uri: str, copied: Path) -> None:
    first = sync_study(copied, uri)
    before = {r.data.tags.get("medcurve.cell"): r.info.run_id for r in runs(uri, first)}
    write_toy_study(copied.parent, **WIDER)
    second = sync_study(copied, uri)

    assert second.run_id == first.run_id
    assert (second.created, second.unchanged, second.removed) == (2 + 8, 1 + 6, 0)
    after = {r.data.tags.get("medcurve.cell"): r.info.run_id for r in runs(uri, second)}
    assert {key: run_id for key, run_id in after.items() if key in before and key} == {
        key: run_id for key, run_id in before.items() if key
    }
    assert_shows(uri, second, copied)
    parent = next(r for r in runs(uri, second) if r.info.run_id == first.run_id)
    assert parent.data.tags["medcurve.subsets"] == "3"
    assert parent.data.tags["medcurve.sizes"] == "6, 12, all"
    again = sync_study(copied, uri)
    assert (again.run_id, again.created, again.removed) == (first.run_id, 0, 0)
    assert_shows(uri, again, copied)


@pytest.mark.parametrize(
    ("step", "number"),
    [("_reopen", 1), ("_create", 1), ("_create", 4), ("_fill", 2), ("_fill", 11)],
)
def test_an_extension_whose_sync_broke_off_is_completed(
    uri: str, copied: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    """The last ``_fill`` is that of the study's own run."""
    first = sync_study(copied, uri)
    write_toy_study(copied.parent, **WIDER)
    real, calls = getattr(sync._Sync, step), []

    def failing(self: Any, *given: Any) -> Any:
        done = real(self, *given)
        calls.append(step)
        if len(calls) == number:
            raise ConnectionError("the network is gone")
        return done

    monkeypatch.setattr(sync._Sync, step, failing)
    with pytest.raises(TrackingError, match="the network is gone"):
        sync_study(copied, uri)
    monkeypatch.setattr(sync._Sync, step, real)
    second = sync_study(copied, uri)

    assert second.run_id == first.run_id
    assert_shows(uri, second, copied)


def test_of_a_narrowed_study_nothing_is_left_that_it_no_longer_has(uri: str, copied: Path) -> None:
    first = sync_study(copied, uri)
    write_toy_study(copied.parent, families=("linear",))
    second = sync_study(copied, uri)

    assert second.run_id != first.run_id  # what a run has said cannot be unsaid
    assert second.removed == 1 + 3
    assert_shows(uri, second, copied)


def test_a_number_that_changes_between_syncs_is_shown_as_it_is_now(uri: str, copied: Path) -> None:
    """A cell that was computed again took another time: the number of cells is the same."""
    first = sync_study(copied, uri)
    path = next((copied / "cells").glob("*.json"))
    entry = read_json(path)
    for seconds in (50.0, 7.0, 50.0):
        write_json(path, entry | {"seconds": {"fit": seconds, "predict": 0.0}})
        report = sync_study(copied, uri)
        parent = next(r for r in runs(uri, report) if r.info.run_id == report.run_id)
        spent = {m.name: m.value for m in read_study(copied)[1].metrics}["compute_seconds"]
        assert parent.data.metrics["compute_seconds"] == spent
        assert report.run_id == first.run_id


def test_a_run_that_stands_twice_is_removed_once(uri: str, study: Path) -> None:
    from mlflow import MlflowClient

    report = sync_study(study, uri)
    cell = next(r for r in runs(uri, report) if r.data.tags["medcurve.kind"] == "cell")
    MlflowClient(uri, uri).create_run(report.experiment_id, tags=cell.data.tags)
    sync_study(study, uri)

    assert len(runs(uri, report)) == N_RUNS


def test_a_failed_cell_is_a_failed_run(uri: str, copied: Path) -> None:
    results = read_json(copied / "results.json")
    cell = results["cells"][0]
    cell |= {"status": "failed", "code": "family.one_class", "message": "of one class"}
    write_json(copied / "results.json", results)
    report = sync_study(copied, uri)
    failed = [r for r in runs(uri, report) if r.info.status == "FAILED"]

    assert [r.data.tags["medcurve.code"] for r in failed] == ["family.one_class"]
    assert failed[0].data.metrics == {}


def test_no_patient_scan_or_path_reaches_the_store(uri: str, study: Path, tmp_path: Path) -> None:
    report = sync_study(study, uri)
    content = b"".join(
        path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.suffix != ".parquet"
    )
    artifacts = str(tmp_path).encode()

    assert b"linear" in content
    assert b"PATIENT^" not in content
    assert b"train-000" not in content
    assert str(study.parent).encode() not in content
    # The store's own place is known to it (artifact URIs) and to nothing that is shown.
    for found_run in runs(uri, report):
        shown = str({**found_run.data.tags, **found_run.data.params}).encode()
        assert artifacts not in shown


def test_an_unfinished_or_damaged_study_is_refused(uri: str, copied: Path, tmp_path: Path) -> None:
    next((copied / "cells").glob("*.json")).write_text("{")
    with pytest.raises(TrackingError, match="cannot be read") as caught:
        sync_study(copied, uri)
    assert caught.value.code == "tracking.damaged_journal"
    with pytest.raises(TrackingError, match="has not finished"):
        sync_study(tmp_path, uri)


def test_epochs_are_the_steps_of_a_cells_history(copied: Path) -> None:
    path = next((copied / "cells").glob("*.json"))
    entry = read_json(path)
    write_json(path, entry | {"history": {"train_loss": [0.9, None, 0.5]}})
    _, record = read_study(copied)
    cell = next(r for r in record if r.tags.get("medcurve.cell") == entry["key"])

    history = [(m.step, m.value) for m in cell.metrics if m.name == "history/train_loss"]
    assert history == [(1, 0.9), (3, 0.5)]


def test_a_family_run_draws_bias_variance_and_the_gap(uri: str, study: Path) -> None:
    from mlflow import MlflowClient

    report = sync_study(study, uri)
    client = MlflowClient(uri, uri)
    family = next(r for r in runs(uri, report) if r.info.run_name == "linear")
    results = read_json(study / "results.json")

    def drawn(name: str) -> dict[int, float]:
        return {p.step: p.value for p in client.get_metric_history(family.info.run_id, name)}

    terms = {
        name: {
            part["size"]: part["value"]
            for part in results["decomposition"]
            if (part["family"], part["loss"], part["class_name"], part["term"])
            == ("linear", "squared", "", name)
            and part["value"] is not None
        }
        for name in ("bias2", "variance_data", "variance", "total")
    }
    terms["variance"].pop(24, None)  # one subset takes every patient: what is left is the seed's
    for name, wanted in terms.items():
        assert drawn(name) == wanted
        for end in ("low", "high"):
            known = {
                part["size"]
                for part in results["decomposition"]
                if (part["family"], part["loss"], part["class_name"], part["term"])
                == ("linear", "squared", "", name)
                and part[end] is not None
            }
            assert set(drawn(f"{name}_{end}")) == known & set(wanted)
    assert set(terms["total"]) == {6, 24}
    assert set(terms["variance_data"]) == set(terms["variance"]) == {6}
    assert drawn("bias2")[6] + drawn("variance")[6] == pytest.approx(drawn("total")[6])
    assert "variance_seed" not in family.data.metrics  # one seed cannot tell
    assert "noise" not in family.data.metrics  # nothing is known of it but on phantoms
    for size, gap in drawn("train_test_gap").items():
        assert gap == pytest.approx(drawn("train_auc")[size] - drawn("test_auc")[size])
    assert "train_test_gap_high" in family.data.metrics
    cell = next(r for r in runs(uri, report) if r.data.tags["medcurve.kind"] == "cell")
    assert {"train_auc", "val_auc", "test_auc"} <= set(cell.data.metrics)


def test_the_load_of_the_machine_is_shown_by_the_time_it_was_measured(
    uri: str, copied: Path
) -> None:
    from mlflow import MlflowClient

    lines = [f"{1000 * n},{n % 100}.0,{2000 + n}.0,50.0" for n in range(1, 536)]
    (copied / "system.csv").write_text("\n".join(["time_ms,cpu,used,share", *lines, "9,4"]))
    report = sync_study(copied, uri)
    history = MlflowClient(uri, uri).get_metric_history(
        report.run_id, "system/system_memory_usage_megabytes"
    )
    history.sort(key=lambda point: point.step)

    assert len(history) == 502  # 500 samples, then means of 12: the last is not whole
    assert (history[0].value, history[0].timestamp) == (2001.0, 1000)
    assert (history[499].value, history[499].timestamp) == (2500.0, 500_000)
    assert (history[501].value, history[501].timestamp) == (2518.5, 524_000)
    parent = MlflowClient(uri, uri).get_run(report.run_id)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"} <= set(
        parent.data.metrics
    )
    assert sync_study(copied, uri).created == 0
