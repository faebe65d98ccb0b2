"""What must exist before anybody can enter: the built-in superuser and the host's own API key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from inferry.errors import Conflict
from inferry.protocols import Store
from inferry.records import ApiKeyRecord, Change, Drop, Put, Record, UserRecord
from inferry.security import api_keys
from inferry.security.roles import BUILT_IN_ROLES, SUPERUSER
from inferry.security.users import Passwords

LOCAL_KEY_NAME = "local"
KEPT_AFTER_END_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What `prepare` found or made.

    records: all records, as they are now. local_key: encoded, for the file that the command line
    reads. generated_password: to be printed once, None unless one was made. ignores_password: the
    configured password is not the stored one, which stays.
    """

    records: list[Record] = field(repr=False)
    local_key: str = field(repr=False)
    generated_password: str | None = field(default=None, repr=False)
    ignores_password: bool = False


async def prepare(
    store: Store,
    records: Sequence[Record],
    passwords: Passwords,
    *,
    admin_user: str,
    admin_password: str | None,
    local_key: str | None,
    now: Callable[[], float] = time.time,
) -> FirstStart:
    """Make what is missing, in one write, and drop keys that ended more than a week ago.

    admin_password: counts on the first start only. local_key: what the key's file holds, None
    without one; a key that does not fit is replaced.
    Raises `Conflict` when `admin_user` names an ordinary user.
    """
    now_ms = int(now() * 1000)
    former = _find_superuser(records, admin_user)
    changes: list[Change] = []
    generated = None
    ignores_password = False
    if former is None:
        generated = None if admin_password else secrets.token_urlsafe(15)
        digest = await passwords.hash(admin_password or generated or "")
        changes.append(Put(UserRecord(admin_user, digest, [SUPERUSER], reserved=True), expects=0))
    else:
        changes += _rename(former, admin_user)
        ignores_password = admin_password is not None and not await passwords.verify(
            admin_password, former, is_known=lambda: False
        )
    key_changes, encoded = _keep_local_key(records, local_key, admin_user, now_ms)
    changes += key_changes + _forget_ended_keys(records, now_ms)
    if changes:
        await store.write(changes)
    return FirstStart(_apply(records, changes), encoded, generated, ignores_password)


def _find_superuser(records: Sequence[Record], admin_user: str) -> UserRecord | None:
    users = [record for record in records if isinstance(record, UserRecord)]
    if any(user.username == admin_user and not user.reserved for user in users):
        raise Conflict(
            f"[auth.admin_user] is [{admin_user}], but an ordinary user has this name; "
            "choose another name or delete that user first"
        )
    return next((user for user in users if user.reserved), None)


def _rename(user: UserRecord, username: str) -> list[Change]:
    if user.username == username:
        return []
    renamed = msgspec.structs.replace(user, username=username, revision=1)
    return [Drop("user", user.key, expects=user.revision), Put(renamed, expects=0)]


def _keep_local_key(
    records: Sequence[Record], encoded: str | None, owner: str, now_ms: int
) -> tuple[list[Change], str]:
    """Keep the key of the file if it is ours and holds, else make one and drop the former."""
    given = api_keys.decode_secret(encoded.strip()) if encoded else None
    former = [
        record
        for record in records
        if isinstance(record, ApiKeyRecord) and api_keys.LOCAL_KEY_MARK in record.metadata
    ]
    for key in former:
        if (
            given is not None
            and given.key_id == key.id
            and key.owner == owner
            and api_keys.belongs(given, key)
            and api_keys.end_of(key, now_ms) is None
        ):
            return [_drop(other) for other in former if other is not key], given.encoded
    made = api_keys.new_secret()
    key = ApiKeyRecord(
        id=made.key_id,
        name=LOCAL_KEY_NAME,
        digest=api_keys.digest_of(made.secret),
        owner=owner,
        role_descriptors={},
        limited_by={SUPERUSER: BUILT_IN_ROLES[SUPERUSER]},
        creation_ms=now_ms,
        metadata={api_keys.LOCAL_KEY_MARK: True},
    )
    return [*(_drop(other) for other in former), Put(key, expects=0)], made.encoded


def _forget_ended_keys(records: Sequence[Record], now_ms: int) -> list[Change]:
    limit = now_ms - KEPT_AFTER_END_MS
    return [
        _drop(key)
        for key in records
        if isinstance(key, ApiKeyRecord)
        and api_keys.LOCAL_KEY_MARK not in key.metadata
        and min(key.invalidation_ms or now_ms, key.expiration_ms or now_ms) < limit
    ]


def _drop(key: ApiKeyRecord) -> Drop:
    return Drop("api_key", key.key, expects=key.revision)


def _apply(records: Sequence[Record], changes: Sequence[Change]) -> list[Record]:
    """Give the records as they are after `changes`, which concern users and keys only."""
    gone = {(change.kind, change.key) for change in changes if isinstance(change, Drop)}
    kept = [
        record
        for record in records
        if not (isinstance(record, UserRecord) and ("user", record.key) in gone)
        and not (isinstance(record, ApiKeyRecord) and ("api_key", record.key) in gone)
    ]
    return kept + [change.record for change in changes if isinstance(change, Put)]
