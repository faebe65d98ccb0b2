"""The writer of keys, users and roles."""

from __future__ import annotations

import pytest

from inferry.commands import (
    Command,
    CreateApiKey,
    DeleteRole,
    DeleteUser,
    InvalidateApiKeys,
    KeyCriteria,
    PutRole,
    PutUser,
    SetPassword,
    SetUserEnabled,
)
from inferry.concurrency import run_all
from inferry.errors import IllegalArgument, InvalidRequest, VersionConflict
from inferry.records import ApiKeyRecord, Put, RoleDescriptor, UserRecord
from inferry.security.api_keys import LOCAL_KEY_MARK, Secret, belongs
from inferry.security.writer import SecurityWriter

DAY_MS = 24 * 3600 * 1000


def stored_key(house, encoded: str) -> ApiKeyRecord:
    key = house.store.records["api_key", house.id_of(encoded)]
    assert isinstance(key, ApiKeyRecord)
    return key


async def test_every_security_command_has_a_handler(house):
    handled = set(house.writer.handlers())

    own = {CreateApiKey, InvalidateApiKeys, PutUser, DeleteUser}
    own |= {SetPassword, SetUserEnabled, PutRole, DeleteRole}
    assert handled == own
    assert all(issubclass(command, Command) for command in handled)


async def test_a_new_key_is_stored_without_its_secret(house):
    await house.add_user("ann", "inference_user")

    made = await house.writer.create_api_key(
        CreateApiKey("ann", "ingest", expiration="2d", metadata={"team": "search"})
    )

    key = stored_key(house, made.encoded)
    assert made.encoded == Secret(made.id, made.secret).encoded
    assert belongs(Secret(made.id, made.secret), key)
    assert made.secret not in repr(key)
    assert made.secret not in repr(made)
    assert made.expiration_ms == key.expiration_ms == house.clock.now_ms + 2 * DAY_MS
    assert (key.owner, key.name, key.metadata) == ("ann", "ingest", {"team": "search"})
    assert {name: one.cluster for name, one in key.limited_by.items()} == {
        "inference_user": ["monitor_inference"]
    }


async def test_two_keys_may_have_the_same_name(house):
    await house.add_user("ann")

    assert await house.add_key("ann") != await house.add_key("ann")


async def test_a_key_of_a_user_without_roles_may_nothing(house):
    await house.add_user("ann", "gone")

    key = stored_key(house, await house.add_key("ann", "all"))

    assert key.limited_by == {}


async def test_an_unknown_privilege_in_a_limit_is_refused(house):
    await house.add_user("ann")

    with pytest.raises(IllegalArgument, match=r"unknown cluster privilege \[fly\]"):
        await house.add_key("ann", "fly")


async def test_a_key_cannot_make_a_key_that_may_something(house):
    await house.add_user("ann", "superuser")
    key_id = house.id_of(await house.add_key("ann"))

    with pytest.raises(IllegalArgument, match="creating derived api keys requires"):
        await house.add_key("ann", "monitor", owner_key_id=key_id)
    with pytest.raises(IllegalArgument, match="creating derived api keys requires"):
        await house.add_key("ann", owner_key_id=key_id)

    powerless = CreateApiKey(
        "ann", "x", role_descriptors={"no": RoleDescriptor()}, owner_key_id=key_id
    )
    assert await house.writer.create_api_key(powerless)


async def test_the_key_of_the_host_makes_keys_as_its_administrator_would(passwords, store):
    local = ApiKeyRecord("k", "local", b"", "elastic", {}, {}, 1, metadata={LOCAL_KEY_MARK: True})
    admin = UserRecord("elastic", "hash", ["superuser"], reserved=True)

    async def publish(_) -> None:
        return

    writer = SecurityWriter(store, publish, passwords, records=[local, admin])

    made = await writer.create_api_key(CreateApiKey("elastic", "ci", owner_key_id="k"))

    key = store.records["api_key", made.id]
    assert key.limited_by["superuser"].cluster == ["all"]


async def test_nobody_can_mark_a_key_as_the_one_of_the_host(house):
    await house.add_user("ann")

    with pytest.raises(InvalidRequest, match="metadata keys may not start with"):
        await house.add_key("ann", metadata={LOCAL_KEY_MARK: True})


async def test_a_key_ends_once(house):
    await house.add_user("ann")
    key_id = house.id_of(await house.add_key("ann"))
    asked = InvalidateApiKeys(KeyCriteria(ids=[key_id, "unknown"]))

    first = await house.writer.invalidate_api_keys(asked)
    second = await house.writer.invalidate_api_keys(asked)

    assert (first.invalidated, first.previously_invalidated) == ([key_id], [])
    assert (second.invalidated, second.previously_invalidated) == ([], [key_id])
    assert house.store.records["api_key", key_id].invalidation_ms == house.clock.now_ms


