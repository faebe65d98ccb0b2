"""Bodies of the security calls, and how records are shown."""

from __future__ import annotations

import pytest

from inferry.api.security.documents import (
    ApiKeyBody,
    InvalidationBody,
    PrivilegesBody,
    RoleBody,
    UserBody,
    read_body,
    show_api_key,
    show_role,
    show_user,
)
from inferry.errors import MissingBody, UnreadableBody
from inferry.records import ApiKeyRecord, RoleDescriptor, UserRecord


def test_a_body_is_read_into_its_type():
    body = read_body(
        b'{"name": "a", "role_descriptors": {"r": {"cluster": ["all"]}}}', ApiKeyBody, "x"
    )

    assert body.name == "a"
    assert body.role_descriptors is not None
    assert body.role_descriptors["r"].descriptor() == RoleDescriptor(cluster=["all"])


def test_a_missing_body_is_refused():
    with pytest.raises(MissingBody, match="request body is required"):
        read_body(b" ", RoleBody, "put_role")


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"a": 1}', UserBody, "[1:2] [call] unknown field [a]"),
        (b'{"roles": [],\n "a": 1}', UserBody, "[2:2] [call] unknown field [a]"),
        (
            b'{"role_descriptors": {"r": {"klaster": []}}}',
            ApiKeyBody,
            "[1:22] [call] unknown field [klaster]",
        ),
        (
            b'{"enabled": "yes"}',
            UserBody,
            "[1:13] [call] failed to parse field [enabled]: Expected `bool`, got `str`",
        ),
        (
            b'{"ids": ["a", 2]}',
            InvalidationBody,
            "[1:9] [call] failed to parse field [ids]: Expected `str`, got `int`",
        ),
        (
            b'{"index": [{"privileges": []}]}',
            PrivilegesBody,
            "[1:11] [call] failed to parse field [index]: Object missing required field `names`",
        ),
        (b'{"a": 1, "a": 2}', RoleBody, "[1:10] Duplicate field 'a'"),
        (b"3", RoleBody, "[1:1] Expected START_OBJECT but found VALUE_NUMBER"),
    ],
)
def test_a_body_of_another_shape_is_refused_with_its_place(body, kind, message):
    with pytest.raises(UnreadableBody) as refused:
        read_body(body, kind, "call")

    assert str(refused.value) == message


def test_a_secret_in_the_wrong_place_is_not_repeated():
    with pytest.raises(UnreadableBody) as refused:
        read_body(b'{"password": ["marker"], "roles": []}', UserBody, "put_user")

    assert "marker" not in str(refused.value)


def test_the_former_name_of_indices_is_taken():
    body = read_body(b'{"index": [{"names": ["a"]}]}', RoleBody, "put_role")

    assert body.descriptor().indices == [{"names": ["a"]}]


def test_every_part_of_a_role_comes_back():
    parts = (
        b'{"cluster":["all"],"indices":[{"a":1}],"applications":[{"b":1}],"run_as":["x"],'
        b'"metadata":{"m":1},"description":"d","global":{"g":1},"remote_indices":[{"r":1}],'
        b'"remote_cluster":[{"c":1}]}'
    )

    assert show_role(read_body(parts, RoleBody, "put_role").descriptor()) == {
        "cluster": ["all"],
        "indices": [{"a": 1}],
        "applications": [{"b": 1}],
        "run_as": ["x"],
        "metadata": {"m": 1},
        "transient_metadata": {"enabled": True},
        "description": "d",
        "global": {"g": 1},
        "remote_indices": [{"r": 1}],
        "remote_cluster": [{"c": 1}],
    }


def test_a_user_is_shown_without_its_password():
    shown = show_user(UserRecord("ann", "marker", ["a"], reserved=True))

    assert "marker" not in str(shown)
    assert shown["metadata"] == {"_reserved": True}


def test_a_key_is_shown_with_its_times_and_without_its_digest():
    key = ApiKeyRecord("k", "n", b"marker", "ann", {}, {}, 1, expiration_ms=2, invalidation_ms=3)

    shown = show_api_key(key, "default_native", with_limited_by=False)

    assert shown == {
        "id": "k",
        "name": "n",
        "type": "rest",
        "creation": 1,
        "expiration": 2,
        "invalidated": True,
        "invalidation": 3,
        "username": "ann",
        "realm": "default_native",
        "realm_type": "native",
        "metadata": {},
        "role_descriptors": {},
    }
