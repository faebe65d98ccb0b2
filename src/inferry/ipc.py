"""What the processes of a host say to each other, and how it travels.

A channel is one end of a socket pair, so it has no path and nobody else can reach it; a model
worker listens besides, on a socket that only its owner can open. A frame is a little-endian uint32,
the length of the rest, and a MessagePack array `[kind, id, name, body]`. Both ends may call; calls
run concurrently and are told apart by `id`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, reduce
from operator import or_
from pathlib import Path
from struct import Struct
from typing import Any, TypeAlias, cast

import msgspec

from inferry.commands import Command
from inferry.concurrency import Nursery
from inferry.errors import (
    BodyTooLarge,
    IllegalArgument,
    InferenceError,
    InternalError,
    ShuttingDown,
    error_from_wire,
    error_to_wire,
)
from inferry.gathering import Gathering
from inferry.origin import NOBODY, Origin, bind_origin, current_origin
from inferry.records import Change
from inferry.telemetry import get_logger
from inferry.unix_sockets import short_address

MAX_FRAME_BYTES = 64 * 1024 * 1024
MOST_CALLS_OF_A_STRANGER = 4096
MOST_UNREAD_BYTES_OF_A_STRANGER = 16 * 1024 * 1024
_LENGTH = Struct("<I")

Handler: TypeAlias = Callable[[bytes], Coroutine[Any, Any, bytes]]
"""Answers one call. Handlers start in the order in which calls arrive."""


@dataclass(eq=False)
class ChannelClosed(ShuttingDown):
    """The process at the other end has gone, or the channel was closed here."""


class _Kind(IntEnum):
    CALL = 0
    REPLY = 1
    ERROR = 2
    GIVEN_UP = 3


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    """One message. name: what is called, empty otherwise."""

    kind: int
    id: int
    name: str
    body: bytes


class Peer(asyncio.Protocol):
    """One end of a channel. Make it with `open_peer`.

    A call that the other end makes runs in `nursery`, to its end, even when the caller gives up or
    the channel closes; unless `drops_orphans`, then it is cancelled. The channel to one that
    `is_stranger`, and may mean harm, is closed when it calls without end or does not read.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        nursery: Nursery,
        *,
        drops_orphans: bool = False,
        is_stranger: bool = False,
    ) -> None:
        self._handlers = handlers
        self._nursery = nursery
        self._is_stranger = is_stranger
        self._calls = 0
        self._running: dict[int, asyncio.Task[bytes]] | None = {} if drops_orphans else None
        self._gathering: Gathering | None = None
        self._received = bytearray()
        self._decoder = msgspec.msgpack.Decoder(_Frame)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._last_id = 0
        self._writable = asyncio.Event()
        self._closed = asyncio.Event()

    async def call(self, name: str, body: bytes = b"") -> bytes:
        """Have the other end run its handler `name` and give what it gives.

        What becomes of the handler when the caller is cancelled is the other end's choice. Raises
        what the handler raised, rebuilt with its causes; `ChannelClosed`; `BodyTooLarge` above
        `MAX_FRAME_BYTES`.
        """
        if len(body) > MAX_FRAME_BYTES:
            raise BodyTooLarge(
                f"a message of [{len(body)}] bytes is above the limit of [{MAX_FRAME_BYTES}] "
                "between the processes of the server"
            )
        if not self._writable.is_set():
            await self._writable.wait()
        if self._closed.is_set():
            raise _closed()
        self._last_id = number = self._last_id + 1
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiter
        try:
            self._send(_Frame(_Kind.CALL, number, name, body))
            return await waiter
        except asyncio.CancelledError:
            self._send(_Frame(_Kind.GIVEN_UP, number, "", b""))
            raise
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Close after what was written has left; calls that wait fail."""
        if self._gathering is not None:
            self._gathering.close()

    @property
    def is_closed(self) -> bool:
        """Whether the channel is closed, from either end."""
        return self._closed.is_set()

    async def closed(self) -> None:
        """Wait until the channel is closed, from either end."""
        await self._closed.wait()

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; callers may write."""
        written = cast("asyncio.Transport", transport)
        self._gathering = Gathering(asyncio.get_running_loop(), written)
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every call that waits, and cancel those that nobody waits for any more."""
        self._closed.set()
        self._writable.set()
        for task in list((self._running or {}).values()):
            task.cancel()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(_closed())

    def pause_writing(self) -> None:
        """Hold callers back: the other end reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let callers write again."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Take what arrived apart into frames."""
        kept = self._received
        if kept:
            kept += data
        try:
            frames, end = self._split(kept or data)
            if kept:
                del kept[:end]
            elif end < len(data):
                kept += data[end:]
            for frame in frames:
                self._accept(frame)
        except (msgspec.MsgspecError, ValueError) as error:
            get_logger().error("unreadable frame, closing the channel", reason=str(error))
            self.close()

    def _split(self, received: bytes | bytearray) -> tuple[list[_Frame], int]:
        """Give the complete frames, and where the rest begins. Raises ValueError, MsgspecError."""
        frames = []
        start, end = 0, len(received)
        with memoryview(received) as view:
            while end - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(received, start)
                if length > 2 * MAX_FRAME_BYTES:
                    raise ValueError(f"a frame of [{length}] bytes is too long")
                body = start + _LENGTH.size
                if end - body < length:
                    break
                start = body + length
                with view[body:start] as one:
                    frames.append(self._decoder.decode(one))
        return frames, start

    def _accept(self, frame: _Frame) -> None:
        if frame.kind == _Kind.CALL:
            self._start(frame)
            return
        if frame.kind == _Kind.GIVEN_UP:
            orphan = (self._running or {}).get(frame.id)
            if orphan is not None:
                orphan.cancel()
            return
        waiter = self._waiting.get(frame.id)
        if waiter is None or waiter.done():
            return  # its caller gave up
        if frame.kind == _Kind.ERROR:
            waiter.set_exception(error_from_wire(msgspec.msgpack.decode(frame.body)))
        else:
            waiter.set_result(frame.body)

    def _start(self, frame: _Frame) -> None:
        handler = self._handlers.get(frame.name)
        if handler is None:
            self._refuse(frame.id, InternalError(f"nothing answers calls of [{frame.name}]"))
            return
        self._calls += 1
        if self._is_stranger and self._calls > MOST_CALLS_OF_A_STRANGER:
            self._close_to_stranger("calls without end")
            return
        task = self._nursery.start(handler(frame.body))
        if self._running is not None:
            self._running[frame.id] = task
        task.add_done_callback(lambda done: self._answer(frame, done))

    def _answer(self, call: _Frame, task: asyncio.Task[bytes]) -> None:
        self._calls -= 1
        if self._running is not None:
            del self._running[call.id]
        if task.cancelled():
            self._refuse(call.id, ShuttingDown("the server is shutting down"))
            return
        error = task.exception()
        if error is None and len(task.result()) <= MAX_FRAME_BYTES:
            self._send(_Frame(_Kind.REPLY, call.id, "", task.result()))
        elif isinstance(error, InferenceError):
            self._refuse(call.id, error)
        else:
            get_logger().error("a call between processes failed", call=call.name, exc_info=error)
            self._refuse(call.id, InternalError("internal error"))

    def _refuse(self, number: int, error: InferenceError) -> None:
        body = msgspec.msgpack.encode(error_to_wire(error))
        self._send(_Frame(_Kind.ERROR, number, "", body))

    def _send(self, frame: _Frame) -> None:
        """Write a frame; the frames of one turn of the loop leave, and arrive, together."""
        if self._gathering is None or self._closed.is_set():
            return
        body = msgspec.msgpack.encode(frame)
        self._gathering.write(_LENGTH.pack(len(body)) + body)
        if self._is_stranger and frame.kind != _Kind.CALL:
            unread = self._gathering.get_write_buffer_size()
            if unread > MOST_UNREAD_BYTES_OF_A_STRANGER:
                self._close_to_stranger("does not read what it is answered")

    def _close_to_stranger(self, reason: str) -> None:
        """End a channel at once, with what was written and not read."""
        get_logger().error("a model worker misuses its channel, closing it", reason=reason)
        if self._gathering is not None:
            self._gathering.abort()


