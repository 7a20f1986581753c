"""Builders: an authority, and certificates that it signed, as PEM files."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_Key = ec.EllipticCurvePrivateKey


class Certificates:
    """An authority of its own, the listener's certificate and a sender's.

    Attributes:
        authority: Certificate of who signed the others.
        chain: Certificate of the listener.
        key: Of the listener.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority")
        self.authority = self._write("authority", self._signed(self._name, self._root, root=True))
        self.chain, self.key = self._pair("listener")

    def sender(self, *, known: bool = True) -> ssl.SSLContext:
        """What a sender connects with: a certificate of the authority's, or none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.authority)
        if known:
            context.load_cert_chain(*self._pair("sender"))
        return context

    def locked_key(self) -> Path:
        """The listener's key with a pass phrase."""
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        lock = serialization.BestAvailableEncryption(b"secret")
        return self._write("locked", _pem(key, lock))

    def _pair(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._write(name, self._signed(_name(name), key))
        return certificate, self._write(f"{name}-key", _pem(key, serialization.NoEncryption()))

    def _signed(self, subject: x509.Name, key: _Key, *, root: bool = False) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
            .sign(self._root, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / f"{name}.pem"
        path.write_bytes(data)
        return path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: _Key, lock: serialization.KeySerializationEncryption) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, lock)
