"""The audit log: who failed to enter, what was denied, and who changed what.

One JSON object per line, in a file that only its owner reads. The supervisor writes it, for all
processes of the host: a change when it is stored and before its answer, a refusal a moment later.
A line names who, what, from where and how it ended; never a secret, a query or an input.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from inferry import commands
from inferry.commands import Command, NoteRefusals, Refusal
from inferry.concurrency import Nursery
from inferry.errors import InferenceError
from inferry.origin import Origin, current_origin
from inferry.telemetry import get_logger

Run: TypeAlias = Callable[[Command], Awaitable[Any]]

_LONGEST = 512  # characters of a text that a caller chose
_MOST_IDS = 100
_MOST_WAITING = 250
_PAUSE_S = 0.25
"""A process hands on at most a thousand refusals a second; of a flood the rest is only counted."""

# What names the thing that a command changes.
_TARGETS: dict[type[Command], str | None] = {
    commands.PutEndpoint: "inference_id",
    commands.UpdateEndpoint: "inference_id",
    commands.DeleteEndpoint: "inference_id",
    commands.RotateMasterKey: None,
    commands.PutRegionPolicy: None,
    commands.DeleteRegionPolicy: None,
    commands.PutReference: "name",
    commands.DeleteReference: "name",
    commands.PutTrainedModel: "model_id",
    commands.PutDefinitionPart: "model_id",
    commands.PutVocabulary: "model_id",
    commands.DeleteTrainedModel: "model_id",
    commands.PutModelAlias: "model_id",
    commands.DeleteModelAlias: "model_id",
    commands.StartModel: "model_id",
    commands.StopModel: "expression",
    commands.UpdateModel: "deployment_id",
    commands.ClearDeploymentCache: "deployment_id",
    commands.CreateApiKey: "name",
    commands.InvalidateApiKeys: None,
    commands.PutUser: "username",
    commands.DeleteUser: "username",
    commands.SetPassword: "username",
    commands.SetUserEnabled: "username",
    commands.PutRole: "name",
    commands.DeleteRole: "name",
}


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. Times are UTC; a member without a value is left out.

    event: `authentication_failed`, `access_denied`, `changed`, `refusals_dropped`, or
    `sandbox_violated` of a local model. outcome: `denied`, `success` or `failure`. command: what
    was to be carried out. target: what it concerns.
    count: of refusals that a flood left no room for.
    """

    timestamp: str = msgspec.field(name="@timestamp")
    event: str
    outcome: str
    user: str = ""
    api_key_id: str | None = None
    address: str = ""
    action: str = ""
    command: str = ""
    target: dict[str, Any] = {}
    request: str = ""
    request_id: str = ""
    reason: str = ""
    count: int = 0


class AuditLog:
    """Writes the lines of a host. Several files: the newest, and `<path>.1` to `<path>.<files>`.

    max_bytes: of each. now: seconds since the epoch. Raises `OSError` when it cannot be opened.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, files: int, now: Callable[[], float] = time.time
    ) -> None:
        self._file = _PrivateFile(path, maxBytes=max_bytes, backupCount=files, encoding="utf-8")
        self._now = now
        self._turn = asyncio.Lock()

    async def note_refusals(self, noted: NoteRefusals) -> None:
        """Write down who was refused."""
        lines = [_refused(one) for one in noted.refusals]
        if noted.dropped:
            lines.append(
                Line(
                    timestamp=_timestamp(self._now()),
                    event="refusals_dropped",
                    outcome="denied",
                    count=noted.dropped,
                )
            )
        await self.write(lines)

    async def note_violation(self, deployment_id: str, model_id: str, reason: str) -> None:
        """Write down that the worker of a model was ended, and for what."""
        line = Line(
            timestamp=_timestamp(self._now()),
            event="sandbox_violated",
            outcome="denied",
            target={"deployment_id": deployment_id, "model_id": model_id},
            reason=reason,
        )
        await self.write([line])

    def audited(self, run: Run) -> Run:
        """Give `run` with a line for every command that changes something, however it ends."""

        async def run_audited(command: Command) -> Any:
            if type(command) not in _TARGETS or getattr(command, "dry_run", False):
                return await run(command)
            try:
                reply = await run(command)
            except InferenceError as error:
                await self.write([self._changed(command, None, type(error).__name__)])
                raise
            await self.write([self._changed(command, reply, "")])
            return reply

        return run_audited

    async def write(self, lines: Sequence[Line]) -> None:
        """Append lines; what cannot be written is told in the server's log."""
        async with self._turn:
            try:
                await asyncio.to_thread(self._file.append, [_encode(line) for line in lines])
            except OSError as error:
                get_logger().error(
                    "the audit log cannot be written", lines_lost=len(lines), reason=str(error)
                )

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _changed(self, command: Command, reply: Any, failure: str) -> Line:
        return _line(
            current_origin(),
            timestamp=_timestamp(self._now()),
            event="changed",
            outcome="failure" if failure else "success",
            command=_snake_case(type(command).__name__),
            target=_target_of(command, reply),
            reason=failure,
        )


