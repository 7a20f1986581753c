"""The way to an MLflow store: made ready once, telemetry off, its failures in our words."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from data_prep.errors import MedcurveError

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACTS: Final = "mlartifacts"
_DATABASE: Final = re.compile(r"(postgres|postgresql|mysql|mssql)(\+\w+)?://")
# What urllib3 says after the number of the system's error, and without one.
_NO_CONNECTION: Final = re.compile(
    r"(?<=\d\] )[A-Z][\w ]+|certificate verify failed|timed out|too many \d+ error responses"
)
_LOCK: Final = 0x6D656463  # "medc": any number that others are not likely to take

# MLflow reads these when it is imported, so they are set before any function can import it. What
# the user has set stays.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# MLflow would print two lines for every run that a server is sent.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# A server that is down is noticed within seconds, not after MLflow's seven retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


class TrackingError(MedcurveError):
    """MLflow cannot be reached or refuses; the study's journal is not touched by that."""


def default_uri(runs: Path) -> str:
    """The SQLite store of a ``runs`` folder."""
    return f"sqlite:///{runs / 'mlflow.db'}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite URI, as SQLAlchemy has it; None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///"))


def with_driver(uri: str) -> str:
    """A URI of PostgreSQL by the driver that medcurve's extra installs; any other as it is.

    Which driver a plain ``postgresql://`` means changed with SQLAlchemy 2.1.
    """
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", uri)


def prepare_store(uri: str) -> None:
    """Make a store ready for use: a SQLite file is created, or migrated, by one process only.

    Processes that first touch one fresh SQLite file together would each try to create its tables,
    and all but one would fail. An older schema is migrated after a copy of the file is kept beside
    it (``mlflow.db.before-upgrade``).

    Raises:
        TrackingError: ``tracking.unreachable``, ``tracking.no_driver`` or ``tracking.bad_uri``.
    """
    if "://" not in uri:
        raise TrackingError(
            "tracking.bad_uri",
            f"'{uri}' is not a tracking URI",
            fix="use sqlite:///PATH, http(s)://HOST:PORT or postgresql://...",
        )
    path = sqlite_path(uri)
    if path is None:
        if _DATABASE.match(uri):
            _prepare_database(with_driver(uri))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with answering(uri):
            if not path.is_file():
                _create(path)
            elif _schema(path) not in ("", _newest_schema()):
                _upgrade(path, uri)
            _write_ahead(path)
            _open(uri)


def _create(path: Path) -> None:
    """Make a SQLite store whole or not at all: MLflow cannot go on with tables half made."""
    fresh = path.with_name(f".{path.name}.new")
    for left in path.parent.glob(f"{fresh.name}*"):  # by a process that was killed, with its logs
        left.unlink()
    _open(f"sqlite:///{fresh}")
    fresh.replace(path)


def connect(uri: str) -> MlflowClient:
    """A client of a store that is ready.

    Raises:
        TrackingError: As ``prepare_store``.
    """
    prepare_store(uri)
    uri = with_driver(uri)
    return _import_client()(tracking_uri=uri, registry_uri=uri)


def _prepare_database(uri: str) -> None:
    """Let one process at a time create the tables of a database server.

    A database that does not answer is said at once: MLflow itself would try again for minutes.
    """
    from sqlalchemy import NullPool, create_engine, text

    with answering(uri):
        engine = create_engine(uri, poolclass=NullPool)
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":  # held until the transaction ends
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            _open(uri)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into a ``TrackingError``.

    Raises:
        TrackingError: ``tracking.no_driver`` or ``tracking.unreachable``.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ModuleNotFoundError as error:
        raise TrackingError(
            "tracking.no_driver",
            f"{public(uri)}: Python has no '{error.name}', which talks to this kind of database",
            fix="for PostgreSQL: pip install 'medcurve[postgres]'",
        ) from error
    # What requests raises are OSErrors.
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise TrackingError(
            "tracking.unreachable",
            f"{public(uri)}: MLflow does not answer as it should ({_why(str(error))})",
            fix="run the command again once the store is back",
        ) from error


@contextmanager
def advising(fix: str) -> Iterator[None]:
    """Say what to do where MLflow does not answer, as it fits what was asked of it."""
    try:
        yield
    except TrackingError as error:
        if error.code != "tracking.unreachable":
            raise
        raise TrackingError(error.code, error.message, fix=fix) from error


def _why(text: str) -> str:
    first = public(text.strip().splitlines()[0])
    if "ConnectionPool(" in first:  # urllib3 names its own objects, and what happened at the end
        found = _NO_CONNECTION.search(first)
        return f"no connection: {found[0].lower()}" if found else "no connection"
    return first[:300]


def public(uri: str) -> str:
    """A URI, or a text with URIs, without the names and passwords that they may hold."""
    return re.sub(r"://[^/@\s]*@", "://", uri)


def experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Id of the experiment of that name, created if there is none.

    Artifacts of a SQLite store lie in ``mlartifacts`` beside the file; a server decides itself.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    path = sqlite_path(uri)
    where = (path.parent / ARTIFACTS / name).resolve().as_uri() if path else None
    try:
        # The UI then opens on training runs, not on language-model traces.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location=where, tags=tags))
    except MlflowException:  # another process was faster
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _import_client() -> type[MlflowClient]:
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "connect", _relax):
        event.listen(Engine, "connect", _relax)
    return MlflowClient


def _schema(path: Path) -> str:
    """Revision of a SQLite store's schema; "" where it has none yet."""
    if not path.is_file():
        return ""
    with closing(sqlite3.connect(path)) as database:
        try:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.DatabaseError:  # fresh, or no database: MLflow will say
            return ""
    return str(row[0]) if row else ""


@cache
def _newest_schema() -> str:
    """Revision of the schema that this MLflow works with."""
    import mlflow.store
    from alembic.script import ScriptDirectory

    scripts = Path(mlflow.store.__path__[0]) / "db_migrations"
    return str(ScriptDirectory(str(scripts)).get_current_head())


def _open(uri: str) -> None:
    """Let MLflow create its tables where there are none."""
    MlflowClient = _import_client()
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)


def _write_ahead(path: Path) -> None:
    """Let SQLite append changes to a log, so that a sync need not wait for the disk at each run.

    The mode stays with the file. A file system that cannot do it (some network ones) keeps the
    mode that it has.
    """
    with closing(sqlite3.connect(path, timeout=20)) as database:
        database.execute("PRAGMA journal_mode = WAL")


def _relax(connection: object, _: object) -> None:
    """Flush the log when it is folded into the file, not at each change.

    A power cut may then cost the last runs, never the file (sqlite.org, "PRAGMA synchronous"), and
    the next sync adds them again: the journal is the truth.
    """
    if isinstance(connection, sqlite3.Connection):
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            connection.execute("PRAGMA synchronous = NORMAL")


def _upgrade(path: Path, uri: str) -> None:
    """Migrate a SQLite file that an older MLflow wrote, by MLflow's own command."""
    backup = path.with_name(f"{path.name}.before-upgrade")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    done = subprocess.run(  # noqa: S603 - fixed program
        command, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrackingError(
            "tracking.not_upgraded",
            f"{path}: MLflow could not bring this file to its present schema ({last})",
            fix=f"it was copied to {backup.name} first; give another --tracking-uri, or use the "
            "version of MLflow that wrote it",
        )
