"""A Ray cluster: found or started, its nodes, and whether a node may be used."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

import ray
from ray._private import utils as ray_utils
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import RayError

from pipeline.study.errors import StudyError

LOCAL: Final = "local"

_AUTO: Final = "auto"
_CLIENT: Final = "ray://"
_CLIENT_PORT: Final = 10001  # of a Ray client server that is not told another one
_KNOCK_SECONDS: Final = 5.0
_MOST_SAID: Final = 400  # characters of an error of Ray's
_GPU_SHARE: Final = 10_000  # Ray counts GPUs in ten thousandths


@contextmanager
def connect(address: str, cpus: int) -> Iterator[None]:
    """Be connected to a Ray cluster.

    Args:
        address: ``local`` starts one on this machine for as long as the connection lasts; ``auto``
            finds the one that this machine is a node of; else its address, ``HOST:PORT`` or
            ``ray://HOST:PORT``.
        cpus: Processors that a cluster which is started here may use.

    Raises:
        StudyError: ``study.no_cluster`` if none can be reached or started; where nothing listens
            at the address, within seconds.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:
        # Ray listens on every interface and keeps others out by a token (from 2.59 on, for a
        # cluster started here): this run's own, or Ray would write one to the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        with _sigterm_waits():
            if address == LOCAL:
                ray.init(
                    LOCAL,
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            else:
                _knock(address)
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, OSError, ImportError, RuntimeError, ValueError) as error:
        raise StudyError(
            "study.no_cluster",
            f"--address {address}: no Ray cluster can be used there "
            f"({' '.join(str(error).split())[:_MOST_SAID]})",
            fix="start one with `ray start --head` (docs/engines.md), or leave --address out to "
            "start one on this machine",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _sigterm_waits() -> Iterator[None]:
    """Answer a SIGTERM when Ray has started, and not while it starts; a second one at once.

    Ray's own handler raises wherever the main thread is. Where that is in Python's logging, which
    then keeps its lock, the threads that Ray has begun wait for it for ever. It is not installed,
    neither for now nor for later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Ray installs none
        return
    caught: list[int] = []

    def wait(number: int, _: FrameType | None) -> None:
        if caught:
            raise SystemExit(128 + number)
        caught.append(number)

    before, of_ray = signal.signal(signal.SIGTERM, wait), ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = of_ray
        signal.signal(signal.SIGTERM, before)
    if caught:
        ray.shutdown()
        raise SystemExit(128 + caught[0])


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    Attributes:
        id: Ray's, as hexadecimal digits.
        name: For a user.
        slots: How many pieces of work at once it has room for.
        gpu: The part of a GPU that each of them may ask for.
    """

    id: str
    name: str
    slots: int
    gpu: float


def nodes(threads: int, *, gpu: bool) -> list[Node]:
    """The nodes that are alive and have CPUs for so many threads; ``gpu``: work is done on GPUs."""
    found = []
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        room = int(node["Resources"].get("CPU", 0)) // threads
        gpus = int(node["Resources"].get("GPU", 0)) if gpu else 0
        on_each = max(1, room // gpus) if gpus else 0
        if node["Alive"] and room:
            found.append(
                Node(
                    id=node["NodeID"],
                    name=f"{node['NodeManagerHostname']} ({node['NodeName']})",
                    slots=min(room, gpus * on_each) if gpus else room,
                    gpu=_GPU_SHARE // on_each / _GPU_SHARE if gpus else 0.0,
                )
            )
    return found


def slots(threads: int) -> int:
    """How many pieces of work of so many threads the cluster's CPUs have room for at once."""
    return sum(node.slots for node in nodes(threads, gpu=False))


def differences(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """What a process on a node has otherwise than this one, in words; "" where nothing."""
    return ", ".join(
        f"{name} is '{theirs.get(name, '')}' there and '{value}' here"
        for name, value in mine.items()
        if theirs.get(name) != value
    )


def last_line(error: Exception) -> str:
    """What an error of Ray's says at its end, behind the traces of other processes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _knock(address: str) -> None:
    """See whether something listens at an address: Ray itself would try for a minute.

    Raises:
        OSError: Nothing does, or ``auto`` finds no cluster.
        ValueError: This is no address.
    """
    if address == _AUTO:  # what Ray takes it for: either may be of a cluster that is gone
        address = os.environ.get("RAY_ADDRESS") or str(canonicalize_bootstrap_address(_AUTO))
    if address.startswith(_CLIENT):
        host, port = _host_and_port(address.removeprefix(_CLIENT), _CLIENT_PORT)
    else:
        host, port = _host_and_port(address, None)
    try:
        socket.create_connection((host, port), timeout=_KNOCK_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"nothing answers at {host}:{port}: {error}") from error


def _host_and_port(text: str, default: int | None) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon and default is not None:
        return text, default
    if not host or not port.isdecimal():
        raise ValueError("an address is auto, local, HOST:PORT or ray://HOST:PORT")
    return host.strip("[]"), int(port)
