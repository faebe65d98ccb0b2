"""Users and their passwords."""

from __future__ import annotations

from functools import partial
from typing import Final

from inferry.api.exchange import Answer, Request
from inferry.api.security.answers import Created, Found, Nothing, UserItem
from inferry.api.security.call import ACTION, Call, answer
from inferry.api.security.documents import PasswordBody, UserBody, read_body, show_user
from inferry.commands import DeleteUser, PutUser, SetPassword, SetUserEnabled
from inferry.core.access import Access
from inferry.domain import Json
from inferry.errors import IllegalArgument
from inferry.protocols import Writer
from inferry.security.gate import CredentialGate

_CHANGE_PASSWORD: Final = f"{ACTION}user/change_password"
_PROFILE: Final = frozenset({"with_profile_uid"})


def user_calls(access: Access, writer: Writer, gate: CredentialGate) -> list[Call]:
    """Give the calls."""
    calls = _Users(access, writer, gate)
    users, listed = calls.list_users, dict[str, UserItem]
    user, put, switch = "user/{username}", "Create or change a user", "user/set_enabled"
    secret, change = calls.set_password, "Change a password"
    return [
        Call("GET", "user", users, "user/get", "List users", listed, parameters=_PROFILE),
        Call(
            "GET",
            user,
            users,
            "user/get",
            "List users",
            listed,
            parameters=_PROFILE,
            missing=Nothing,
        ),
        Call("PUT POST", user, calls.put_user, "user/put", put, Created, UserBody),
        Call(
            "DELETE", user, calls.delete_user, "user/delete", "Delete a user", Found, missing=Found
        ),
        Call("PUT POST", "user/_password", secret, None, change, Nothing, PasswordBody),
        Call("PUT POST", f"{user}/_password", secret, None, change, Nothing, PasswordBody),
        Call("PUT POST", f"{user}/_enable", calls.enable_user, switch, "Let a user in", Nothing),
        Call(
            "PUT POST", f"{user}/_disable", calls.disable_user, switch, "Keep a user out", Nothing
        ),
    ]


class _Users:
    """The handlers."""

    def __init__(self, access: Access, writer: Writer, gate: CredentialGate) -> None:
        self._access = access
        self._writer = writer
        self._gate = gate

    async def list_users(self, request: Request) -> Answer:
        """Answer the users that the path names, or all."""
        names = request.path_values.get("username")
        users = self._access.users()
        if names is not None:
            wanted = set(names.split(","))
            users = [user for user in users if user.username in wanted]
        shown: dict[str, Json] = {user.username: show_user(user) for user in users}
        return answer(shown, 404 if names is not None and not shown else 200)

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
        return answer({"created": await self._writer.submit(command)})

    async def delete_user(self, request: Request) -> Answer:
        """Remove a user."""
        found = await self._writer.submit(DeleteUser(request.path_values["username"]))
        return answer({"found": found}, 200 if found else 404)

    async def set_password(self, request: Request) -> Answer:
        """Change a password: the caller's own, or any for who may."""
        principal = request.principal
        username = request.path_values.get("username", principal.username)
        # A key acts for its owner, but does not know the owner's password.
        if principal.kind != "realm" or username != principal.username:
            self._gate.authorize(principal, _CHANGE_PASSWORD)
        body = await request.read(partial(read_body, kind=PasswordBody, call="change_password"))
        await self._writer.submit(SetPassword(username, body.password, body.password_hash))
        return answer({})

    async def enable_user(self, request: Request) -> Answer:
        """Let a user in."""
        await self._writer.submit(SetUserEnabled(request.path_values["username"], enabled=True))
        return answer({})

    async def disable_user(self, request: Request) -> Answer:
        """Keep a user out."""
        await self._writer.submit(SetUserEnabled(request.path_values["username"], enabled=False))
        return answer({})
