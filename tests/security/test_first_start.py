"""What the first start makes, and what later ones keep."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.errors import Conflict
from inferry.records import (
    ApiKeyRecord,
    Put,
    ReferenceRecord,
    RoleDescriptor,
    UserRecord,
)
from inferry.security.api_keys import rights_of
from inferry.security.first_start import FirstStart, prepare
from inferry.security.users import Passwords

NOW_S = 1_800_000_000.0
WEEK_MS = 7 * 24 * 3600 * 1000


@pytest.fixture
def start(store, passwords):
    """Start on what the store holds."""

    async def start(
        *, user: str = "elastic", password: str | None = None, local_key: str | None = None
    ) -> FirstStart:
        return await prepare(
            store,
            await store.load(),
            passwords,
            admin_user=user,
            admin_password=password,
            local_key=local_key,
            now=lambda: NOW_S,
        )

    return start


def users_in(store) -> list[UserRecord]:
    return [one for one in store.records.values() if isinstance(one, UserRecord)]


def keys_in(store) -> list[ApiKeyRecord]:
    return [one for one in store.records.values() if isinstance(one, ApiKeyRecord)]


async def is_password(passwords: Passwords, user: UserRecord, password: str) -> bool:
    return await passwords.verify(password, user, is_known=lambda: False)


async def test_the_first_start_makes_a_superuser_with_a_generated_password(start, store, passwords):
    first = await start()

    [user] = users_in(store)
    assert (user.username, user.roles, user.reserved) == ("elastic", ["superuser"], True)
    assert first.generated_password is not None
    assert len(first.generated_password) == 20
    assert await is_password(passwords, user, first.generated_password)
    assert first.generated_password not in repr(first)


async def test_a_configured_password_is_used_and_not_printed(start, store, passwords):
    first = await start(user="admin", password="given-pass")

    [user] = users_in(store)
    assert user.username == "admin"
    assert first.generated_password is None
    assert await is_password(passwords, user, "given-pass")


async def test_later_starts_make_nothing_more(start, store):
    first = await start()
    before = dict(store.records)

    again = await start(local_key=first.local_key + "\n")

    assert store.records == before
    assert again.generated_password is None
    assert again.local_key == first.local_key
    assert again.records == list(before.values())


async def test_a_configured_password_that_is_not_the_stored_one_is_reported_and_ignored(
    start, store, passwords
):
    await start(password="first-pass")

    same = await start(password="first-pass")
    other = await start(password="other-pass")

    assert not same.ignores_password
    assert other.ignores_password
    assert await is_password(passwords, users_in(store)[0], "first-pass")


async def test_the_superuser_is_renamed_with_its_password(start, store, passwords):
    first = await start(password="first-pass")

    renamed = await start(user="root", local_key=first.local_key)

    [user] = users_in(store)
    assert (user.username, user.reserved) == ("root", True)
    assert await is_password(passwords, user, "first-pass")
    [key] = keys_in(store)
    assert key.owner == "root"
    assert renamed.local_key != first.local_key


async def test_an_ordinary_user_does_not_become_the_superuser(start, store):
    await store.write([Put(UserRecord("elastic", "hash", []))])

    with pytest.raises(Conflict, match=r"\[auth.admin_user\] is \[elastic\], but an ordinary user"):
        await start()


async def test_the_local_key_may_everything(start, store):
    await start()

    [key] = keys_in(store)
    assert (key.name, key.owner) == ("local", "elastic")
    assert rights_of(key).allow("cluster:admin/xpack/security/user/put")


@pytest.mark.parametrize("lost", [None, "", "nonsense", "aWQ6c2VjcmV0"])
async def test_a_lost_local_key_is_replaced_and_the_former_one_is_gone(start, store, lost):
    first = await start()
    [former] = keys_in(store)

    again = await start(local_key=lost)

    [key] = keys_in(store)
    assert key.id != former.id
    assert again.local_key != first.local_key
    assert [one for one in again.records if isinstance(one, ApiKeyRecord)] == [key]


async def test_a_local_key_that_was_invalidated_is_replaced(start, store):
    first = await start()
    [former] = keys_in(store)
    ended = ApiKeyRecord(
        former.id, former.name, former.digest, former.owner, {}, {}, 0, invalidation_ms=1,
        metadata=former.metadata,
    )  # fmt: skip
    await store.write([Put(ended)])

    again = await start(local_key=first.local_key)

    assert again.local_key != first.local_key


async def test_keys_that_ended_more_than_a_week_ago_are_forgotten(start, store):
    now_ms = int(NOW_S * 1000)

    def key(name: str, **ends: Any) -> Put:
        return Put(ApiKeyRecord(name, name, b"", "ann", {"a": RoleDescriptor()}, {}, 1, **ends))

    await store.write(
        [
            key("valid"),
            key("to-expire", expiration_ms=now_ms + 1),
            key("expired", expiration_ms=now_ms - WEEK_MS + 1),
            key("long-expired", expiration_ms=now_ms - WEEK_MS - 1),
            key("long-invalidated", invalidation_ms=now_ms - WEEK_MS - 1),
        ]
    )

    await start()

    kept = {key.name for key in keys_in(store)}
    assert kept == {"valid", "to-expire", "expired", "local"}


async def test_other_records_are_kept(start, store):
    await store.write([Put(ReferenceRecord("elastic", "pipeline", ["a"]))])

    first = await start()

    assert ReferenceRecord("elastic", "pipeline", ["a"]) in first.records
    assert len(first.records) == 3
