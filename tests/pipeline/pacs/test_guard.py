"""What a sender that stalls, floods, lies about lengths or is a stranger costs the listener."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from random import Random

import pytest
from certificates import Certificates
from sending import SERIES, STUDY, Scored, association, running, send, wait_for
from sent import slices

from data_prep.errors import ConfigError
from pipeline.pacs import guard, receiver
from pipeline.pacs.guard import MOST_PDU_BYTES, Budget
from pipeline.pacs.settings import Address, check_address
from pipeline.pacs.tls import TlsFiles, tls_context

P_DATA = 4


def header(kind: int, length: int) -> bytes:
    """Of a PDU (PS3.8 9.3.1)."""
    return struct.pack(">BBL", kind, 0, length)


def connect(port: int) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port))
    found.settimeout(10)
    return found


def ends(connection: socket.socket) -> bool:
    """Whether the listener closes a connection; what it says before does not matter."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


@pytest.fixture
def certificates(tmp_path_factory) -> Iterator[Certificates]:
    return Certificates(tmp_path_factory.mktemp("pem"))


def test_a_pdu_that_says_it_is_longer_than_any_is_not_read(tmp_path):
    with running(tmp_path, Scored(), quiet_s=3600) as listener:
        with connect(listener.port) as stranger:
            stranger.sendall(header(1, MOST_PDU_BYTES + 1))
            assert ends(stranger)
        with association(listener.port) as to:
            to.dul.socket.socket.sendall(header(P_DATA, (1 << 32) - 1))
            wait_for(lambda: not to.is_established)
        assert send(listener.port, slices(STUDY, SERIES, 1)) == [0]
        assert "2 pacs.too_large" in listener.end()


def test_peers_are_told_how_long_a_pdu_may_be(tmp_path):
    with running(tmp_path, Scored()) as listener, association(listener.port) as to:
        assert to.acceptor.maximum_length == guard.PDU_BYTES


@pytest.mark.parametrize("said", [b"", b"\1", header(1, 100), header(1, 100) + b"abc"])
def test_half_a_greeting_gives_its_place_back(tmp_path, monkeypatch, said):
    monkeypatch.setattr(guard, "GREETING_S", 0.2)
    monkeypatch.setattr(receiver, "GREETING_S", 0.2)
    with running(tmp_path, Scored()) as listener, connect(listener.port) as stranger:
        stranger.sendall(said)
        assert ends(stranger)


def test_a_greeting_that_trickles_does_not_hold_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "GREETING_S", 0.3)
    monkeypatch.setattr(receiver, "GREETING_S", 0.3)
    with running(tmp_path, Scored()) as listener, connect(listener.port) as stranger:
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            for byte in header(1, 100) + bytes(100):
                stranger.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - began < 4  # all of it would take 5 s


@pytest.mark.parametrize("said", [b"", header(P_DATA, 100), header(P_DATA, 100) + b"abc"])
def test_an_association_that_stalls_ends(tmp_path, monkeypatch, said):
    monkeypatch.setattr(guard, "SILENT_S", 0.3)
    monkeypatch.setattr(receiver, "SILENT_S", 0.3)
    with running(tmp_path, Scored()) as listener, association(listener.port) as to:
        assert to.is_established
        to.dul.socket.socket.sendall(said)
        wait_for(lambda: not to.is_established)


def test_nonsense_costs_its_own_connection_and_no_line_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "GREETING_S", 0.2)
    monkeypatch.setattr(receiver, "GREETING_S", 0.2)
    lost = []
    monkeypatch.setattr(threading, "excepthook", lost.append)
    random = Random(0)
    with running(tmp_path, Scored(), quiet_s=3600) as listener:
        with association(listener.port) as to:  # an abort from a source that there is not
            to.dul.socket.socket.sendall(header(7, 4) + b"\0\0\x54\x54")
            wait_for(lambda: not to.is_established)
        for number in range(24):
            with connect(listener.port) as stranger, suppress(OSError):
                for kind in (number % 9, random.randrange(9)):
                    body = random.randbytes(random.randrange(60))
                    stranger.sendall(header(kind, len(body)) + body)

        def accepted() -> bool:
            with association(listener.port) as to:
                return to.is_established

        wait_for(accepted)
        assert send(listener.port, slices(STUDY, SERIES, 1)) == [0]
        assert "1 ok" in listener.end()
    assert lost == []


def test_no_more_associations_at_a_time_than_stated(tmp_path, monkeypatch):
    monkeypatch.setattr(receiver, "MOST_ASSOCIATIONS", 2)
    with running(tmp_path, Scored()) as listener:
        with (
            association(listener.port),
            association(listener.port),
            association(listener.port, "THIRD") as third,
        ):
            assert third.is_rejected
        wait_for(lambda: any("THIRD" in line for line in listener.said))
        assert any("2 associations are open already" in line for line in listener.said)

        def accepted() -> bool:
            with association(listener.port) as to:
                return to.is_established

        wait_for(accepted)