async def open_peer(
    end: socket.socket,
    handlers: Mapping[str, Handler],
    *,
    nursery: Nursery,
    drops_orphans: bool = False,
    is_stranger: bool = False,
) -> Peer:
    """Speak over `end`, one end of a Unix socket pair, which the peer owns from now on."""
    _, peer = await asyncio.get_running_loop().create_unix_connection(
        lambda: Peer(handlers, nursery, drops_orphans=drops_orphans, is_stranger=is_stranger),
        sock=end,
    )
    return peer


async def listen_for_peers(
    listening: socket.socket, handlers: Mapping[str, Handler], *, nursery: Nursery
) -> asyncio.Server:
    """Answer whoever connects to `listening`; what a caller gives up, or leaves behind, ends."""
    return await asyncio.get_running_loop().create_unix_server(
        lambda: Peer(handlers, nursery, drops_orphans=True), sock=listening
    )


async def connect_peer(path: Path, *, nursery: Nursery) -> Peer:
    """Reach the model worker that listens on the Unix socket at `path`. Raises `ChannelClosed`."""
    loop = asyncio.get_running_loop()
    try:
        with short_address(path) as address:
            _, peer = await loop.create_unix_connection(
                lambda: Peer({}, nursery, is_stranger=True), address
            )
    except OSError as error:
        raise _closed() from error
    return peer


