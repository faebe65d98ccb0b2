"""The records of keys, users and roles in an API process."""

from __future__ import annotations

import pytest

from inferry.core.access import Access
from inferry.records import (
    ApiKeyRecord,
    Drop,
    Put,
    ReferenceRecord,
    RoleDescriptor,
    RoleRecord,
    UserRecord,
)

USER = UserRecord("ann", "hash", ["reader"])
ROLE = RoleRecord("reader", RoleDescriptor(cluster=["monitor"]))
KEY = ApiKeyRecord("k1", "ingest", b"digest", "ann", {}, {}, creation_ms=2)
OLDER_KEY = ApiKeyRecord("k2", "ingest", b"digest", "ann", {}, {}, creation_ms=1)


def test_records_are_found_by_their_names():
    access = Access([USER, ROLE, KEY])

    assert access.user("ann") is USER
    assert access.role("reader") is ROLE
    assert access.api_key("k1") is KEY
    assert (access.user("bob"), access.role("x"), access.api_key("k9")) == (None, None, None)


def test_lists_are_in_order():
    access = Access([KEY, UserRecord("zoe", "", []), USER, OLDER_KEY, ROLE])

    assert [user.username for user in access.users()] == ["ann", "zoe"]
    assert access.roles() == [ROLE]
    assert access.api_keys() == [OLDER_KEY, KEY]


def test_a_change_is_there_when_apply_returns():
    access = Access([USER, ROLE, KEY])
    newer = UserRecord("ann", "hash", [], revision=2)

    access.apply([Put(newer), Drop("role", "reader"), Drop("api_key", "k1")])

    assert access.user("ann") is newer
    assert access.role("reader") is None
    assert access.api_keys() == []


@pytest.mark.parametrize(
    "change",
    [
        *[Put(record) for record in (USER, ROLE, KEY)],
        *[Drop("user", "ann"), Drop("role", "reader"), Drop("api_key", "k1")],
    ],
)
def test_the_version_tells_of_every_change(change):
    access = Access([USER, ROLE, KEY])
    before = access.version

    access.apply([change])

    assert access.version > before


def test_records_of_others_and_unknown_ones_are_left_alone():
    access = Access([USER])
    before = access.version

    access.apply([Put(ReferenceRecord("p", "pipeline", ["a"])), Drop("reference", "p")])
    access.apply([Drop("api_key", "k9")])

    assert access.version == before
    assert access.users() == [USER]
