"""The API processes of this host: started, kept up to date, replaced when they die, drained.

A process serves only after it holds every record, and a change is acknowledged only after every
process that serves has applied it: so an answer is never older than the last acknowledged write.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from inferry.bootstrap import Bootstrap, StartRefused, environment_of_children
from inferry.children import Backoff, Child, start_child
from inferry.commands import Command
from inferry.concurrency import Nursery, run_all
from inferry.errors import InferenceError
from inferry.ipc import (
    COMMAND,
    ChannelClosed,
    Handler,
    answer_commands,
    encode_changes,
    pages_of,
)
from inferry.records import Change, EndpointRecord, Put, Record
from inferry.telemetry import get_logger

BEGIN, LOAD, SERVE, PUBLISH, DRAIN = "begin", "load", "serve", "publish", "drain"
"""What the supervisor calls in an API process, in this order."""
WARN = "warn"
"""Tells an API process why it shall say that it is not ready; an empty body takes it back."""

_ACKNOWLEDGE_S = 10.0
_EXIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Launch:
    """What every API process gets.

    sockets: bound, shared by all processes; they listen there. metrics_directory: shared counters.
    """

    bootstrap: Bootstrap
    sockets: Sequence[socket.socket]
    metrics_directory: Path


@dataclass(eq=False, slots=True)
class _ApiProcess:
    """One of them. missed: what was published while it loads, None once it holds everything."""

    child: Child
    missed: list[Change] | None = field(default_factory=list)


class Fleet:
    """Keeps the API processes. Use as an async context manager; leaving it ends them.

    jobs: where commands of the API processes run, so that a write ends as it would have even when
    the process or its client dies.
    """

    def __init__(self, launch: Launch, *, jobs: Nursery) -> None:
        self._launch = launch
        self._jobs = jobs
        self._records: Callable[[], Iterable[Record]] = list
        self._answers: dict[str, Handler] = {}
        self._keepers = Nursery()
        self._processes: list[_ApiProcess] = []
        self._warning = b""
        self._is_draining = False

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_draining = True
        async with self._keepers:
            await run_all(self._end(one) for one in self._processes)

    async def start(
        self,
        count: int,
        *,
        run: Callable[[Command], Awaitable[Any]],
        records: Callable[[], Iterable[Record]],
    ) -> None:
        """Start `count` processes and return when all serve. Raises `StartRefused`.

        run: carries out what they ask for. records: gives every record that is served, as of the
        first step into it.
        """
        self._records = records
        self._answers = {COMMAND: answer_commands(run)}
        try:
            started = await run_all(self._start_one() for _ in range(count))
        except ChannelClosed as error:
            raise StartRefused(
                "an API process ended while it started; its output above says why"
            ) from error
        for one in started:
            self._keepers.start(self._keep(one))

    async def publish(self, changes: Sequence[Change]) -> None:
        """Have every process serve `changes`; return when all that serve do.

        A process that dies, or that does not apply them in time and is ended for it, does not
        hold up the rest: its successor starts with all records.
        """
        public = [_without_secrets(change) for change in changes]
        body = encode_changes(public)
        waiting = []
        for one in self._processes:
            if one.missed is None:
                waiting.append(self._tell(one, PUBLISH, body))
            else:
                one.missed += public
        await run_all(waiting)

    async def warn(self, reason: str | None) -> None:
        """Have every process say that it is not ready, and why; None takes it back."""
        self._warning = (reason or "").encode()
        serving = [one for one in self._processes if one.missed is None]
        await run_all(self._tell(one, WARN, self._warning) for one in serving)

    async def drain(self) -> None:
        """Stop accepting, let running requests end within the drain timeout, end all processes."""
        self._is_draining = True
        for listening in self._launch.sockets:
            listening.close()
        await run_all(self._drain_one(one) for one in list(self._processes))

    # --- one process -----------------------------------------------------------------------------

    async def _start_one(self) -> _ApiProcess:
        """Start a process, give it all records and have it serve. Raises what stops it."""
        one = await self._spawn()
        try:
            await one.child.peer.call(BEGIN, msgspec.msgpack.encode(self._launch.bootstrap))
            # What changes while this goes on is in `missed`, and newer than what is sent here.
            for page in pages_of(_without_secrets(Put(record)) for record in self._records()):
                await one.child.peer.call(LOAD, page)
            while one.missed:
                changes, one.missed = one.missed, []
                await one.child.peer.call(LOAD, encode_changes(changes))
            one.missed = None
            await one.child.peer.call(WARN, self._warning)
            await one.child.peer.call(SERVE)
        except InferenceError:
            await self._end(one)
            raise
        return one

    async def _spawn(self) -> _ApiProcess:
        """Start a process; from here on it misses no change."""
        metrics_directory = self._launch.metrics_directory
        child = await start_child(
            "inferry.app",
            self._launch.sockets,
            self._answers,
            nursery=self._jobs,
            environment=environment_of_children(os.environ, metrics_directory=metrics_directory),
        )
        one = _ApiProcess(child)
        self._processes.append(one)
        return one

    async def _keep(self, one: _ApiProcess) -> None:
        """Replace `one` whenever it dies, after a pause that grows while it dies young."""
        backoff = Backoff()
        while True:
            await one.child.peer.closed()
            await self._end(one)
            if self._is_draining:
                return
            get_logger().error(
                "an API process ended, starting another",
                pid=one.child.process.pid,
                returncode=one.child.process.returncode,
            )
            one = await self._replacement(one, backoff)

    async def _replacement(self, dead: _ApiProcess, backoff: Backoff) -> _ApiProcess:
        """Start a process, trying until it works."""
        died: Child | None = dead.child
        while True:
            await backoff.pause(died)
            died = None
            try:
                return await self._start_one()
            except InferenceError as error:
                get_logger().error("an API process did not start", reason=str(error))

    async def _tell(self, one: _ApiProcess, name: str, body: bytes) -> None:
        try:
            async with asyncio.timeout(_ACKNOWLEDGE_S):
                await one.child.peer.call(name, body)
        except ChannelClosed:
            await self._end(one)  # it may answer no more after we return
        except (TimeoutError, InferenceError) as error:
            get_logger().error(
                "an API process did not answer in time, ending it",
                call=name,
                pid=one.child.process.pid,
                reason=str(error) or "no answer",
            )
            one.child.peer.close()
            one.child.kill()
            await self._end(one)

    async def _drain_one(self, one: _ApiProcess) -> None:
        limit_s = self._launch.bootstrap.config.server.drain_timeout_s + _EXIT_S
        with suppress(ChannelClosed, TimeoutError):
            async with asyncio.timeout(limit_s):
                await one.child.peer.call(DRAIN)
        await self._end(one)

    async def _end(self, one: _ApiProcess) -> None:
        await one.child.end()
        if one in self._processes:
            self._processes.remove(one)


def _without_secrets(change: Change) -> Change:
    """Leave sealed secrets out: an API process asks for those of an endpoint that it calls."""
    match change:
        case Put(record=EndpointRecord(secrets=bytes()) as record):
            public = msgspec.structs.replace(record, secrets=None)
            return msgspec.structs.replace(change, record=public)
        case _:
            return change