def _closed() -> ChannelClosed:
    return ChannelClosed("the server is shutting down: the process that answers this has ended")


# --- commands ------------------------------------------------------------------------------------

COMMAND = "command"


class RemoteWriter:
    """The supervisor's writer, as an API process reaches it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def submit(self, command: Command) -> Any:
        """Run `command` in the supervisor to its end and give its reply."""
        body = await self._peer.call(COMMAND, encode_command(command, current_origin()))
        return decode_reply(type(command), body)


def answer_commands(run: Callable[[Command], Awaitable[Any]]) -> Handler:
    """Make the handler that takes commands off a channel and has `run` carry them out."""

    async def answer(body: bytes) -> bytes:
        origin, command = decode_command(body)
        bind_origin(origin)  # of this task, which runs the command
        return encode_reply(await run(command))

    return answer


def encode_command(command: Command, origin: Origin = NOBODY) -> bytes:
    """Encode for another process. Raises `IllegalArgument` for what MessagePack cannot carry."""
    try:
        return msgspec.msgpack.encode((origin, command))
    except OverflowError as error:
        raise IllegalArgument("a number is out of the range of 64 bits") from error
    except UnicodeEncodeError as error:
        raise IllegalArgument("a text has a surrogate that stands alone") from error


def decode_command(body: bytes) -> tuple[Origin, Command]:
    """Decode what `encode_command` encoded, the command as the class that it was."""
    decoded: tuple[Origin, Command] = _command_decoder().decode(body)
    return decoded


def encode_reply(reply: object) -> bytes:
    """Encode the reply to a command."""
    return msgspec.msgpack.encode(reply)


def decode_reply(command: type[Command], body: bytes) -> Any:
    """Decode the reply to `command`, typed by its `Reply`."""
    return msgspec.msgpack.decode(body, type=command.Reply)


@cache
def _command_decoder() -> msgspec.msgpack.Decoder[Any]:
    kinds = reduce(or_, Command.__subclasses__())
    return msgspec.msgpack.Decoder(tuple[Origin, kinds])  # type: ignore[valid-type]


# --- changes -------------------------------------------------------------------------------------


def encode_changes(changes: Sequence[Change]) -> bytes:
    """Encode changes for an API process."""
    return msgspec.msgpack.encode(changes)


def decode_changes(body: bytes) -> list[Change]:
    """Decode what `encode_changes` encoded."""
    return msgspec.msgpack.decode(body, type=list[Change])


def pages_of(changes: Iterable[Change], *, max_bytes: int = 1024 * 1024) -> Iterator[bytes]:
    """Encode many changes as bodies of about `max_bytes` each, so that no frame is too long."""
    page: list[msgspec.Raw] = []
    size = 0
    for change in changes:
        encoded = msgspec.msgpack.encode(change)
        page.append(msgspec.Raw(encoded))
        size += len(encoded)
        if size >= max_bytes:
            yield msgspec.msgpack.encode(page)
            page, size = [], 0
    if page:
        yield msgspec.msgpack.encode(page)
