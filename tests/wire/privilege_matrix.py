"""Every route, tried by every kind of caller: `python -m tests.wire.privilege_matrix` writes it.

The routes are those of a whole API process, with a supervisor's security writer at the other end
of its channel; other writes are refused there, since only who gets that far matters here.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from inferry.api.exchange import Route
from inferry.app import Parts, build
from inferry.bootstrap import Bootstrap
from inferry.commands import (
    Command,
    CreateApiKey,
    InvalidateApiKeys,
    KeyCriteria,
    NoteFailedLogin,
    PutRole,
    PutUser,
)
from inferry.concurrency import Nursery
from inferry.config import Config
from inferry.errors import BadRequest
from inferry.ipc import COMMAND, answer_commands, open_peer
from inferry.records import Change, RoleDescriptor
from inferry.sections import AuditSection, TelemetrySection
from inferry.security.users import Passwords
from inferry.security.writer import SecurityWriter
from tests.security.conftest import MemoryStore

PASSWORD = "s3cret-pass"
LONG_AGO_S = 1_000_000_000.0  # when the keys were made, so that a short one has expired
PRIVILEGES = (
    *("monitor_inference", "manage_inference", "monitor_ml", "manage_ml"),
    *("monitor", "manage", "all"),
)
ROLES = ("inference_user", "inference_admin", "superuser")
CALLERS = (
    "no credentials",
    "wrong password",
    "no privilege",
    *PRIVILEGES,
    *ROLES,
    "restricted key",
    "expired key",
    "revoked key",
)
_PLACEHOLDERS = {"task_type": "text_embedding", "username": "somebody"}


@dataclass(frozen=True)
class Caller:
    """Somebody who calls. who: as a refusal names it, empty for those who are not let in."""

    name: str
    authorization: str | None
    who: str = ""


@dataclass(frozen=True)
class Answered:
    """What a caller got."""

    route: Route
    uri: str
    caller: Caller
    status: int
    body: str


async def try_everything() -> list[Answered]:
    """Send every route a request of every caller, in the order of the route table."""
    async with _open_process() as (parts, callers):
        routes = sorted(parts.application._table.routes, key=lambda one: (one.path, one.method))
        return [await _try(parts, route, caller) for route in routes for caller in callers]


def render(answers: Sequence[Answered]) -> str:
    """Write the table."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for one in answers:
        action = "open" if one.route.is_open else one.route.action or "none"
        cells = rows.setdefault((one.route.path, one.route.method, action), [])
        cells.append(str(one.status) if one.status in (401, 403) else "yes")
    lines = [
        "# Who may do what",
        "",
        "<!-- Written by `make docs` from the route table; a test holds it. -->",
        "",
        "Every route, tried by every kind of caller: `yes` means that the request got past the "
        "gate. `restricted",
        "key` is a key of a superuser, limited to `monitor_inference`. *none*: every authenticated "
        "caller may; *open*: no",
        "credentials are needed. See [security](security.md).",
        "",
        f"| call | action | {' | '.join(CALLERS)} |",
        f"| --- | --- |{' :-: |' * len(CALLERS)}",
    ]
    lines += [
        f"| `{method} {path}` | {_shown(action)} | {' | '.join(cells)} |"
        for (path, method, action), cells in rows.items()
    ]
    return "\n".join(lines) + "\n"


def _shown(action: str) -> str:
    return f"*{action}*" if action in ("open", "none") else f"`{action}`"


@asynccontextmanager
async def _open_process() -> AsyncIterator[tuple[Parts, list[Caller]]]:
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(Nursery())
        passwords = Passwords()
        stack.callback(passwords.close)
        ours, theirs = socket.socketpair()
        processes: list[Parts] = []

        async def publish(changes: Sequence[Change]) -> None:
            for process in processes:
                process.apply(changes)

        writer = SecurityWriter(MemoryStore(), publish, passwords, now=lambda: LONG_AGO_S)
        handlers = writer.handlers()

        async def run(command: Command) -> Any:
            if isinstance(command, NoteFailedLogin):
                return 0.0  # a wrong password for every route would be too many
            handler = handlers.get(type(command))
            if handler is None:
                raise BadRequest("not carried out here")
            return await handler(command)

        supervisor = await open_peer(ours, {COMMAND: answer_commands(run)}, nursery=nursery)
        peer = await open_peer(theirs, {}, nursery=nursery)
        stack.callback(supervisor.close)
        stack.callback(peer.close)
        quiet = Config(
            telemetry=TelemetrySection(requests="none"), audit=AuditSection(enabled=False)
        )
        bootstrap = Bootstrap(quiet, cluster_uuid="uuid", node_name="node")
        parts = await build(bootstrap, peer, nursery=nursery, stack=stack)
        processes.append(parts)
        yield parts, await _make_callers(writer)


async def _make_callers(writer: SecurityWriter) -> list[Caller]:
    for privilege in PRIVILEGES:
        await writer.put_role(PutRole(f"with-{privilege}", RoleDescriptor([privilege])))
    roles = {"no privilege": ""} | {one: f"with-{one}" for one in PRIVILEGES}
    roles |= {one: one for one in ROLES}
    callers = [
        Caller("no credentials", None),
        Caller("wrong password", _basic("somebody-else", "wrong-pass")),
    ]
    for name, role in roles.items():
        username = name.replace(" ", "-")
        assigned = [role] if role else []
        await writer.put_user(PutUser(username, assigned, password=PASSWORD))
        who = f"user [{username}] with effective roles [{role}]"
        callers.append(Caller(name, _basic(username, PASSWORD), who))
    limited = {"limit": RoleDescriptor(["monitor_inference"])}
    restricted = await writer.create_api_key(
        CreateApiKey("superuser", "restricted", role_descriptors=limited)
    )
    expired = await writer.create_api_key(CreateApiKey("superuser", "expired", "1s"))
    revoked = await writer.create_api_key(CreateApiKey("superuser", "revoked"))
    await writer.invalidate_api_keys(InvalidateApiKeys(KeyCriteria(ids=[revoked.id])))
    who = f"API key id [{restricted.id}] of user [superuser]"
    return [
        *callers,
        Caller("restricted key", f"ApiKey {restricted.encoded}", who),
        Caller("expired key", f"ApiKey {expired.encoded}"),
        Caller("revoked key", f"ApiKey {revoked.encoded}"),
    ]


async def _try(parts: Parts, route: Route, caller: Caller) -> Answered:
    """Send a request with an empty object where a body is taken: nobody gets further than that."""
    path = re.sub(r"{(\w+)}", lambda match: _PLACEHOLDERS.get(match[1], "something"), route.path)
    headers = {"host": "localhost"}
    body = b"{}" if route.takes_body else b""
    if body:
        headers |= {"content-type": "application/json", "content-length": str(len(body))}
    if caller.authorization is not None:
        headers["authorization"] = caller.authorization
    status, answer = await _request(parts, route.method, path, headers, body)
    return Answered(route, path, caller, status, answer.decode())


async def _request(
    parts: Parts, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    scope = {
        "type": "http",
        "method": method,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    status, received = 0, bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        received.extend(message.get("body", b""))

    await parts.application(scope, receive, send)
    return status, bytes(received)


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


if __name__ == "__main__":
    sys.stdout.write(render(asyncio.run(try_everything())))
