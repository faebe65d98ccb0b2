"""Seals the secrets of endpoints, and resolves references to secrets that are kept elsewhere.

A sealed value is `version (1 byte) || key id (8) || nonce (12) || AES-256-GCM ciphertext and tag`
of a JSON object; the first two and the endpoint id are associated data, so that a sealed value is
of no use in the place of another.
"""

from __future__ import annotations

import hashlib
import secrets as random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from inferry.errors import IllegalArgument, SecretsUnreadable
from inferry.security.master_key import load_master_key
from inferry.security.secret_references import SecretReferences

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_BYTES = 256 * 1024
_VERSION = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _KEY_ID_BYTES


class SecretVault:
    """Seals with the master key, 32 bytes. References are sealed as they are, resolved on open."""

    def __init__(self, master_key: bytes, references: SecretReferences) -> None:
        self._cipher = _cipher(master_key)
        self._header = _VERSION + hashlib.sha256(b"inferry key id" + master_key).digest()[:8]
        self._references = references

    def seal(self, secrets: dict[str, str], *, owner: str) -> bytes:
        """Encrypt `secrets` for the endpoint `owner`.

        Raises `IllegalArgument` for a reference that breaks a rule, and above `MAX_BYTES`.
        """
        for name, value in secrets.items():
            self._references.check(name, value)
        return self._seal(secrets, owner)

    def open(self, sealed: bytes, *, owner: str) -> dict[str, str]:
        """Decrypt and resolve references.

        Raises `SecretsUnreadable` when another master key sealed it or it was tampered with,
        `IllegalArgument` when a reference leads nowhere.
        """
        kept = self._open(sealed, owner)
        return {name: self._references.resolve(name, value) for name, value in kept.items()}

    def merge(self, sealed: bytes, secrets: dict[str, str], *, owner: str) -> bytes:
        """Seal what `sealed` holds with `secrets` laid over it; references stay references.

        Raises as `seal` and `open` do.
        """
        for name, value in secrets.items():
            self._references.check(name, value)
        return self._seal(self._open(sealed, owner) | secrets, owner)

    def _seal(self, secrets: dict[str, str], owner: str) -> bytes:
        plain = msgspec.json.encode(secrets)
        if len(plain) > MAX_BYTES:
            raise IllegalArgument(
                f"the secrets of [{owner}] take [{len(plain)}] bytes, the limit is [{MAX_BYTES}]"
            )
        nonce = random.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plain, self._header + owner.encode())
        return self._header + nonce + sealed

    def _open(self, sealed: bytes, owner: str) -> dict[str, str]:
        from cryptography.exceptions import InvalidTag

        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        if header != self._header:
            raise SecretsUnreadable(
                f"the secrets of [{owner}] were sealed with another master key: restore that key "
                "(file [master.key] of the data directory, or INFERRY_MASTER_KEY), or give the "
                "endpoint its secrets again with PUT _update"
            )
        try:
            plain = self._cipher.decrypt(
                rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + owner.encode()
            )
        except (InvalidTag, ValueError) as error:
            raise SecretsUnreadable(
                f"the stored secrets of [{owner}] are damaged: give them again with PUT _update"
            ) from error
        return msgspec.json.decode(plain, type=dict[str, str])


def open_vault(
    data_dir: Path, environment: Mapping[str, str], *, secrets_path: Path | None
) -> SecretVault:
    """Open the vault of a host, with a new master key on its first start.

    secrets_path: the directory of `${file:...}` references, None refuses them.
    Raises `SecretsUnreadable` when the master key cannot be used.
    """
    key = load_master_key(data_dir, environment)
    references = SecretReferences(environment, path=secrets_path, forbidden=(data_dir,))
    return SecretVault(key, references)


def _cipher(master_key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(master_key)
