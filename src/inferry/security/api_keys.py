"""API keys: how they are made, told apart, checked and searched."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from inferry.commands import KeyCriteria
from inferry.errors import IllegalArgument, InvalidRequest
from inferry.records import ApiKeyRecord, RoleDescriptor
from inferry.security.privileges import Rights
from inferry.security.roles import cluster_privileges

RealmOf: TypeAlias = Callable[[str], str]
"""Names the realm of a user."""
MAX_NAME_LENGTH = 256
LOCAL_KEY_MARK = "_local"  # metadata of the server's own key; callers cannot set such a name
_DURATION = re.compile(r"(\d{1,15})(nanos|micros|ms|s|m|h|d)")
_UNIT_MS = {"nanos": 1e-6, "micros": 1e-3, "ms": 1, "s": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7}


@dataclass(frozen=True, slots=True)
class Secret:
    """What the owner of a key gets once."""

    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"Secret(key_id={self.key_id!r})"

    @property
    def encoded(self) -> str:
        """The form in which a client sends it."""
        return base64.b64encode(f"{self.key_id}:{self.secret}".encode()).decode()


def new_secret() -> Secret:
    """Make an id (20 characters) and a secret of 256 random bits."""
    key_id = secrets.token_urlsafe(15)
    while not key_id[0].isalnum():  # a leading dash would look like an option on a command line
        key_id = secrets.token_urlsafe(15)
    return Secret(key_id, secrets.token_urlsafe(32))


def digest_of(secret: str) -> bytes:
    """Give what is stored. Secrets are random, so a fast hash is as good as a slow one."""
    return hashlib.sha256(secret.encode()).digest()


def decode_secret(encoded: str) -> Secret | None:
    """Read what a client sent, None if it is no encoded key."""
    padded = encoded + "=" * (-len(encoded) % 4)
    try:
        key_id, colon, secret = base64.b64decode(padded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return Secret(key_id, secret) if colon else None


def belongs(given: Secret, key: ApiKeyRecord) -> bool:
    """Tell whether the secret is the key's, in constant time."""
    return hmac.compare_digest(digest_of(given.secret), key.digest)


def end_of(key: ApiKeyRecord, now_ms: int) -> str | None:
    """Say why `key` no longer holds at `now_ms`, None while it does."""
    if key.invalidation_ms is not None:
        return f"api key [{key.id}] has been invalidated"
    if key.expiration_ms is not None and key.expiration_ms <= now_ms:
        return "api key is expired"
    return None


def rights_of(key: ApiKeyRecord) -> Rights:
    """Give what a key may do: its owner's rights at creation, within its own limits."""
    owners = cluster_privileges(key.limited_by.values())
    if not key.role_descriptors:
        return Rights(owners)
    return Rights(owners, cluster_privileges(key.role_descriptors.values()))


def check_new_key(name: str | None, metadata: Mapping[str, object]) -> str:
    """Check a new key's name and metadata and give the name. Raises `InvalidRequest`."""
    problems: list[str] = []
    if not name or not name.strip():
        problems.append("api key name is required")
    else:
        if len(name) > MAX_NAME_LENGTH:
            problems.append(f"api key name may not be more than {MAX_NAME_LENGTH} characters long")
        if name != name.strip():
            problems.append("api key name may not begin or end with whitespace")
        if name.startswith("_"):
            problems.append("api key name may not begin with an underscore")
    if any(key.startswith("_") for key in metadata):
        problems.append("API key metadata keys may not start with [_]")
    if problems:
        raise InvalidRequest.of(problems)
    return name or ""


def check_derived(descriptors: Mapping[str, RoleDescriptor]) -> None:
    """Refuse a key made with a key, unless it may do nothing. Raises `IllegalArgument`."""
    empty = RoleDescriptor()
    if not descriptors or any(
        msgspec.structs.replace(one, metadata={}, description=None) != empty
        for one in descriptors.values()
    ):
        raise IllegalArgument(
            "creating derived api keys requires an explicit role descriptor that is empty "
            "(has no privileges)"
        )


def parse_expiration_ms(text: str) -> int:
    """Read a duration such as `30d`, in milliseconds. Raises `IllegalArgument`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise IllegalArgument(
            f"failed to parse setting [expiration] with value [{text}] as a time value: "
            "unit is missing or unrecognized"
        )
    duration = int(int(match[1]) * _UNIT_MS[match[2]])
    if not 0 < duration < 2**53:
        raise IllegalArgument(f"[expiration] must be a positive time, got [{text}]")
    return duration


def check_criteria(asked: KeyCriteria) -> None:
    """Refuse an invalidation that names no keys or contradicts itself. Raises `InvalidRequest`."""
    problems: list[str] = []
    by_user = bool(asked.realm_name or asked.username)
    if asked.ids is None and not asked.name and not by_user and asked.owned_by is None:
        problems.append(
            "One of [api key id(s), api key name, username, realm name] must be specified if "
            "[owner] flag is false"
        )
    if asked.ids is not None and not asked.ids:
        problems.append("Field [ids] cannot be an empty array")
    if asked.ids and not all(one.strip() for one in asked.ids):
        blank = [place for place, one in enumerate(asked.ids) if not one.strip()]
        problems.append(
            "Field [ids] must not contain blank id, but got blank id(s) at index position(s): "
            f"{blank}"
        )
    if (asked.ids is not None or asked.name) and by_user:
        problems.append(
            "username or realm name must not be specified when the api key id(s) or api key name "
            "are specified"
        )
    if asked.owned_by is not None and by_user:
        problems.append(
            "neither username nor realm-name may be specified when invalidating owned API keys"
        )
    if asked.ids is not None and asked.name:
        problems.append("only one of [api key id(s), api key name] can be specified")
    if problems:
        raise InvalidRequest.of(problems)


def select(
    keys: Iterable[ApiKeyRecord], asked: KeyCriteria, realm_of: RealmOf
) -> list[ApiKeyRecord]:
    """Give the keys that meet every criterion, oldest first."""
    ids = None if asked.ids is None else set(asked.ids)
    chosen = [
        key
        for key in keys
        if (ids is None or key.id in ids)
        and (not asked.name or _is_named(key.name, asked.name))
        and (not asked.username or key.owner == asked.username)
        and (asked.owned_by is None or key.owner == asked.owned_by)
        and (not asked.realm_name or realm_of(key.owner) == asked.realm_name)
    ]
    return sorted(chosen, key=lambda key: (key.creation_ms, key.id))


def _is_named(name: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern
