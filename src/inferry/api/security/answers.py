"""The answers of the security calls, for the OpenAPI document.

`documents` writes them member by member, since which members there are depends on the
record; the tests of the document hold both against each other.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Realm(msgspec.Struct, frozen=True):
    """Where a user is known."""

    name: str
    type: str


class CallerKey(msgspec.Struct, frozen=True):
    """The API key of a caller who came with one."""

    id: str
    name: str | None
    managed_by: str


class Caller(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Who calls."""

    username: str
    roles: list[str]
    full_name: str | None
    email: str | None
    metadata: dict[str, Any]
    enabled: bool
    authentication_realm: Realm
    lookup_realm: Realm
    authentication_type: str
    api_key: CallerKey | None = None


class HeldPrivileges(msgspec.Struct, frozen=True):
    """Which of the privileges that were asked about the caller has."""

    username: str
    has_all_requested: bool
    cluster: dict[str, bool]
    index: dict[str, dict[str, bool]]
    application: dict[str, dict[str, dict[str, bool]]]


class PrivilegeNames(msgspec.Struct, frozen=True):
    """The names of all privileges."""

    cluster: list[str]
    index: list[str]


class RoleItem(msgspec.Struct, frozen=True, omit_defaults=True, rename={"global_": "global"}):
    """A role, or the limits of an API key."""

    cluster: list[str]
    indices: list[Any]
    applications: list[Any]
    run_as: list[str]
    metadata: dict[str, Any]
    transient_metadata: dict[str, Any]
    description: str | None = None
    global_: dict[str, Any] | None = None
    remote_indices: list[Any] = []
    remote_cluster: list[Any] = []


class NewKey(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A key that was made; the only answer with its secret."""

    id: str
    name: str | None
    expiration: int | None = None
    api_key: str
    encoded: str


class KeyItem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An API key; times are milliseconds since the epoch."""

    id: str
    name: str | None
    type: str
    creation: int
    expiration: int | None = None
    invalidated: bool
    invalidation: int | None = None
    username: str
    realm: str
    realm_type: str
    metadata: dict[str, Any]
    role_descriptors: dict[str, RoleItem]
    limited_by: list[dict[str, RoleItem]] = []


class KeyList(msgspec.Struct, frozen=True):
    """API keys."""

    api_keys: list[KeyItem]


class EndedKeys(msgspec.Struct, frozen=True):
    """Ids of the keys that ended now, and of those that had ended before."""

    invalidated_api_keys: list[str]
    previously_invalidated_api_keys: list[str]
    error_count: int


class UserItem(msgspec.Struct, frozen=True):
    """A user, without its password."""

    username: str
    roles: list[str]
    full_name: str | None
    email: str | None
    metadata: dict[str, Any]
    enabled: bool


class Created(msgspec.Struct, frozen=True):
    """Whether it is new."""

    created: bool


class RoleCreated(msgspec.Struct, frozen=True):
    """Whether the role is new."""

    role: Created


class Found(msgspec.Struct, frozen=True):
    """Whether there was one."""

    found: bool


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It is done, and there is nothing to say."""
