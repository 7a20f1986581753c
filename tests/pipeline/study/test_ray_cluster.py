"""Where a cluster is looked for, and what is said where there is none; two nodes that differ."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from pipeline.study.errors import StudyError

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

from ray._private import utils as ray_utils

from pipeline.study import ray_cluster
from pipeline.study.ray_cluster import connect, differences, last_line

SILENT = "nothing answers at 127.0.0.1:"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of this machine at which nothing listens, nor will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def refusal(address: str) -> StudyError:
    """What ``connect`` says; it must not come to Ray, which would try for a minute."""
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(StudyError) as caught,
    ):
        patch.setattr(ray_cluster.ray, "init", lambda *_, **__: pytest.fail("Ray was asked"))
        with connect(address, 1):
            pass
    assert caught.value.code == "study.no_cluster"
    assert f"--address {address}: no Ray cluster can be used there" in caught.value.message
    assert "ray start --head" in caught.value.fix
    return caught.value


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_at_which_nothing_listens_is_refused(silent_port: int, form: str) -> None:
    assert f"{SILENT}{silent_port}" in refusal(form.format(silent_port)).message


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_auto_is_refused_where_the_environment_names_a_cluster_that_is_gone(
    silent_port: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", form.format(silent_port))
    assert f"{SILENT}{silent_port}" in refusal("auto").message


def test_auto_is_refused_where_ray_remembers_a_cluster_that_is_gone(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = f"127.0.0.1:{silent_port}"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster, "canonicalize_bootstrap_address", lambda _: gone)
    assert f"{SILENT}{silent_port}" in refusal("auto").message


def test_auto_is_refused_where_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def none(_: str) -> str:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray_cluster, "canonicalize_bootstrap_address", none)
    assert "Could not find any running Ray instance" in refusal("auto").message


@pytest.mark.parametrize("address", ["nowhere", "nowhere:", ":6379", "host:port", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert "HOST:PORT or ray://HOST:PORT" in refusal(address).message


@pytest.mark.parametrize(
    ("address", "knocked"),
    [
        ("ray://head", ("head", 10001)),
        ("ray://head:12", ("head", 12)),
        ("[::1]:6379", ("::1", 6379)),
    ],
)
def test_the_port_that_is_knocked_at(
    address: str, knocked: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def nobody(place: tuple[str, int], timeout: float) -> socket.socket:
        seen.append(place)
        raise TimeoutError("timed out")

    monkeypatch.setattr(ray_cluster.socket, "create_connection", nobody)
    assert "timed out" in refusal(address).message
    assert seen == [knocked]


def test_what_differs_is_named_with_both_values() -> None:
    mine = {"torch": "2.1", "bf16": "True", "threads": "1"}
    words = differences(mine, {"torch": "2.0", "threads": "1", "more": "x"})
    assert words == "torch is '2.0' there and '2.1' here, bf16 is '' there and 'True' here"
    assert differences(mine, mine) == ""


def test_the_last_line_of_an_error_is_what_it_says() -> None:
    assert last_line(RuntimeError("a trace\n  of lines\n\nand the reason \n")) == "and the reason"
    assert last_line(RuntimeError()) == "RuntimeError"


@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_while_ray_starts_is_answered_when_it_has_started(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    done: list[str] = []

    def starting(*_: object, **__: object) -> None:
        ray_utils.set_sigterm_handler(lambda *_: sys.exit(1))  # as Ray does
        for _ in range(times):
            signal.raise_signal(signal.SIGTERM)
        done.append("started")

    of_ray, before = ray_utils.set_sigterm_handler, signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray_cluster.ray, "init", starting)
    monkeypatch.setattr(ray_cluster.ray, "shutdown", lambda: done.append("ended"))
    with pytest.raises(SystemExit) as caught, connect("local", 1):
        done.append("used")
    assert caught.value.code == 143
    assert done == (["started", "ended"] if times == 1 else [])
    assert signal.getsignal(signal.SIGTERM) == before
    assert ray_utils.set_sigterm_handler is of_ray
