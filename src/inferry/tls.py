"""The certificate that the server shows, taken up anew when its files change."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TypeAlias

from inferry.config import Config
from inferry.errors import InferenceError
from inferry.telemetry import get_logger

_State: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""What tells that a file was replaced: its number, size and time of change."""


class CertificateUnusable(InferenceError):
    """The certificate and its key cannot be used; the message says which and why."""


class Certificate:
    """TLS 1.2 and later with the certificate of two PEM files. Raises `CertificateUnusable`.

    context: for handshakes. One that was replaced serves the handshakes that come; connections
    that are open go on. Call `refresh` where handshakes happen, in the thread of the event loop.
    """

    def __init__(self, chain: str, key: str) -> None:
        self._chain, self._key = chain, key
        self.context = self._load()
        self._served = self._seen = self._state()

    def refresh(self) -> None:
        """Serve what the files hold now; what cannot be used is logged once and leaves the former.

        Two files are seldom replaced at once: it is tried again until they fit.
        """
        state = self._state()
        if state == self._served:
            return
        try:
            self._load()
            self.context.load_cert_chain(self._chain, self._key, password=_no_password)
        except (CertificateUnusable, OSError) as error:
            if state != self._seen:
                get_logger().error("the new certificate is not used", reason=str(error))
        else:
            self._served = state
            get_logger().info("the certificate was replaced", file=self._chain)
        self._seen = state

    def _state(self) -> _State:
        return tuple(_state_of(Path(file)) for file in (self._chain, self._key))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        try:
            context.load_cert_chain(self._chain, self._key, password=_no_password)
        except OSError as error:
            reason = error.strerror or error
            raise CertificateUnusable(
                f"[server.tls_cert] is [{self._chain}] and [server.tls_key] is [{self._key}]: they "
                f"must be a PEM certificate chain and its private key without a password ({reason})"
            ) from error
        return context


def certificate_of(config: Config) -> Certificate | None:
    """Give what the server is to show, None without TLS. Raises `CertificateUnusable`."""
    server = config.server
    if server.tls_cert is None or server.tls_key is None:
        return None
    return Certificate(server.tls_cert, server.tls_key)


def _state_of(file: Path) -> tuple[int, int, int] | None:
    """Describe a file, None for one that is not there, perhaps because it is being replaced."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _no_password() -> bytes:
    """Answer for the terminal, where OpenSSL would ask for the password of a key."""
    return b""
