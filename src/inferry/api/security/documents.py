"""The JSON of the security calls: bodies as they come, records as they are shown.

Source: Elasticsearch reference, "Security APIs".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from inferry.api.strict_json import parse_object, position_of
from inferry.domain import Json
from inferry.errors import UnreadableBody
from inferry.records import ApiKeyRecord, RoleDescriptor, UserRecord
from inferry.security.gate import Principal

T = TypeVar("T", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_PLACE = re.compile(r" - at `\$\.?(?P<field>\w+)?.*`$", re.DOTALL)
_REALM_TYPES = {"default_native": "native"}


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body; what it does not name is refused."""


class RoleBody(_Body, frozen=True, rename={"global_": "global"}):
    """A role, or the limits of an API key. Only `cluster` has an effect."""

    cluster: list[str] = []
    indices: list[dict[str, Any]] = []
    index: list[dict[str, Any]] = []
    applications: list[dict[str, Any]] = []
    run_as: list[str] = []
    metadata: dict[str, Any] | None = None
    transient_metadata: dict[str, Any] | None = None
    description: str | None = None
    global_: dict[str, Any] | None = None
    remote_indices: list[dict[str, Any]] = []
    remote_cluster: list[dict[str, Any]] = []

    def descriptor(self) -> RoleDescriptor:
        """Give what is stored."""
        return RoleDescriptor(
            cluster=self.cluster,
            indices=self.indices or self.index,
            applications=self.applications,
            run_as=self.run_as,
            metadata=self.metadata or {},
            description=self.description,
            global_=self.global_,
            remote_indices=self.remote_indices,
            remote_cluster=self.remote_cluster,
        )


class ApiKeyBody(_Body, frozen=True):
    """A new API key."""

    name: str | None = None
    expiration: str | None = None
    role_descriptors: dict[str, RoleBody] | None = None
    metadata: dict[str, Any] | None = None


class InvalidationBody(_Body, frozen=True):
    """Which API keys to end; `id` is the old form of `ids`."""

    id: str | None = None
    ids: list[str] | None = None
    name: str | None = None
    owner: bool = False
    username: str | None = None
    realm_name: str | None = None


class UserBody(_Body, frozen=True):
    """A user."""

    username: str | None = None
    password: str | None = None
    password_hash: str | None = None
    roles: list[str] | None = None
    full_name: str | None = None
    email: str | None = None
    metadata: dict[str, Any] | None = None
    enabled: bool = True

    def __repr__(self) -> str:
        return f"UserBody(username={self.username!r})"


class PasswordBody(_Body, frozen=True):
    """A new password, as itself or as a hash."""

    password: str | None = None
    password_hash: str | None = None

    def __repr__(self) -> str:
        return "PasswordBody()"


class IndexPrivileges(_Body, frozen=True):
    """Privileges on indices, which nobody but a superuser has here."""

    names: list[str] | str
    privileges: list[str]
    allow_restricted_indices: bool = False


class ApplicationPrivileges(_Body, frozen=True):
    """Privileges of an application, which nobody but a superuser has here."""

    application: str
    privileges: list[str]
    resources: list[str]


class PrivilegesBody(_Body, frozen=True):
    """Privileges that a caller asks about."""

    cluster: list[str] = []
    index: list[IndexPrivileges] = []
    application: list[ApplicationPrivileges] = []


def read_body(body: bytes, kind: type[T], call: str) -> T:
    """Parse the body of `call` strictly. Raises `MissingBody`, `UnreadableBody`."""
    document = parse_object(body)
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise _explain(body, call, str(error)) from error


def _explain(body: bytes, call: str, problem: str) -> UnreadableBody:
    """Say where in the body the problem is, in the manner of the wire."""
    place = _PLACE.search(problem)
    field = place["field"] if place else None
    path = [field] if field else []
    if unknown := _UNKNOWN.search(problem):
        where = position_of(body, path or [unknown["field"]], at_key=not path)
        return UnreadableBody(f"{where} [{call}] unknown field [{unknown['field']}]")
    where = position_of(body, path)
    what = f"[{call}] failed to parse field [{field}]" if field else f"[{call}] failed to parse"
    return UnreadableBody(f"{where} {what}: {problem[: place.start()] if place else problem}")


def show_caller(principal: Principal, user: UserRecord | None, realm: str) -> Json:
    """Show who calls. user: the record of one who came with a password."""
    is_key = principal.kind == "api_key"
    realm = "_es_api_key" if is_key else realm
    shown_realm: Json = {"name": realm, "type": _realm_type(realm)}
    shown: dict[str, Json] = {
        "username": principal.username,
        "roles": [] if is_key or user is None else list(user.roles),
        "full_name": user.full_name if user else None,
        "email": user.email if user else None,
        "metadata": _metadata(user) if user else {},
        "enabled": True,
        "authentication_realm": shown_realm,
        "lookup_realm": shown_realm,
        "authentication_type": principal.kind,
    }
    if is_key:
        shown["api_key"] = {
            "id": principal.api_key_id,
            "name": principal.api_key_name,
            "managed_by": "elasticsearch",
        }
    return shown


def show_user(user: UserRecord) -> dict[str, Json]:
    """Show a user, without its password."""
    return {
        "username": user.username,
        "roles": list(user.roles),
        "full_name": user.full_name,
        "email": user.email,
        "metadata": _metadata(user),
        "enabled": user.enabled,
    }


def _metadata(user: UserRecord) -> Json:
    return {"_reserved": True} if user.reserved else user.metadata


def show_role(descriptor: RoleDescriptor) -> dict[str, Json]:
    """Show a role or the limits of a key."""
    shown: dict[str, Json] = {
        "cluster": list(descriptor.cluster),
        "indices": descriptor.indices,
        "applications": descriptor.applications,
        "run_as": list(descriptor.run_as),
        "metadata": descriptor.metadata,
        "transient_metadata": {"enabled": True},
    }
    if descriptor.description is not None:
        shown["description"] = descriptor.description
    if descriptor.global_ is not None:
        shown["global"] = descriptor.global_
    if descriptor.remote_indices:
        shown["remote_indices"] = descriptor.remote_indices
    if descriptor.remote_cluster:
        shown["remote_cluster"] = descriptor.remote_cluster
    return shown


def show_api_key(key: ApiKeyRecord, realm: str, *, with_limited_by: bool) -> Json:
    """Show an API key, without its secret."""
    shown: dict[str, Json] = {
        "id": key.id,
        "name": key.name,
        "type": "rest",
        "creation": key.creation_ms,
    }
    if key.expiration_ms is not None:
        shown["expiration"] = key.expiration_ms
    shown["invalidated"] = key.invalidation_ms is not None
    if key.invalidation_ms is not None:
        shown["invalidation"] = key.invalidation_ms
    shown |= {
        "username": key.owner,
        "realm": realm,
        "realm_type": _realm_type(realm),
        "metadata": key.metadata,
        "role_descriptors": _show_roles(key.role_descriptors),
    }
    if with_limited_by:
        shown["limited_by"] = [_show_roles(key.limited_by)]
    return shown


def _show_roles(descriptors: Mapping[str, RoleDescriptor]) -> Json:
    return {name: show_role(descriptor) for name, descriptor in descriptors.items()}


def _realm_type(realm: str) -> str:
    return _REALM_TYPES.get(realm, realm)