class Refusals:
    """Collects the refusals of an API process and hands them on, some at a time.

    submit: has the supervisor carry out a command.
    """

    def __init__(self, submit: Run, *, nursery: Nursery) -> None:
        self._submit = submit
        self._nursery = nursery
        self._waiting: list[Refusal] = []
        self._dropped = 0
        self._is_pausing = False

    def note(self, refusal: Refusal) -> None:
        """Take a refusal; the first goes on at once, those that follow it a moment later."""
        if len(self._waiting) >= _MOST_WAITING:
            self._dropped += 1
            return
        self._waiting.append(refusal)
        if not self._is_pausing:
            self._is_pausing = True
            self._nursery.start(self._serve())

    async def flush(self) -> None:
        """Hand on what waits."""
        waiting, dropped = self._waiting, self._dropped
        self._waiting, self._dropped = [], 0
        if waiting:
            await self._submit(NoteRefusals(waiting, dropped))

    async def _serve(self) -> None:
        try:
            while self._waiting:
                await self.flush()
                await asyncio.sleep(_PAUSE_S)
        except InferenceError as error:
            get_logger().error("refusals are missing in the audit log", reason=str(error))
        finally:
            self._is_pausing = False


class _PrivateFile(RotatingFileHandler):
    """A file that rotates by size and that only its owner reads."""

    def append(self, lines: Sequence[str]) -> None:
        """Write lines. Raises `OSError`."""
        for line in lines:
            self.emit(logging.makeLogRecord({"msg": line}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the library's name
        """Let the caller know."""
        raise  # noqa: PLE0704  the library calls this where the error is handled

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _refused(refusal: Refusal) -> Line:
    return _line(
        refusal.origin,
        timestamp=_timestamp(refusal.at_s),
        event=refusal.event,
        outcome="denied",
        reason=refusal.reason,
    )


def _line(origin: Origin, **more: Any) -> Line:
    return Line(
        user=origin.user[:_LONGEST],
        api_key_id=origin.api_key_id,
        address=origin.address[:_LONGEST],
        action=origin.action,
        request=origin.request[:_LONGEST],
        request_id=origin.request_id,
        **more,
    )


def _target_of(command: Command, reply: Any) -> dict[str, Any]:
    """Name what a command concerns, and what only its reply tells."""
    name = _TARGETS[type(command)]
    target: dict[str, Any] = {}
    if name is not None:
        target[name] = str(getattr(command, name))[:_LONGEST]
    match reply:
        case commands.NewApiKey(id=key_id):
            target["api_key_id"] = key_id
        case commands.Invalidation(invalidated=ids):
            target |= {"api_key_ids": ids[:_MOST_IDS], "api_keys": len(ids)}
    match command:
        case commands.SetUserEnabled(enabled=enabled):
            target["enabled"] = enabled
        case commands.PutUser(roles=list() as roles):
            target["roles"] = roles[:_MOST_IDS]
    return target


def _encode(line: Line) -> str:
    return msgspec.json.encode(line).decode()


def _timestamp(at_s: float) -> str:
    return (
        datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _snake_case(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name).lstrip("_")
