"""Where and how the listener listens."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from data_prep.errors import ConfigError
from pipeline.pacs.tls import TlsFiles, tls_context


@dataclass(frozen=True)
class Address:
    """Where the listener listens, and to whom.

    Attributes:
        host: Address of this machine.
        port: 0 takes any that is free.
        title: Its AE title; callers must use it.
        callers: AE titles that may send; () for all.
        most_object_bytes: Of one object; larger ones break off.
        tls: None: connections are not encrypted.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    title: str = "MEDCURVE"
    callers: tuple[str, ...] = ()
    most_object_bytes: int = 1 << 29
    tls: TlsFiles | None = None


@dataclass(frozen=True)
class ListenConfig:
    """How to listen.

    Attributes:
        address: Where, and to whom.
        quiet_s: Seconds without another object after which a study is taken to be whole.
        most_bytes: That received objects may take on disk.
        most_objects: That may lie there.
        grace_s: Seconds that senders have to finish when the listener ends.
    """

    address: Address = field(default_factory=Address)
    quiet_s: float = 30.0
    most_bytes: int = 20 << 30
    most_objects: int = 100_000
    grace_s: float = 30.0


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(address: Address, *, plain: bool) -> None:
    """Refuse what is no AE title, and to be sent to without TLS unless that is asked for.

    Args:
        address: To listen on.
        plain: Senders on other machines are accepted without TLS.

    Raises:
        ConfigError: ``config.ae_title``, ``config.tls``, or ``config.not_encrypted``.
    """
    check_titles([address.title, *address.callers])
    if address.tls:
        tls_context(address.tls)  # so that what is wrong is said now
    if not (is_loopback(address.host) or address.tls or plain):
        raise ConfigError(
            "config.not_encrypted",
            f"--host {address.host}: scans of patients would travel unencrypted",
            fix="give --tls-cert and --tls-key (and --tls-ca, so that only senders with a "
            "certificate get in), or add --plain-dicom where the network is protected otherwise",
        )


def check_titles(titles: Sequence[str]) -> None:
    """Refuse what is no AE title (PS3.5 6.2: 1-16 characters of ASCII, no backslash).

    Raises:
        ConfigError: ``config.ae_title``.
    """
    for title in titles:
        plain = title.isascii() and title.isprintable() and "\\" not in title
        if not plain or not 1 <= len(title.strip()) <= 16:
            raise ConfigError(
                "config.ae_title",
                f"'{title}' is not an AE title",
                fix="give 1 to 16 ASCII characters, as the sender's configuration has it",
            )
