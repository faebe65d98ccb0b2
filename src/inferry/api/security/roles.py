"""Roles, the built-in ones included."""

from __future__ import annotations

from functools import partial

from inferry.api.exchange import Answer, Request
from inferry.api.security.answers import Found, Nothing, RoleCreated, RoleItem
from inferry.api.security.call import Call, answer
from inferry.api.security.documents import RoleBody, read_body, show_role
from inferry.commands import DeleteRole, PutRole
from inferry.domain import Json
from inferry.protocols import Writer
from inferry.security.gate import CredentialGate


def role_calls(writer: Writer, gate: CredentialGate) -> list[Call]:
    """Give the calls."""
    calls = _Roles(writer, gate)
    roles, listed = calls.list_roles, dict[str, RoleItem]
    role, put = "role/{name}", "Create or change a role"
    return [
        Call("GET", "role", roles, "role/get", "List roles", listed),
        Call("GET", role, roles, "role/get", "List roles", listed, missing=Nothing),
        Call("PUT POST", role, calls.put_role, "role/put", put, RoleCreated, RoleBody),
        Call(
            "DELETE", role, calls.delete_role, "role/delete", "Delete a role", Found, missing=Found
        ),
    ]


class _Roles:
    """The handlers."""

    def __init__(self, writer: Writer, gate: CredentialGate) -> None:
        self._writer = writer
        self._gate = gate

    async def list_roles(self, request: Request) -> Answer:
        """Answer the roles that the path names, or all, the built-in ones included."""
        names = request.path_values.get("name")
        if names is None:
            found = self._gate.roles()
        else:
            wanted = set(names.split(","))
            found = {name: role for name, role in self._gate.roles().items() if name in wanted}
        shown: dict[str, Json] = {name: show_role(found[name]) for name in sorted(found)}
        return answer(shown, 404 if names is not None and not shown else 200)

    async def put_role(self, request: Request) -> Answer:
        """Create or replace a role."""
        body = await request.read(partial(read_body, kind=RoleBody, call="put_role"))
        created = await self._writer.submit(PutRole(request.path_values["name"], body.descriptor()))
        return answer({"role": {"created": created}})

    async def delete_role(self, request: Request) -> Answer:
        """Remove a role."""
        found = await self._writer.submit(DeleteRole(request.path_values["name"]))
        return answer({"found": found}, 200 if found else 404)
