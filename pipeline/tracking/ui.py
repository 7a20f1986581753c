"""MLflow's own user interface, on this machine only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final

from pipeline.tracking.client import (
    ARTIFACTS,
    TrackingError,
    prepare_store,
    public,
    sqlite_path,
    with_driver,
)

_LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 60.0


def serve_ui(uri: str, port: int, say: Callable[[str], None]) -> int:
    """Serve MLflow's UI on loopback until it is stopped; returns its exit status.

    Job execution and telemetry, which MLflow switches on, are off; requests are answered only if
    they ask for this machine by its loopback name (no DNS rebinding). A store that is a server
    already is only named.

    Args:
        uri: Store to show.
        port: Port on 127.0.0.1.
        say: Told the address once it answers.

    Raises:
        TrackingError: ``tracking.port_in_use``, ``tracking.no_ui`` or as ``prepare_store``.
    """
    if uri.startswith(("http://", "https://")):
        say(f"the UI is served by {public(uri)}")
        return 0
    prepare_store(uri)
    _refuse_taken(port)
    with subprocess.Popen(  # noqa: S603 - fixed program
        _command(uri, port), env=_environment(), stdout=subprocess.DEVNULL
    ) as server:
        try:
            _await(server, port)
            say(f"MLflow UI: http://{_LOOPBACK}:{port} (Ctrl-C stops it)")
            return server.wait()
        except KeyboardInterrupt:
            return 130
        finally:
            server.terminate()
            server.wait()


def _command(uri: str, port: int) -> list[str]:
    path, uri = sqlite_path(uri), with_driver(uri)
    folder = (path.parent / ARTIFACTS).resolve().as_uri() if path else None
    hosts = f"localhost:{port},{_LOOPBACK}:{port}"
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", uri, "--registry-store-uri", uri),
        *(("--artifacts-destination", folder) if folder else ()),
        *("--host", _LOOPBACK, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", hosts),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            raise TrackingError(
                "tracking.port_in_use",
                f"port {port} of {_LOOPBACK} cannot be used ({error.strerror})",
                fix="choose another --port, or stop the program that uses it",
            ) from error


def _await(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers.

    Raises:
        TrackingError: ``tracking.no_ui`` if it ends, or says nothing for a minute.
    """
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{_LOOPBACK}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TrackingError(
        "tracking.no_ui",
        f"MLflow's server did not start (status {server.poll()})",
        fix="its own messages above say why",
    )
