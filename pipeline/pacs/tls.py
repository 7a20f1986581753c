"""TLS for the listener (PS3.15 annex B): its certificate, and the authority of its senders'."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_prep.errors import ConfigError

# RFC 7468, and what OpenSSL writes beside.
_CERTIFICATE: Final = re.compile(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----")
_KEY: Final = re.compile(rb"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----")
_MOST_BYTES: Final = 16 << 20  # far more than all authorities of the world have
_PEM: Final = "give PEM files: a certificate with its chain, its private key, an authority"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files.

    Attributes:
        certificate: Of this listener, with its chain.
        key: Its private key; None: it stands in ``certificate``.
        authority: Certificates that senders' must be signed by; None: senders need none.
    """

    certificate: Path
    key: Path | None = None
    authority: Path | None = None


def tls_files(
    certificate: Path | None, key: Path | None, authority: Path | None
) -> TlsFiles | None:
    """The files as the command line names them; None: no TLS.

    Raises:
        ConfigError: ``config.tls_without_cert``.
    """
    if certificate is not None:
        return TlsFiles(certificate, key, authority)
    for option, path in (("key", key), ("ca", authority)):
        if path is not None:
            raise ConfigError(
                "config.tls_without_cert",
                f"--tls-{option} {path}: there is no --tls-cert, so nothing would be encrypted",
                fix="add --tls-cert FILE",
            )
    return None


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or later with these files (the BCP 195 profiles of PS3.15 B.9 to B.12).

    Raises:
        ConfigError: ``config.tls`` if a file cannot be read or does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    key = files.key or files.certificate
    _check_holds("cert", files.certificate, _CERTIFICATE, "certificate")
    if files.key is None:
        _check_holds("cert", key, _KEY, "private key", "add --tls-key FILE, where it stands")
    else:
        _check_holds("key", key, _KEY, "private key")
    if files.authority is not None:
        _check_holds("ca", files.authority, _CERTIFICATE, "certificate")
    try:
        context.load_cert_chain(files.certificate, key, password=_locked)
    except _LockedError:
        raise ConfigError(
            "config.tls",
            f"--tls-key {key}: it is locked with a pass phrase, which a service cannot be asked",
            fix="give a key without one (openssl pkey -in LOCKED -out KEY), readable only for you",
        ) from None
    except ssl.SSLError as error:
        raise ConfigError(
            "config.tls",
            f"--tls-cert {files.certificate} with key {key}: {reason(error)}",
            fix=_PEM + "; key and certificate must belong together",
        ) from None
    if files.authority is not None:
        try:
            context.load_verify_locations(files.authority)
        except ssl.SSLError as error:
            raise ConfigError(
                "config.tls",
                f"--tls-ca {files.authority}: {reason(error)}",
                fix=_PEM,
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def reason(error: ssl.SSLError) -> str:
    """What OpenSSL says, in small letters."""
    return (getattr(error, "reason", None) or "not as TLS has it").lower().replace("_", " ")


class _LockedError(Exception):
    """A key needs a pass phrase."""


def _locked() -> str:
    raise _LockedError


def _check_holds(
    option: str, path: Path, heading: re.Pattern[bytes], what: str, fix: str = _PEM
) -> None:
    try:
        with path.open("rb") as file:
            found = heading.search(file.read(_MOST_BYTES))
    except OSError as error:
        raise ConfigError(
            "config.tls", f"--tls-{option} {path}: {error.strerror}", fix=_PEM
        ) from None
    if found is None:
        raise ConfigError("config.tls", f"--tls-{option} {path}: it holds no {what}", fix=fix)
