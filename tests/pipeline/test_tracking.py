from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import pipeline
from data_prep.errors import MedcurveError
from pipeline.tracking import (
    TrackingError,
    client,
    default_uri,
    download_model,
    find_cell_run,
    log_predictions,
    pin_model,
    prepare_store,
    register_package,
    serve_ui,
)

ROOT = Path(pipeline.__file__).parents[1]

AT_ONCE = """
import os, sys
import mlflow  # once, so that the eight really meet
from pipeline.tracking import prepare_store

gate, release = os.pipe()
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        os.close(release)
        os.read(gate, 1)  # returns when the parent closes its end
        try:
            prepare_store(sys.argv[1])
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(gate)
os.close(release)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""

SERVE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in background
from pipeline.tracking import serve_ui
sys.exit(serve_ui(sys.argv[1], int(sys.argv[2]), lambda line: print(line, flush=True)))
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh store, made by eight processes at once."""
    path = tmp_path_factory.mktemp("mlflow") / "runs" / "mlflow.db"
    done = python(AT_ONCE, f"sqlite:///{path}")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    shutil.copy(empty, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.json").write_text('{"format": "medcurve-model"}')
    (folder / "weights.safetensors").write_bytes(b"weights")
    return folder


def test_eight_processes_make_one_store(empty: Path) -> None:
    with closing(sqlite3.connect(empty)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        (mode,) = database.execute("PRAGMA journal_mode").fetchone()
    assert {"experiments", "runs", "metrics", "registered_models"} <= tables
    assert mode == "wal"  # a run is then logged without waiting for the disk


def test_importing_tracking_does_not_import_mlflow_and_turns_telemetry_off() -> None:
    script = """
import os, sys
os.environ.pop("DO_NOT_TRACK", None)
import pipeline.tracking
assert "mlflow" not in sys.modules
assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
assert os.environ["DO_NOT_TRACK"] == "true"
"""
    done = python(script)
    assert done.returncode == 0, done.stderr


def test_the_default_store_lies_in_the_runs_folder() -> None:
    assert default_uri(Path("runs")) == "sqlite:///runs/mlflow.db"
    assert default_uri(Path("/data/runs")) == "sqlite:////data/runs/mlflow.db"
    assert client.sqlite_path("sqlite:////data/runs/mlflow.db") == Path("/data/runs/mlflow.db")
    assert client.sqlite_path("http://localhost:5000") is None


def test_a_uri_that_is_none_is_refused() -> None:
    with pytest.raises(TrackingError, match="'mlruns' is not a tracking URI") as caught:
        prepare_store("mlruns")
    assert caught.value.code == "tracking.bad_uri"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to be looked at" * 9)
    with pytest.raises(TrackingError, match=r"mlflow\.db") as caught:
        prepare_store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert caught.value.code == "tracking.unreachable"


def test_a_server_that_is_down_is_answered_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1") as caught:
        log_predictions({"ok": 1}, f"http://user:secret@127.0.0.1:{free_port()}")
    assert caught.value.code == "tracking.unreachable"
    assert caught.value.message.endswith("(no connection: connection refused)")
    assert "tables of predictions are whole" in caught.value.fix
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "SSLError(1, '[SSL: X] certificate verify failed (_ssl.c)')",
            ": certificate verify failed",
        ),
        ("Read timed out. (read timeout=20)", ": timed out"),
        ("something else", ""),
    ],
)
def test_of_urllib3_only_the_reason_is_told(text: str, said: str) -> None:
    with pytest.raises(TrackingError) as caught, client.answering("http://a:1"):
        raise OSError(f"HTTPConnectionPool(host='a', port=1): {text}")
    assert caught.value.message.endswith(f"(no connection{said})")
    assert caught.value.fix == "run the command again once the store is back"


def test_what_to_do_fits_what_was_asked_of_a_store_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to be looked at" * 9)
    (tmp_path / "model").mkdir()
    for name in ("model.json", "weights.safetensors"):
        (tmp_path / "model" / name).write_text("{}")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    asked: dict[str, Callable[[], object]] = {
        "the model package stands whole": lambda: register_package(
            tmp_path / "model", "name", "champion", uri
        ),
        "run the command again": lambda: find_cell_run("0" * 32, uri),
        "tables of predictions are whole": lambda: log_predictions({"ok": 1}, uri),
    }
    for words, ask in asked.items():
        with pytest.raises(TrackingError) as caught:
            ask()
        assert caught.value.code == "tracking.unreachable"
        assert words in caught.value.fix
        assert "journal" not in caught.value.fix


