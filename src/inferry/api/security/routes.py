"""The security calls: API keys, users, roles, and what a caller may do.

They read the records of this process and have the supervisor write. Which privilege an action
needs is the gate's to know.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from inferry.api.exchange import Answer, ErrorAnswer, Handler, Request, Route
from inferry.api.parameters import parse_flag
from inferry.api.security.answers import (
    Caller,
    Created,
    EndedKeys,
    Found,
    HeldPrivileges,
    KeyList,
    NewKey,
    Nothing,
    PrivilegeNames,
    RoleCreated,
    RoleItem,
    UserItem,
)
from inferry.api.security.documents import (
    ApiKeyBody,
    InvalidationBody,
    PasswordBody,
    PrivilegesBody,
    RoleBody,
    UserBody,
    read_body,
    show_api_key,
    show_caller,
    show_role,
    show_user,
)
from inferry.commands import (
    CreateApiKey,
    DeleteRole,
    DeleteUser,
    InvalidateApiKeys,
    Invalidation,
    KeyCriteria,
    NewApiKey,
    PutRole,
    PutUser,
    SetPassword,
    SetUserEnabled,
)
from inferry.core.access import Access
from inferry.domain import Json
from inferry.errors import IllegalArgument, InvalidRequest
from inferry.protocols import Writer
from inferry.security.gate import CredentialGate, Principal

MAX_BODY_BYTES: Final = 1024 * 1024
_ACTION: Final = "cluster:admin/xpack/security/"
_GET_KEYS: Final = f"{_ACTION}api_key/get"
_INVALIDATE_KEYS: Final = f"{_ACTION}api_key/invalidate"
_CHANGE_PASSWORD: Final = f"{_ACTION}user/change_password"
_KEY_PARAMETERS: Final = frozenset(
    [
        "id",
        "name",
        "owner",
        "username",
        "realm_name",
        "with_limited_by",
        "active_only",
        "with_profile_uid",
    ]
)
_REFRESH: Final = frozenset({"refresh"})
_PROFILE: Final = frozenset({"with_profile_uid"})


class _Call(NamedTuple):
    """A row of the table below.

    action: None for every authenticated caller. missing: the answer when nothing was found.
    """

    methods: str
    path: str
    handler: Handler
    action: str | None
    summary: str
    answer: Any
    body: type[msgspec.Struct] | None = None
    parameters: frozenset[str] = frozenset()
    missing: Any = None


def security_routes(
    access: Access, writer: Writer, gate: CredentialGate, render_error: ErrorAnswer
) -> list[Route]:
    """Give the routes below `/_security`; a server without authentication has none of them."""
    calls = SecurityCalls(access, writer, gate)
    return [
        Route(
            method,
            f"/_security/{call.path}",
            call.handler,
            None if call.action is None else f"{_ACTION}{call.action}",
            render_error,
            call.summary,
            parameters=call.parameters | (_REFRESH if method != "GET" else frozenset()),
            takes_body=call.body is not None,
            max_body_bytes=MAX_BODY_BYTES,
            body_type=call.body,
            answer_type=call.answer,
            further_answers={} if call.missing is None else {404: call.missing},
        )
        for call in [*_own_calls(calls), *_key_calls(calls), *_user_calls(calls)]
        for method in call.methods.split()
    ]


def _own_calls(calls: SecurityCalls) -> list[_Call]:
    asks = "Tell which privileges the caller has"
    names = "List the names of privileges"
    check, show = calls.check_privileges, calls.list_privileges
    return [
        _Call("GET", "_authenticate", calls.show_caller, None, "Show who calls", Caller),
        _Call(
            "GET POST", "user/_has_privileges", check, None, asks, HeldPrivileges, PrivilegesBody
        ),
        _Call("GET", "privilege/_builtin", show, "privilege/builtin/get", names, PrivilegeNames),
    ]


def _key_calls(calls: SecurityCalls) -> list[_Call]:
    path, create, end = "api_key", "Create an API key", "End API keys"
    return [
        _Call("PUT POST", path, calls.create_api_key, "api_key/create", create, NewKey, ApiKeyBody),
        _Call(
            "GET",
            path,
            calls.list_api_keys,
            "api_key/get",
            "List API keys",
            KeyList,
            parameters=_KEY_PARAMETERS,
            missing=KeyList,
        ),
        _Call(
            "DELETE",
            path,
            calls.invalidate_api_keys,
            "api_key/invalidate",
            end,
            EndedKeys,
            InvalidationBody,
        ),
    ]


def _user_calls(calls: SecurityCalls) -> list[_Call]:
    users, listed = calls.list_users, dict[str, UserItem]
    user, put, switch = "user/{username}", "Create or change a user", "user/set_enabled"
    secret, change = calls.set_password, "Change a password"
    return [
        _Call("GET", "user", users, "user/get", "List users", listed, parameters=_PROFILE),
        _Call(
            "GET",
            user,
            users,
            "user/get",
            "List users",
            listed,
            parameters=_PROFILE,
            missing=Nothing,
        ),
        _Call("PUT POST", user, calls.put_user, "user/put", put, Created, UserBody),
        _Call(
            "DELETE", user, calls.delete_user, "user/delete", "Delete a user", Found, missing=Found
        ),
        _Call("PUT POST", "user/_password", secret, None, change, Nothing, PasswordBody),
        _Call("PUT POST", f"{user}/_password", secret, None, change, Nothing, PasswordBody),
        _Call("PUT POST", f"{user}/_enable", calls.enable_user, switch, "Let a user in", Nothing),
        _Call(
            "PUT POST", f"{user}/_disable", calls.disable_user, switch, "Keep a user out", Nothing
        ),
        *_role_calls(calls),
    ]


def _role_calls(calls: SecurityCalls) -> list[_Call]:
    roles, listed = calls.list_roles, dict[str, RoleItem]
    role, put = "role/{name}", "Create or change a role"
    return [
        _Call("GET", "role", roles, "role/get", "List roles", listed),
        _Call("GET", role, roles, "role/get", "List roles", listed, missing=Nothing),
        _Call("PUT POST", role, calls.put_role, "role/put", put, RoleCreated, RoleBody),
        _Call(
            "DELETE", role, calls.delete_role, "role/delete", "Delete a role", Found, missing=Found
        ),
    ]


class SecurityCalls:
    """The handlers."""

    def __init__(self, access: Access, writer: Writer, gate: CredentialGate) -> None:
        self._access = access
        self._writer = writer
        self._gate = gate

    # --- the caller ------------------------------------------------------------------------------

    async def show_caller(self, request: Request) -> Answer:
        """Answer who calls."""
        principal = request.principal
        user = self._access.user(principal.username) if principal.kind == "realm" else None
        return _answer(show_caller(principal, user, self._gate.realm_name(principal.username)))

    async def check_privileges(self, request: Request) -> Answer:
        """Answer, per privilege that the body names, whether the caller has it."""
        asked = await request.read(partial(read_body, kind=PrivilegesBody, call="has_privileges"))
        if not (asked.cluster or asked.index or asked.application):
            raise InvalidRequest.of(["must specify at least one privilege"])
        rights = request.principal.rights
        cluster = {name: rights.cover(name) for name in asked.cluster}
        has_all = rights.cover("all")
        index: dict[str, dict[str, bool]] = {}
        for entry in asked.index:
            for name in [entry.names] if isinstance(entry.names, str) else entry.names:
                index.setdefault(name, {}).update(dict.fromkeys(entry.privileges, has_all))
        application: dict[str, dict[str, dict[str, bool]]] = {}
        for one in asked.application:
            resources = application.setdefault(one.application, {})
            for resource in one.resources:
                resources.setdefault(resource, {}).update(dict.fromkeys(one.privileges, has_all))
        asks_others = bool(asked.index or asked.application)
        return _answer(
            {
                "username": request.principal.username,
                "has_all_requested": all(cluster.values()) and (has_all or not asks_others),
                "cluster": cluster,
                "index": index,
                "application": application,
            }
        )

    async def list_privileges(self, request: Request) -> Answer:
        """Answer the names of all privileges; those on indices have no meaning here."""
        return _answer({"cluster": self._gate.privilege_names(), "index": []})

    # --- API keys --------------------------------------------------------------------------------

    async def create_api_key(self, request: Request) -> Answer:
        """Make a key of the caller's."""
        body = await request.read(partial(read_body, kind=ApiKeyBody, call="create_api_key"))
        limits = body.role_descriptors or {}
        key: NewApiKey = await self._writer.submit(
            CreateApiKey(
                owner=request.principal.username,
                name=body.name,
                expiration=body.expiration,
                role_descriptors={name: limit.descriptor() for name, limit in limits.items()},
                metadata=body.metadata,
                owner_key_id=request.principal.api_key_id,
            )
        )
        shown: dict[str, Json] = {"id": key.id, "name": key.name}
        if key.expiration_ms is not None:
            shown["expiration"] = key.expiration_ms
        return _answer(shown | {"api_key": key.secret, "encoded": key.encoded})

    async def list_api_keys(self, request: Request) -> Answer:
        """Answer the keys that meet the query; those of others only to who may see them."""
        query = request.query
        criteria = KeyCriteria(
            ids=[query["id"]] if query.get("id") else None,
            name=query.get("name"),
            username=query.get("username"),
            realm_name=query.get("realm_name"),
            owned_by=request.principal.username if parse_flag(query, "owner") else None,
        )
        self._check_ownership(request.principal, _GET_KEYS, criteria)
        _check_listing(criteria)
        found = self._gate.find_api_keys(criteria)
        if parse_flag(query, "active_only"):
            found = [key for key in found if self._gate.is_active(key)]
        with_limited_by = parse_flag(query, "with_limited_by")
        shown = [
            show_api_key(key, self._gate.realm_name(key.owner), with_limited_by=with_limited_by)
            for key in found
        ]
        return _answer({"api_keys": shown}, 404 if criteria.ids and not shown else 200)

    async def invalidate_api_keys(self, request: Request) -> Answer:
        """End the keys that the body names; those of others only for who may."""
        body = await request.read(
            partial(read_body, kind=InvalidationBody, call="invalidate_api_key")
        )
        if body.id is not None and body.ids is not None:
            raise IllegalArgument("Must use either [id] or [ids], not both at the same time")
        criteria = KeyCriteria(
            ids=body.ids if body.id is None else [body.id],
            name=body.name,
            username=body.username,
            realm_name=body.realm_name,
            owned_by=request.principal.username if body.owner else None,
        )
        self._check_ownership(request.principal, _INVALIDATE_KEYS, criteria)
        ended: Invalidation = await self._writer.submit(InvalidateApiKeys(criteria))
        return _answer(
            {
                "invalidated_api_keys": ended.invalidated,
                "previously_invalidated_api_keys": ended.previously_invalidated,
                "error_count": 0,
            }
        )

    def _check_ownership(self, principal: Principal, action: str, criteria: KeyCriteria) -> None:
        """Refuse who may act on own keys only and asks for more. Raises `NotAuthorized`."""
        if criteria.owned_by is not None:
            return
        if criteria.ids and all(self._is_own(principal, key_id) for key_id in criteria.ids):
            return
        self._gate.authorize_others(principal, action)

    def _is_own(self, principal: Principal, key_id: str) -> bool:
        """Tell whether a key is the caller's; to a key only itself is its own."""
        if principal.api_key_id is not None:
            return key_id == principal.api_key_id
        key = self._access.api_key(key_id)
        return key is not None and key.owner == principal.username

    # --- users -----------------------------------------------------------------------------------

    async def list_users(self, request: Request) -> Answer:
        """Answer the users that the path names, or all."""
        names = request.path_values.get("username")
        users = self._access.users()
        if names is not None:
            wanted = set(names.split(","))
            users = [user for user in users if user.username in wanted]
        shown: dict[str, Json] = {user.username: show_user(user) for user in users}
        return _answer(shown, 404 if names is not None and not shown else 200)

    async def put_user(self, request: Request) -> Answer:
        """Create or replace a user."""
        username = request.path_values["username"]
        body = await request.read(partial(read_body, kind=UserBody, call="put_user"))
        if body.username is not None and body.username != username:
            raise IllegalArgument(
                f"username in source [{body.username}] does not match the username provided "
                f"[{username}]"
            )
        command = PutUser(
            username=username,
            roles=body.roles,
            password=body.password,
            password_hash=body.password_hash,
            full_name=body.full_name,
            email=body.email,
            metadata=body.metadata or {},
            enabled=body.enabled,
        )
        return _answer({"created": await self._writer.submit(command)})

    async def delete_user(self, request: Request) -> Answer:
        """Remove a user."""
        found = await self._writer.submit(DeleteUser(request.path_values["username"]))
        return _answer({"found": found}, 200 if found else 404)

    async def set_password(self, request: Request) -> Answer:
        """Change a password: the caller's own, or any for who may."""
        principal = request.principal
        username = request.path_values.get("username", principal.username)
        # A key acts for its owner, but does not know the owner's password.
        if principal.kind != "realm" or username != principal.username:
            self._gate.authorize(principal, _CHANGE_PASSWORD)
        body = await request.read(partial(read_body, kind=PasswordBody, call="change_password"))
        await self._writer.submit(SetPassword(username, body.password, body.password_hash))
        return _answer({})

    async def enable_user(self, request: Request) -> Answer:
        """Let a user in."""
        await self._writer.submit(SetUserEnabled(request.path_values["username"], enabled=True))
        return _answer({})

    async def disable_user(self, request: Request) -> Answer:
        """Keep a user out."""
        await self._writer.submit(SetUserEnabled(request.path_values["username"], enabled=False))
        return _answer({})

    # --- roles -----------------------------------------------------------------------------------

    async def list_roles(self, request: Request) -> Answer:
        """Answer the roles that the path names, or all, the built-in ones included."""
        names = request.path_values.get("name")
        if names is None:
            found = self._gate.roles()
        else:
            wanted = set(names.split(","))
            found = {name: role for name, role in self._gate.roles().items() if name in wanted}
        shown: dict[str, Json] = {name: show_role(found[name]) for name in sorted(found)}
        return _answer(shown, 404 if names is not None and not shown else 200)

    async def put_role(self, request: Request) -> Answer:
        """Create or replace a role."""
        body = await request.read(partial(read_body, kind=RoleBody, call="put_role"))
        created = await self._writer.submit(PutRole(request.path_values["name"], body.descriptor()))
        return _answer({"role": {"created": created}})

    async def delete_role(self, request: Request) -> Answer:
        """Remove a role."""
        found = await self._writer.submit(DeleteRole(request.path_values["name"]))
        return _answer({"found": found}, 200 if found else 404)


def _check_listing(criteria: KeyCriteria) -> None:
    """Refuse a listing whose criteria contradict each other. Raises `InvalidRequest`."""
    problems: list[str] = []
    by_user = bool(criteria.username or criteria.realm_name)
    if (criteria.ids or criteria.name) and by_user:
        problems.append(
            "username or realm name must not be specified when the api key id or api key name is "
            "specified"
        )
    if criteria.owned_by is not None and by_user:
        problems.append(
            "neither username nor realm-name may be specified when retrieving owned API keys"
        )
    if criteria.ids and criteria.name:
        problems.append("only one of [api key id, api key name] can be specified")
    if problems:
        raise InvalidRequest.of(problems)


def _answer(document: object, status: int = 200) -> Answer:
    return Answer(msgspec.json.encode(document), status)