def test_no_more_connections_than_stated_whoever_opens_them(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "MOST_CONNECTIONS", 3)
    with running(tmp_path, Scored()) as listener, ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(connect(listener.port))
        began = time.monotonic()
        assert ends(opened.enter_context(connect(listener.port)))
        assert time.monotonic() - began < guard.GREETING_S  # at once


def test_an_end_breaks_off_who_is_in_the_middle_of_a_pdu(tmp_path):
    with running(tmp_path, Scored()) as listener, association(listener.port) as to:
        to.dul.socket.socket.sendall(header(P_DATA, 1000))
        began = time.monotonic()
        listener.end()
        wait_for(lambda: not to.is_established)
        assert time.monotonic() - began < 20  # not the minute that it would have


def test_who_is_refused_is_said_by_name_and_once(tmp_path):
    with running(tmp_path, Scored(), callers=("CT1",)) as listener:
        for caller, called in (("CT2", "MEDCURVE"), ("CT2", "MEDCURVE"), ("CT1", "OTHER")):
            with association(listener.port, caller, called) as to:
                assert to.is_rejected
        with association(listener.port, "CT1") as to:
            assert to.is_established
        last = listener.end()
    refused = [line for line in listener.said if "refused '" in line]
    assert refused == [
        "listen: refused 'CT2' at 127.0.0.1: no --allow names it",
        "listen: refused 'CT1' at 127.0.0.1: it calls 'OTHER', and the title here is 'MEDCURVE'",
    ]
    assert "refused 3 connections" in last


def test_names_of_strangers_do_not_fill_the_log():
    said = []
    refusals = receiver.Refusals(Address(), said.append)
    for number in range(200):
        refusals.failed(f"10.0.0.{number}", ssl.SSLError(1, "x"))
        refusals.failed("10.0.0.1", OSError())  # a connection that was just closed
    assert len(said) == 51
    assert "only counted" in said[-1]
    assert refusals.count == 200
    assert receiver._shown("A\nB\x1b[31m" + "x" * 99) == "A?B?[31mxxxxxxxx"


class Sender:
    """Stands for an association."""


def test_a_budget_is_for_one_object_and_for_all_together(monkeypatch):
    senders = [Sender() for _ in range(4)]
    budget = Budget(100)
    budget.spend(senders[0], 60)
    budget.whole(senders[0])
    for sender in senders[:3]:
        budget.spend(sender, 60)
    with pytest.raises(OSError, match="too_large"):
        budget.spend(senders[0], 60)  # more than one may
    budget.spend(senders[0], 60)  # it was broken off: another connection
    with pytest.raises(OSError, match="too_large"):
        budget.spend(senders[3], 60)  # more than all may
    now = time.monotonic() + guard.OBJECT_S + 1
    monkeypatch.setattr(guard.time, "monotonic", lambda: now)
    with pytest.raises(OSError, match="too_slow"):
        budget.spend(senders[1], 1)
    assert budget.counts == {"pacs.too_large": 2, "pacs.too_slow": 1}
    del sender, senders  # what a connection left behind is not counted for ever
    assert len(budget._pending) == 0


def test_with_tls_only_senders_with_a_certificate_get_in(tmp_path, certificates):
    tls = TlsFiles(certificates.chain, certificates.key, certificates.authority)
    with (
        running(tmp_path, Scored(), quiet_s=3600, tls=tls) as listener,
        connect(listener.port),  # one that never greets keeps nobody waiting
    ):
        for context, accepted in (
            (certificates.sender(), True),
            (certificates.sender(known=False), False),
            (None, False),
        ):
            with association(listener.port, tls=context) as to:
                assert to.is_established == accepted
                if accepted:
                    assert [to.send_c_store(ds).Status for ds in slices(STUDY, SERIES, 2)] == [0, 0]
        wait_for(lambda: sum("refused" in line for line in listener.said) == 2)
    said = "".join(listener.said)
    assert "no TLS with it (peer did not return a certificate)" in said
    assert "2 ok" in said


def test_what_tls_cannot_use_is_refused_by_name(tmp_path, certificates):
    other = Certificates(tmp_path)
    (tmp_path / "rubbish.pem").write_text("rubbish")
    cases = {
        "No such file": TlsFiles(tmp_path / "nowhere.pem"),
        "key values mismatch": TlsFiles(certificates.chain, other.key),
        "--tls-ca": TlsFiles(certificates.chain, certificates.key, tmp_path / "rubbish.pem"),
        "pass phrase": TlsFiles(certificates.chain, certificates.locked_key()),
        "rubbish.pem: it holds no certificate": TlsFiles(tmp_path / "rubbish.pem"),
        "listener.pem: it holds no private key": TlsFiles(certificates.chain),
        "--tls-key": TlsFiles(certificates.chain, tmp_path / "rubbish.pem"),
    }
    for said, files in cases.items():
        with pytest.raises(ConfigError) as caught:
            check_address(Address(tls=files), plain=False)
        assert caught.value.code == "config.tls"
        assert said in str(caught.value)
        assert caught.value.fix
    assert tls_context(TlsFiles(certificates.chain, certificates.key)).verify_mode == ssl.CERT_NONE
