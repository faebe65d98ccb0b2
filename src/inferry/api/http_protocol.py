"""uvicorn's httptools protocol with our limits, and our words for what its parser refuses.

Three things differ: what the parser cannot take is answered in the envelope of the wire, with the
product header; heads are limited in size and time; and a client that hangs up cancels its request
at once, so that an abandoned call to a provider ends. A request that fits in one read pays for none
of it but a few comparisons. What needs no waiting takes no ASGI message, see `Direct`, or not even
a task; the events of a stream that came together leave in one write.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from inferry.api.direct import DIRECT, AnswerAtOnce, Whole
from inferry.api.routes import METHODS
from inferry.concurrency import start_in

_MOST_GATHERED_BYTES: Final = 64 * 1024
_START: Final = re.compile(rb"[\r\n]*([A-Z][A-Z_-]{1,30}) ([\x21-\x7e]{1,2048})")
_UPGRADE: Final = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*")
_ALLOWED: Final = ", ".join(sorted(METHODS))


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may take.

    max_head_bytes: request line and headers together. head_timeout_s: time to send them.
    max_connections: per process.
    """

    max_head_bytes: int = 64 * 1024
    head_timeout_s: float = 30.0
    max_connections: int = 10_000


def protocol_factory(
    limits: HttpLimits, answer_at_once: AnswerAtOnce = lambda _: None
) -> Callable[..., asyncio.Protocol]:
    """Give what uvicorn's `Config(http=...)` makes protocols with."""
    return partial(LimitedHttpProtocol, limits=limits, answer_at_once=answer_at_once)


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, *args: Any, limits: HttpLimits, answer_at_once: AnswerAtOnce, **named: Any
    ) -> None:
        super().__init__(*args, **named)
        self._limits = limits
        self._answer_at_once = answer_at_once
        self._serve = self.app
        self.app = self._run
        self._running: asyncio.Task[Any] | None = None
        self._left = False
        self._in_head = True
        self._chunk = b""
        self._head_bytes = 0  # at most: a chunk counts whole until a request begins in it
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal: bytes | None = None

    # --- the connection --------------------------------------------------------------------------

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            self._refuse(
                _refusal(503, "too many open connections", "es_rejected_execution_exception")
            )
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was under way for the client that left."""
        self._forget_timer()
        super().connection_lost(exc)
        self._abandon()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and hold the head of a request against its limits."""
        if self._in_head and b"pgrade" in data:
            data = _without_upgrade(data)
        self._chunk = data
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        self._chunk = b""
        if not self._in_head or self.transport.is_closing():
            return
        if self._head_bytes > self._limits.max_head_bytes:
            self._refuse(self._too_large())
        elif self._head_timer is None and self._head_bytes:
            self._expect_head()

    # --- the parser's callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = len(self._chunk)

    def on_headers_complete(self) -> None:
        """Start the request, if its head is within the limits."""
        self._forget_timer()
        self._in_head = False
        if (
            self._head_bytes > self._limits.max_head_bytes
            and self._exact() > self._limits.max_head_bytes
        ):
            self._refusal = self._too_large()
            raise httptools.HttpParserError("head too large")
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request; the next one begins with its head."""
        super().on_message_complete()
        self._in_head = True

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser could not take, if the answer can still be told apart."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                # A request that was fine is being answered: what came behind it closes, unanswered.
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            self._abandon()
            if cycle.response_started:
                self.transport.close()
                return
        self._refuse(self._refusal or self._unreadable())

    # --- one request -----------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        direct = _Direct(self.loop, self.transport, cycle)
        # One that waited behind others is the last of them, else a long queue would end in a stack.
        if cycle is self.cycle:
            whole = self._answer_at_once(scope)
            if whole is not None and direct.send_whole(whole):
                return
        scope["extensions"] = {DIRECT: direct}
        cycle.transport = direct  # type: ignore[assignment]
        cycle.on_response = direct.finish
        self._running = start_in(self.tasks, cycle.run_asgi(app))

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request in a way that can be given up."""
        try:
            await self._serve(scope, receive, send)
        except asyncio.CancelledError:
            if not self._left:
                raise

    def _abandon(self) -> None:
        if self._running is not None:
            self._left = True
            self._running.cancel()

    # --- limits ----------------------------------------------------------------------------------

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._head_bytes:
            self._refuse(_refusal(408, "the request did not arrive in time", "timeout_exception"))
        else:
            self.transport.close()

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _exact(self) -> int:
        """Count the head that was parsed."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> bytes:
        limit = self._limits.max_head_bytes
        text = f"request line and headers exceed the maximum of [{limit}] bytes"
        return _refusal(431, text, "too_long_http_header_exception")

    def _unreadable(self) -> bytes:
        """Tell an unknown method from everything else that cannot be read."""
        start = _START.match(self._chunk) if self._head_bytes == len(self._chunk) else None
        if start is not None and start[1].decode() not in METHODS:
            method, uri = start[1].decode(), start[2].decode()
            text = f"Unexpected HTTP method [{method}] for uri [{uri}], allowed: [{_ALLOWED}]"
            return _answer(405, {"error": text, "status": 405})
        return _refusal(400, "the HTTP request cannot be read", "illegal_argument_exception")

    def _refuse(self, answer: bytes) -> None:
        self._forget_timer()
        self.transport.write(answer)
        self.transport.close()


class _Direct:
    """The connection of one request, see `Direct`, and the transport of its answer.

    What is written in one turn of the loop leaves in one write.
    """

    __slots__ = ("_cycle", "_loop", "_parts", "_size", "_then", "_transport")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        cycle: RequestResponseCycle,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._cycle = cycle
        self._then = cycle.on_response
        self._parts: list[bytes] = []
        self._size = 0

    def take_body(self) -> bytes | None:
        """Give the whole body if it has arrived."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected:
            return None
        cycle.flow.resume_reading()
        return bytes(cycle.body)

    def send_whole(self, whole: Whole) -> bool:
        """Write a whole answer; False when it must go the usual way, which waits or objects."""
        cycle = self._cycle
        if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:
            return False
        status, pairs, body = whole
        parts = [STATUS_LINE[status]]
        for name, value in chain(cycle.default_headers, pairs):
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != len(parts) // 4 + 2 + (not cycle.keep_alive):
            return False  # a value has a line end in it
        self._transport.write(head if cycle.scope["method"] == "HEAD" else head + body)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._transport.close()
        self._then()
        return True

    def write(self, data: bytes) -> None:
        """Write by the end of this turn of the loop, or now when enough has come together."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MOST_GATHERED_BYTES:
            self._flush()

    def is_closing(self) -> bool:
        """Tell whether the connection closes."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close after what was written has left."""
        self._flush()
        self._transport.close()

    def finish(self) -> None:
        """End the answer."""
        self._flush()
        self._then()

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()
            self._size = 0


def _without_upgrade(data: bytes) -> bytes:
    """Take the wish for another protocol out of a head.

    Java's HttpClient offers HTTP/2 with every first request; the parser would then take the body
    for the other protocol, and the request would arrive without it.
    """
    head, blank, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head) + blank + rest


def _refusal(status: int, reason: str, name: str) -> bytes:
    cause = {"type": name, "reason": reason}
    return _answer(status, {"error": {"root_cause": [cause], **cause}, "status": status})


def _answer(status: int, document: dict[str, Any]) -> bytes:
    """Write a whole response after which the connection closes."""
    body = msgspec.json.encode(document)
    return b"".join(
        [
            STATUS_LINE[status],
            b"content-type: application/json\r\n",
            b"x-elastic-product: Elasticsearch\r\n",
            b"content-length: %d\r\n" % len(body),
            b"connection: close\r\n\r\n",
            body,
        ]
    )
