"""Seals the secrets of endpoints, and resolves references to secrets that are kept elsewhere.

A sealed value is `version (1 byte) || key id (8) || nonce (12) || AES-256-GCM ciphertext and tag`
of a JSON object; the first two and the endpoint id are associated data, so that a sealed value is
of no use in the place of another.
"""

from __future__ import annotations

import hashlib
import secrets as random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from inferry.errors import IllegalArgument, SecretsUnreadable
from inferry.security.master_key import (
    KEY_BYTES,
    VARIABLE,
    keep_master_keys,
    load_master_keys,
)
from inferry.security.secret_references import SecretReferences

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_BYTES = 256 * 1024
_VERSION = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _KEY_ID_BYTES


@dataclass(frozen=True, slots=True)
class _Key:
    """A master key. header: what everything begins with that it sealed."""

    secret: bytes = field(repr=False)
    cipher: AESGCM
    header: bytes

    @classmethod
    def of(cls, secret: bytes) -> _Key:
        """Make it of 32 bytes."""
        key_id = hashlib.sha256(b"inferry key id" + secret).digest()[:_KEY_ID_BYTES]
        return cls(secret, _cipher(secret), _VERSION + key_id)


class SecretVault:
    """Seals with the newest master key, and opens with any. Also its `MasterKeys`.

    References are sealed as they are, resolved on open. keys: of 32 bytes each, the newest first.
    keep: makes keys durable before it returns; None where they are not kept here.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        references: SecretReferences,
        *,
        keep: Callable[[Sequence[bytes]], None] | None = None,
    ) -> None:
        self._keys = tuple(_Key.of(key) for key in keys)
        self._references = references
        self._keep = keep

    @property
    def has_former(self) -> bool:
        """Whether there are keys beside the newest."""
        return len(self._keys) > 1

    def renew(self) -> None:
        """Seal with a new key from now on, which is kept beside the former ones."""
        if self._keep is None:
            if self.has_former:
                return  # the operator has put a new key before the former one
            raise SecretsUnreadable(
                f"the master key comes from [{VARIABLE}]: start the server with the new key and "
                "the former one in it, parted by a comma, and rotate again"
            )
        keys = (_Key.of(random.token_bytes(KEY_BYTES)), *self._keys)
        self._keep([key.secret for key in keys])
        self._keys = keys

    def reseal(self, sealed: bytes, *, owner: str) -> bytes | None:
        """Seal with the newest key what a former one sealed, see `MasterKeys`."""
        if sealed.startswith(self._keys[0].header):
            return None
        return self._seal(self._open(sealed, owner), owner)

    def retire(self) -> None:
        """Forget the former keys."""
        newest = self._keys[:1]
        if self._keep is not None:
            self._keep([key.secret for key in newest])
            self._keys = newest

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
        key = self._keys[0]
        sealed = key.cipher.encrypt(nonce, plain, key.header + owner.encode())
        return key.header + nonce + sealed

    def _open(self, sealed: bytes, owner: str) -> dict[str, str]:
        from cryptography.exceptions import InvalidTag

        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        key = next((one for one in self._keys if one.header == header), None)
        if key is None:
            raise SecretsUnreadable(
                f"the secrets of [{owner}] were sealed with another master key: restore that key "
                "(file [master.key] of the data directory, or INFERRY_MASTER_KEY), or give the "
                "endpoint its secrets again with PUT _update"
            )
        try:
            plain = key.cipher.decrypt(
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
    keys = load_master_keys(data_dir, environment)
    references = SecretReferences(environment, path=secrets_path, forbidden=(data_dir,))
    keep = None if environment.get(VARIABLE) else partial(keep_master_keys, data_dir)
    return SecretVault(keys, references, keep=keep)


def _cipher(master_key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(master_key)
