"""A study in a real MLflow server on a real PostgreSQL, both started here on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from finished_study import write_toy_study

import pipeline
from pipeline.tracking import TrackingError, prepare_store, sync, sync_study
from pipeline.tracking.client import with_driver
from pipeline.tracking.study_runs import read_study

ROOT = Path(pipeline.__file__).parents[1]
N_RUNS = 1 + 2 + 6  # study, families, cells

AT_ONCE = """
import os, sys
import mlflow, sqlalchemy  # once, so that they really meet
from pipeline.tracking import prepare_store

children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        try:
            prepare_store(sys.argv[1])
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def find_binaries() -> Path | None:
    """Folder of PostgreSQL's programs: on the path, or where Debian puts them."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    first = Path(on_path).resolve() if on_path else (found[-1] if found else None)
    return first.parent if first and (first.parent / "postgres").is_file() else None


@pytest.fixture(scope="module")
def postgres(free_port: Callable[[], int]) -> Iterator[str]:
    """URI of a PostgreSQL server without databases of ours; what follows is a database's name."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: medcurve[postgres]")
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian's package 'postgresql')")
    # It refuses to run as root, and must be able to reach its folder.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    place = Path(tempfile.mkdtemp(prefix="medcurve-postgres-"))
    os.chown(place, user.pw_uid, user.pw_gid)
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, port = place / "data", free_port()
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "medcurve", "-A", "trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=place,
            **as_user,
        )
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", str(place)]
        with subprocess.Popen(
            [binaries / "postgres", "-D", data, "-p", str(port), *settings],
            stderr=subprocess.DEVNULL,
            cwd=place,
            **as_user,
        ) as server:
            try:
                await_port(port, server)
                yield f"postgresql://medcurve@127.0.0.1:{port}/"
            finally:
                server.send_signal(signal.SIGQUIT)
                server.wait(timeout=30)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    import psycopg2

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            psycopg2.connect(
                host="127.0.0.1", port=port, user="medcurve", dbname="postgres"
            ).close()
            return
        except psycopg2.OperationalError:
            time.sleep(0.1)
    raise AssertionError(f"PostgreSQL did not start (status {server.poll()})")


def new_database(server: str, name: str) -> str:
    import psycopg2

    connection = psycopg2.connect(f"{server}postgres")
    connection.autocommit = True
    connection.cursor().execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{server}{name}"


@pytest.fixture(scope="module")
def database(postgres: str) -> str:
    """A fresh database, made ready by four processes at once."""
    uri = new_database(postgres, "tracking")
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, uri], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return uri


@contextmanager
def mlflow_server(database: str, artifacts: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """``mlflow server`` in a process group of its own, killed at the end if it still runs."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", with_driver(database)),
        *("--artifacts-destination", artifacts.as_uri(), "--workers", "1"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            deadline = time.monotonic() + 90
            while not answers(port):
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
            yield server
        finally:
            kill(server)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def kill(server: subprocess.Popen[bytes]) -> None:
    """As a power cut would: the server and its workers."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=30)


def points(database: str) -> Counter[tuple[Any, ...]]:
    """Every metric point of runs that stand, without its time."""
    import psycopg2

    connection = psycopg2.connect(database)
    cursor = connection.cursor()
    cursor.execute(
        "SELECT metrics.run_uuid, key, step, value FROM metrics JOIN runs USING (run_uuid) "
        "WHERE runs.lifecycle_stage = 'active'"
    )
    rows = cursor.fetchall()
    connection.close()
    return Counter(rows)


@contextmanager
def killed_at(number: int, server: subprocess.Popen[bytes]) -> Iterator[list[str]]:
    """Kill the server when a run is to be filled for the so-manieth time; yields what was begun."""
    real, calls = sync._Sync._fill, []

    def fill(self: Any, run_id: str, record: Any) -> None:
        calls.append(run_id)
        if len(calls) == number:
            kill(server)
        real(self, run_id, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync._Sync, "_fill", fill)
        yield calls


def test_a_server_that_is_killed_in_mid_sync_gets_every_run_and_point_once(
    database: str,
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_port: Callable[[], int],
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shutil.copytree(study.parent, tmp_path / "place")
    study = tmp_path / "place" / "study-toy"
    port = free_port()
    uri, artifacts = f"http://127.0.0.1:{port}", tmp_path / "artifacts"
    with (
        mlflow_server(database, artifacts, port) as server,
        killed_at(4, server) as calls,
        pytest.raises(TrackingError) as caught,
    ):
        sync_study(study, uri)
    assert caught.value.code == "tracking.unreachable"
    assert "medcurve sync" in caught.value.fix
    assert 0 < len(calls) < N_RUNS

    with mlflow_server(database, artifacts, port) as server:
        report = sync_study(study, uri)
        client = MlflowClient(uri, uri)
        runs = client.search_runs([report.experiment_id], max_results=1000)
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert len(runs) == N_RUNS
        assert {"report.html", "results.json"} <= {
            artifact.path for artifact in client.list_artifacts(report.run_id)
        }
        _, record = read_study(study)
        stands = points(database)
        assert stands.total() == sum(len(wanted.metrics) for wanted in record)
        assert max(stands.values()) == 1

        again = sync_study(study, uri)
        assert (again.created, again.unchanged) == (0, N_RUNS)
        assert points(database) == stands

        write_toy_study(study.parent, subsets=3)  # 2 cells more, and the server dies once more
        with killed_at(2, server), pytest.raises(TrackingError):
            sync_study(study, uri)

    with mlflow_server(database, artifacts, port):
        assert sync_study(study, uri).run_id == report.run_id
        _, record = read_study(study)
        runs = client.search_runs([report.experiment_id], max_results=1000)
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert {run.data.tags["medcurve.key"] for run in runs} == {wanted.key for wanted in record}
        assert len(runs) == N_RUNS + 2
        stands = points(database)
        of_the_study = sum(n for (run_id, *_), n in stands.items() if run_id == report.run_id)
        assert max(stands.values()) == 1
        assert of_the_study == 2 * len(record.metrics)  # with six cells, and with eight

    # The database itself is a store as well, and the same one.
    direct = sync_study(study, database)
    assert (direct.created, direct.unchanged) == (0, N_RUNS + 2)
    assert direct.run_id == report.run_id
    assert points(database) == stands


def test_a_database_that_is_down_is_said_at_once(free_port: Callable[[], int]) -> None:
    pytest.importorskip("psycopg2")
    start = time.monotonic()
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1") as caught:
        prepare_store(f"postgresql://medcurve:secret@127.0.0.1:{free_port()}/tracking")
    assert caught.value.code == "tracking.unreachable"
    assert "secret" not in str(caught.value)
    assert time.monotonic() - start < 60


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(TrackingError, match="'psycopg2'") as caught:
        prepare_store("postgresql://medcurve@127.0.0.1/tracking")
    assert caught.value.code == "tracking.no_driver"
    assert "medcurve[postgres]" in caught.value.fix
