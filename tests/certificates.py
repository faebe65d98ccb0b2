"""Certificates for 127.0.0.1 that vouch for themselves."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in files. der: what a client sees."""

    file: Path
    key_file: Path
    der: bytes

    @property
    def context(self) -> ssl.SSLContext:
        """Give what a server shows it with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key_file)
        return context


def make_certificate(
    directory: Path, *, number: int = 1, password: bytes | None = None
) -> Certificate:
    """Write `certificate.pem` and `key.pem` into `directory`, in place of those that are there."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, key_file = directory / "certificate.pem", directory / "key.pem"
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    _replace(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    _replace(file, made.public_bytes(Encoding.PEM))
    return Certificate(file, key_file, made.public_bytes(Encoding.DER))


def _replace(file: Path, content: bytes) -> None:
    """Put a file in the place of another as a whole, as whoever renews certificates does."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)