async def test_keys_end_by_name_user_and_owner(house):
    await house.add_user("ann")
    await house.add_user("bob")
    a1, a2 = [await house.add_key("ann", name=name) for name in ("ci-1", "ci-2")]
    b1, b2 = [await house.add_key("bob", name=name) for name in ("ci-1", "dev")]

    async def end(criteria: KeyCriteria) -> set[str]:
        ended = await house.writer.invalidate_api_keys(InvalidateApiKeys(criteria))
        return set(ended.invalidated)

    def ids(*keys: str) -> set[str]:
        return {house.id_of(key) for key in keys}

    assert await end(KeyCriteria(name="ci-*", owned_by="ann")) == ids(a1, a2)
    assert await end(KeyCriteria(username="bob")) == ids(b1, b2)
    assert await end(KeyCriteria(realm_name="default_native")) == set()


async def test_a_user_is_created_once_and_then_changed(house):
    asked = PutUser("ann", ["a"], password="s3cret-pass", full_name="Ann", email="a@example.org")

    assert await house.writer.put_user(asked) is True
    first = house.access.user("ann")
    assert await house.writer.put_user(PutUser("ann", ["b"])) is False

    second = house.access.user("ann")
    assert (first.full_name, first.email, first.revision) == ("Ann", "a@example.org", 1)
    assert (second.roles, second.full_name, second.revision) == (["b"], None, 2)
    assert second.password_hash == first.password_hash


async def test_two_creations_of_one_user_at_once_make_one(house):
    asked = PutUser("ann", [], password="s3cret-pass")

    created = await run_all([house.writer.put_user(asked), house.writer.put_user(asked)])

    assert sorted(created) == [False, True]


async def test_a_user_is_removed_once(house):
    await house.add_user("ann")

    assert await house.writer.delete_user(DeleteUser("ann")) is True
    assert await house.writer.delete_user(DeleteUser("ann")) is False
    assert house.access.users() == []


async def test_the_password_of_an_unknown_user_cannot_be_changed(house):
    with pytest.raises(InvalidRequest, match="user must exist in order to change password"):
        await house.writer.set_password(SetPassword("ann", "s3cret-pass"))


async def test_a_short_or_missing_password_is_refused(house):
    await house.add_user("ann")

    with pytest.raises(InvalidRequest, match=r"passwords must be at least \[6\] characters long"):
        await house.writer.set_password(SetPassword("ann", "12345"))
    with pytest.raises(InvalidRequest, match="password is missing"):
        await house.writer.set_password(SetPassword("ann"))


async def test_only_existing_users_can_be_enabled_or_disabled(house):
    with pytest.raises(InvalidRequest, match="only existing users can be disabled"):
        await house.writer.set_user_enabled(SetUserEnabled("ann", enabled=False))


async def test_a_reserved_user_changes_its_password_only(passwords, store, house):
    admin = UserRecord("elastic", "hash", ["superuser"], reserved=True)
    await store.write([Put(admin)])

    async def publish(changes) -> None:
        house.access.apply(changes)

    writer = SecurityWriter(store, publish, passwords, records=[admin])

    reserved = r"user \[elastic\] is reserved"
    with pytest.raises(IllegalArgument, match=reserved):
        await writer.put_user(PutUser("elastic", [], password="s3cret-pass"))
    with pytest.raises(IllegalArgument, match=reserved):
        await writer.delete_user(DeleteUser("elastic"))
    with pytest.raises(IllegalArgument, match=reserved):
        await writer.set_user_enabled(SetUserEnabled("elastic", enabled=False))

    await writer.set_password(SetPassword("elastic", "s3cret-pass"))
    assert house.access.user("elastic").reserved
    assert house.access.user("elastic").password_hash != "hash"


async def test_a_role_is_created_once_changed_and_removed(house):
    asked = PutRole("reader", RoleDescriptor(cluster=["monitor_inference"]))

    assert await house.writer.put_role(asked) is True
    assert await house.writer.put_role(asked) is False
    assert house.access.role("reader").revision == 2
    assert await house.writer.delete_role(DeleteRole("reader")) is True
    assert await house.writer.delete_role(DeleteRole("reader")) is False
    assert house.access.roles() == []


async def test_what_the_store_refuses_is_neither_remembered_nor_published(house):
    await house.add_user("ann")
    await house.store.write([Put(UserRecord("ann", "", [], revision=7))])

    with pytest.raises(VersionConflict):
        await house.writer.delete_user(DeleteUser("ann"))

    assert house.access.user("ann").revision == 1


async def test_a_change_is_published_after_it_is_stored_and_before_the_reply(passwords, store):
    seen = []

    async def publish(changes) -> None:
        seen.append(("user", "ann") in store.records)

    writer = SecurityWriter(store, publish, passwords)

    await writer.put_user(PutUser("ann", [], password="s3cret-pass"))

    assert seen == [True]


async def test_nothing_is_written_when_nothing_changes(house, monkeypatch):
    monkeypatch.setattr(house.store, "write", lambda _: pytest.fail("written"))

    await house.writer.invalidate_api_keys(InvalidateApiKeys(KeyCriteria(ids=["x"])))
