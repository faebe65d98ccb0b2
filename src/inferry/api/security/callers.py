"""Who calls, and what they may do."""

from __future__ import annotations

from functools import partial

from inferry.api.exchange import Answer, Request
from inferry.api.security.answers import Caller, HeldPrivileges, PrivilegeNames
from inferry.api.security.call import Call, answer
from inferry.api.security.documents import PrivilegesBody, read_body, show_caller
from inferry.core.access import Access
from inferry.errors import InvalidRequest
from inferry.security.gate import CredentialGate


def caller_calls(access: Access, gate: CredentialGate) -> list[Call]:
    """Give the calls."""
    calls = _Callers(access, gate)
    asks = "Tell which privileges the caller has"
    names = "List the names of privileges"
    check, show = calls.check_privileges, calls.list_privileges
    return [
        Call("GET", "_authenticate", calls.show_caller, None, "Show who calls", Caller),
        Call("GET POST", "user/_has_privileges", check, None, asks, HeldPrivileges, PrivilegesBody),
        Call("GET", "privilege/_builtin", show, "privilege/builtin/get", names, PrivilegeNames),
    ]


class _Callers:
    """The handlers."""

    def __init__(self, access: Access, gate: CredentialGate) -> None:
        self._access = access
        self._gate = gate

    async def show_caller(self, request: Request) -> Answer:
        """Answer who calls."""
        principal = request.principal
        user = self._access.user(principal.username) if principal.kind == "realm" else None
        return answer(show_caller(principal, user, self._gate.realm_name(principal.username)))

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
        return answer(
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
        return answer({"cluster": self._gate.privilege_names(), "index": []})