def test_an_older_schema_is_migrated_after_a_copy(uri: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        (newest,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    command.downgrade(_get_alembic_config(uri), "-1")
    prepare_store(uri)

    with closing(sqlite3.connect(path)) as database:
        (found,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found == newest
    assert (tmp_path / "mlflow.db.before-upgrade").is_file()


def test_a_store_whose_making_was_killed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after some of MLflow's tables: it could not go on with them."""
    uri, path = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlflow.db"

    def killed(half_made: str) -> None:
        with closing(sqlite3.connect(half_made.removeprefix("sqlite:///"))) as database:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")
            database.execute("CREATE TABLE experiments (name TEXT)")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, "_open", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_store(uri)
    assert not path.exists()
    prepare_store(uri)
    assert client.connect(uri).search_experiments()[0].name == "Default"
    assert not list(tmp_path.glob("*.new*"))


def test_a_schema_of_a_newer_mlflow_is_left_alone(uri: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(TrackingError, match="could not bring this file") as caught:
        prepare_store(uri)
    assert caught.value.code == "tracking.not_upgraded"
    assert (tmp_path / "mlflow.db.before-upgrade").is_file()


def test_a_package_is_registered_once_and_downloaded_by_alias(
    uri: str, package: Path, tmp_path: Path
) -> None:
    first = register_package(package, "liver", "champion", uri)
    again = register_package(package, "liver", "champion", uri)
    assert first == again
    assert first.uri == "models:/liver@champion"

    (package / "weights.safetensors").write_bytes(b"better weights")
    second = register_package(package, "liver", "champion", uri)
    assert (first.version, second.version) == ("1", "2")
    assert pin_model("models:/liver@champion", uri) == "models:/liver/2"
    assert pin_model("models:/liver/1", uri) == "models:/liver/1"
    with pytest.raises(TrackingError, match="not in this store"):
        pin_model("models:/liver@nobody", uri)

    for address, content in {
        "models:/liver@champion": b"better weights",
        "models:/liver/1": b"weights",
        f"runs:/{second.run_id}/model": b"better weights",
    }.items():
        folder = download_model(address, uri)
        assert (folder / "weights.safetensors").read_bytes() == content
        names = {path.name for path in folder.iterdir()}
        served = {"MLmodel", "model_code.py", "requirements.txt"}
        assert names == {"model.json", "weights.safetensors"} | served
    into = download_model("models:/liver@champion", uri, tmp_path / "into")
    assert into.is_relative_to(tmp_path / "into")
    (into / "model_code.py").write_text("tampered with")
    assert register_package(into, "liver", "again", uri).version == "2"
    elsewhere = register_package(into, "other", "champion", uri)
    code = download_model(elsewhere.uri, uri, tmp_path / "other") / "model_code.py"
    assert "tampered" not in code.read_text()  # what serves is written anew


def test_a_package_belongs_to_the_run_of_its_cell(uri: str, package: Path) -> None:
    from mlflow import MlflowClient

    mlflow = MlflowClient(uri, uri)
    experiment = mlflow.create_experiment("phantom", (package.parent / "artifacts").as_uri())
    run = mlflow.create_run(experiment, tags={"medcurve.cell": "abc"})
    registered = register_package(package, "phantom", "champion", uri, run_key="abc")
    other = register_package(package, "elsewhere", "champion", uri, run_key="unknown")

    assert registered.run_id == run.info.run_id
    assert other.run_id != run.info.run_id
    assert mlflow.get_run(other.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("name", ["model.pkl", "more_code.py", "weights.pt"])
def test_only_plain_files_are_registered(uri: str, package: Path, name: str) -> None:
    (package / name).write_bytes(b"")
    with pytest.raises(TrackingError, match=f"holds '{name}'") as caught:
        register_package(package, "liver", "champion", uri)
    assert caught.value.code == "tracking.not_a_package"


def test_a_folder_without_a_model_is_no_package(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"has no model\.json"):
        register_package(tmp_path / "nothing", "liver", "champion", uri)


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("models:/nobody@champion", "tracking.no_model"),
        ("models:/nobody/3", "tracking.no_model"),
        ("runs:/0123456789abcdef0123456789abcdef/model", "tracking.no_model"),
        ("liver@champion", "tracking.bad_model_uri"),
        ("models:/../etc", "tracking.bad_model_uri"),
        ("runs:/0123456789abcdef0123456789abcdef", "tracking.bad_model_uri"),
    ],
)
def test_a_model_that_is_not_there_is_named(uri: str, address: str, code: str) -> None:
    with pytest.raises(MedcurveError) as caught:
        download_model(address, uri)
    assert caught.value.code == code
    assert address in caught.value.message


def test_predictions_are_logged_as_counts_only(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    summary: dict[str, Any] = {
        "ok": 18,
        "rate": 0.9,
        "out": "/home/doctor/PATIENT^X",
        "quarantined_by_code": {"nifti.truncated": 2},
        "skipped_by_reason": {"a copy of 'PATIENT^X'": 1},
        "PATIENT^X": 1,
    }
    where = "/scans/PATIENT^X/model"
    log_predictions(summary, uri, cohort="phantom", model="abc", version=where)
    run_id = log_predictions(
        summary, uri, cohort="phantom", model="abc", version="models:/phantom/3"
    )
    run = MlflowClient(uri, uri).get_run(run_id)

    assert run.data.metrics == {"ok": 18, "rate": 0.9, "quarantined_by_code/nifti.truncated": 2}
    assert run.data.tags["medcurve.model"] == "abc"
    assert run.data.tags["medcurve.model_version"] == "models:/phantom/3"
    assert run.info.status == "FINISHED"
    for path in tmp_path.glob("mlflow.db*"):
        assert b"PATIENT^" not in path.read_bytes()


@pytest.fixture(scope="module")
def server(
    empty: Path, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[str]:
    """MLflow's UI on a store, served as ``medcurve ui`` does; stopped as by Ctrl-C."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(empty, folder / "mlflow.db")
    port = free_port()
    command = [sys.executable, "-c", SERVE, f"sqlite:///{folder / 'mlflow.db'}", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = f"http://127.0.0.1:{port}"
        assert address in line
        yield address
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()


def status(url: str, host: str = "") -> int:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_ui_answers_to_this_machines_name_only(server: str) -> None:
    page = f"{server}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status(page) == 200
    assert status(page, host="evil.example") == 403


def test_the_ui_is_bound_to_loopback_only(server: str) -> None:
    port = int(server.rpartition(":")[2])
    with socket.socket() as outside:
        try:
            outside.connect((socket.gethostbyname(socket.gethostname()), port))
        except OSError:
            return
        # A host whose own name is loopback cannot show the difference.
        assert outside.getsockname()[0].startswith("127.")


def test_a_server_keeps_models_like_a_file_does(server: str, package: Path, tmp_path: Path) -> None:
    registered = register_package(package, "liver", "champion", server)
    folder = download_model(registered.uri, server, tmp_path / "into")

    assert (folder / "weights.safetensors").read_bytes() == b"weights"
    assert log_predictions({"ok": 1}, server)
    with pytest.raises(TrackingError, match="not in this store"):
        download_model("models:/nobody@champion", server)


def test_a_taken_port_is_named(uri: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TrackingError, match=f"port {port}") as caught:
            serve_ui(uri, port, lambda _: None)
    assert caught.value.code == "tracking.port_in_use"


def test_a_server_is_its_own_ui() -> None:
    said: list[str] = []
    assert serve_ui("https://me:secret@mlflow.example", 5000, said.append) == 0
    assert said == ["the UI is served by https://mlflow.example"]


def test_a_ui_that_does_not_start_is_an_error(
    uri: str, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    from pipeline.tracking import ui

    monkeypatch.setattr(
        ui, "_command", lambda uri, port: [sys.executable, "-c", "raise SystemExit(3)"]
    )
    start = time.monotonic()
    with pytest.raises(TrackingError, match=r"did not start \(status 3\)") as caught:
        serve_ui(uri, free_port(), lambda _: None)
    assert caught.value.code == "tracking.no_ui"
    assert time.monotonic() - start < 30
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION" not in os.environ
