"""Processes that the supervisor starts: exec'ed clean, each on a channel of its own.

Whatever they are, they end when their channel closes, and are ended when they do not.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from inferry.concurrency import Nursery
from inferry.ipc import Handler, Peer, open_peer

_EXIT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_STEADY_S = 60.0


@dataclass(eq=False, slots=True)
class Child:
    """A process and the channel to it. started_at: on the monotonic clock."""

    process: Process
    peer: Peer
    started_at: float

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        """Close the channel, upon which the process ends by itself, else end it.

        It has ended then, also where nobody waits so long.
        """
        self.peer.close()
        try:
            async with asyncio.timeout(_EXIT_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()
        except asyncio.CancelledError:
            self.kill()
            await self.process.wait()
            raise


async def start_child(
    module: str,
    sockets: Sequence[socket.socket],
    handlers: Mapping[str, Handler],
    *,
    nursery: Nursery,
    environment: Mapping[str, str],
    is_stranger: bool = False,
) -> Child:
    """Run `python -m module CHANNEL SOCKET...`, the numbers of inherited descriptors.

    handlers: answer what it calls, in `nursery`. is_stranger: see `Peer`.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        descriptors = [theirs.fileno(), *(one.fileno() for one in sockets)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", module),
            *map(str, descriptors),
            pass_fds=descriptors,
            env=environment,
            stdin=DEVNULL,
            stdout=DEVNULL if is_stranger else None,  # it could fill a disk with what it prints
            start_new_session=True,  # Ctrl-C in a terminal is for us alone
        )
    try:
        peer = await open_peer(ours, handlers, nursery=nursery, is_stranger=is_stranger)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return Child(process, peer, time.monotonic())


class Backoff:
    """Pauses before a process is started again, growing while it dies young."""

    def __init__(self, *, longest_s: float = _LONGEST_PAUSE_S) -> None:
        self._longest_s = longest_s
        self._next_s = _FIRST_PAUSE_S

    async def pause(self, died: Child | None = None) -> None:
        """Wait before the next attempt, shortly if `died` had lived for a while."""
        if died is not None and time.monotonic() - died.started_at > _STEADY_S:
            self._next_s = _FIRST_PAUSE_S
        pause_s = self._next_s
        self._next_s = min(pause_s * 2, self._longest_s)
        await asyncio.sleep(pause_s)
