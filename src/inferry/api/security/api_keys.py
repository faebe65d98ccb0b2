"""API keys: made, listed, ended."""

from __future__ import annotations

from functools import partial
from typing import Final

from inferry.api.exchange import Answer, Request
from inferry.api.parameters import parse_flag
from inferry.api.security.answers import EndedKeys, KeyList, NewKey
from inferry.api.security.call import ACTION, Call, answer
from inferry.api.security.documents import ApiKeyBody, InvalidationBody, read_body, show_api_key
from inferry.commands import CreateApiKey, InvalidateApiKeys, Invalidation, KeyCriteria, NewApiKey
from inferry.core.access import Access
from inferry.domain import Json
from inferry.errors import IllegalArgument, InvalidRequest
from inferry.protocols import Writer
from inferry.security.gate import CredentialGate, Principal

_GET_KEYS: Final = f"{ACTION}api_key/get"
_INVALIDATE_KEYS: Final = f"{ACTION}api_key/invalidate"
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


def api_key_calls(access: Access, writer: Writer, gate: CredentialGate) -> list[Call]:
    """Give the calls."""
    calls = _ApiKeys(access, writer, gate)
    path, create, end = "api_key", "Create an API key", "End API keys"
    return [
        Call("PUT POST", path, calls.create_api_key, "api_key/create", create, NewKey, ApiKeyBody),
        Call(
            "GET",
            path,
            calls.list_api_keys,
            "api_key/get",
            "List API keys",
            KeyList,
            parameters=_KEY_PARAMETERS,
            missing=KeyList,
        ),
        Call(
            "DELETE",
            path,
            calls.invalidate_api_keys,
            "api_key/invalidate",
            end,
            EndedKeys,
            InvalidationBody,
        ),
    ]


class _ApiKeys:
    """The handlers."""

    def __init__(self, access: Access, writer: Writer, gate: CredentialGate) -> None:
        self._access = access
        self._writer = writer
        self._gate = gate

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
        return answer(shown | {"api_key": key.secret, "encoded": key.encoded})

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
        return answer({"api_keys": shown}, 404 if criteria.ids and not shown else 200)

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
        return answer(
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
