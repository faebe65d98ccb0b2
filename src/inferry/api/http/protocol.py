"""uvicorn's httptools protocol with our limits, and our words for what its parser refuses.

Three things differ: what the parser cannot take is answered in the envelope of the wire, with the
product header; what one connection may take is limited in size and time; and a client that hangs up
cancels its request at once, so that an abandoned call to a provider ends. A request that fits in
one read pays for none of it but a few comparisons. What needs no waiting takes no ASGI message, see
`Direct`, or not even a task; the events of a stream that came together leave in one write.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from inferry.api.http.answers import DirectConnection, refusal, whole_answer
from inferry.api.http.crowd import Crowd, HttpLimits
from inferry.api.http.direct import DIRECT, AnswerAtOnce, Kept
from inferry.api.routes import METHODS
from inferry.concurrency import start_in

_START: Final = re.compile(rb"[\r\n]*([A-Z][A-Z_-]{1,30}) ([\x21-\x7e]{1,2048})")
_UPGRADE: Final = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*")
_SLOWEST_READER: Final = 1024  # bytes a second
_FULL_S: Final = 0.1
_NO_LINGERING: Final = struct.pack("ii", 1, 0)
_ALLOWED: Final = ", ".join(sorted(METHODS))


def protocol_factory(
    limits: HttpLimits, answer_at_once: AnswerAtOnce = lambda *_: None
) -> Callable[..., asyncio.Protocol]:
    """Give what uvicorn's `Config(http=...)` makes protocols with."""
    return partial(LimitedHttpProtocol, limits=limits, answer_at_once=answer_at_once, crowd=Crowd())


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        *args: Any,
        limits: HttpLimits,
        answer_at_once: AnswerAtOnce,
        crowd: Crowd,
        **named: Any,
    ) -> None:
        super().__init__(*args, **named)
        self._limits = limits
        self._crowd = crowd
        self._own_waiting = 0
        self._answer_at_once = answer_at_once
        self._kept = Kept()
        self._serve = self.app
        self.app = self._run
        self._running: asyncio.Task[Any] | None = None
        self._left = False
        self._in_head = True
        self._chunk = b""
        self._head_bytes = 0  # at most: a chunk counts whole until a request begins in it
        self._head_timer: asyncio.TimerHandle | None = None
        self._bodiless_bytes = 0  # came since the last part of a body: trailers, for example
        self._write_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._refusal: bytes | None = None

    # --- the connection --------------------------------------------------------------------------

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Take a connection; when there are too many, one that rests makes room for it."""
        super().connection_made(transport)
        limits, crowd, address = self._limits, self._crowd, self._address
        crowd.of_address[address] += 1
        if 0 < limits.max_connections_per_address < crowd.of_address[address]:
            self._turn_away(f"too many open connections from [{address}]")
        elif len(self.connections) > limits.max_connections and not self._make_room():
            self._turn_away("too many open connections")
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was under way for the client that left."""
        self._forget_timer()
        self._forget_write_timer()
        self._crowd.waiting -= self._own_waiting
        self._own_waiting = 0
        self.pipeline.clear()
        super().connection_lost(exc)
        self._crowd.leave(self._address)
        self._abandon()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and hold the head of a request against its limits."""
        if self._in_head:
            if b"pgrade" in data:
                data = _without_upgrade(data)
            if self._has_too_many_lines(data):
                self._refuse(self._too_large())
                return
        self._chunk = data
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._bodiless_bytes += len(data)
        super().data_received(data)
        self._chunk = b""
        if self.transport.is_closing():
            return
        if self._in_head:
            if self._is_too_large(self._head_bytes):
                self.send_400_response("")
            elif self._head_timer is None and self._head_bytes:
                self._expect_head()
        elif self._is_too_large(self._bodiless_bytes):
            self._abort_body()
        elif self._head_timer is None and self.cycle.response_complete:
            self._expect_head()  # it was answered without its body: the rest is for nobody

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
        limits = self._limits
        if len(self.headers) > limits.max_headers or (
            self._head_bytes > limits.max_head_bytes and self._exact() > limits.max_head_bytes
        ):
            self._refusal = self._too_large()
            raise httptools.HttpParserError("head too large")
        self._head_bytes = self._bodiless_bytes = 0
        super().on_headers_complete()
        if self.pipeline:
            self._note_waiting()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._bodiless_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; the next one begins with its head."""
        super().on_message_complete()
        self._in_head = True
        if self._head_timer is not None:
            self._forget_timer()

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
        if self._own_waiting:
            self._own_waiting -= 1
            self._crowd.waiting -= 1
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        direct = DirectConnection(self.loop, self.transport, cycle, self._hang_up)
        # One that waited behind others is the last of them, else a long queue would end in a stack.
        if cycle is self.cycle:
            whole = self._answer_at_once(scope, self._kept)
            if whole is not None and direct.send_whole(whole):
                return
        scope["extensions"] = {DIRECT: direct}
        cycle.transport = direct  # type: ignore[assignment]
        cycle.on_response = direct.finish
        self._running = start_in(self.tasks, cycle.run_asgi(app), self.loop)

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

    @property
    def rests(self) -> bool:
        """Whether nothing is under way: nothing was asked, or all of it is answered."""
        return not self._answers and self._in_head and not self.transport.is_closing()

    @property
    def _answers(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _turn_away(self, reason: str) -> None:
        self._refuse(refusal(503, reason, "es_rejected_execution_exception"))

    def _make_room(self) -> bool:
        """Close a connection that rests, if there is one."""
        now = self.loop.time()
        if now < self._crowd.full_until:
            return False
        resting = (one for one in self.connections if isinstance(one, LimitedHttpProtocol))
        found = next((one for one in resting if one is not self and one.rests), None)
        if found is None:
            self._crowd.full_until = now + _FULL_S
            return False
        found.cut_off()
        return True

    def cut_off(self) -> None:
        """Close at once; what the client has not read is dropped, by the system too."""
        connected: socket.socket = self.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self.transport.abort()

    def _note_waiting(self) -> None:
        """Count a request that waits. Raises `HttpParserError` when too many do."""
        self._own_waiting += 1
        self._crowd.waiting += 1
        if self._crowd.waiting > self._limits.max_waiting:
            text = f"more than [{self._limits.max_waiting}] requests wait behind others"
            self._refusal = refusal(503, text, "es_rejected_execution_exception")
            raise httptools.HttpParserError("too many requests wait")

    def _is_too_large(self, size: int) -> bool:
        """Tell whether a head, or what came instead of a body, is above a limit so far."""
        limits, headers = self._limits, self.headers or ()
        if size <= limits.max_head_bytes and len(headers) <= limits.max_headers:
            return False
        self._refusal = self._too_large()
        return True

    def _has_too_many_lines(self, data: bytes) -> bool:
        """Tell of what a head begins with whether it has too many headers: before it is parsed."""
        most = self._limits.max_headers + 1  # the line of the request
        if len(data) <= most * len(b"x:\r\n") or self._head_bytes or self._answers:
            return False
        return data.count(b"\n", 0, data.find(b"\r\n\r\n")) > most

    def _abort_body(self) -> None:
        """Give up a request whose body is none."""
        if self.cycle.response_complete:
            self._hang_up()
        else:
            self.send_400_response("")

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._answers:
            self._expect_head()  # it may come while another request is answered
        elif self._head_bytes:
            self._refuse(refusal(408, "the request did not arrive in time", "timeout_exception"))
        else:
            self._hang_up()

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _exact(self) -> int:
        """Count the head that was parsed."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> bytes:
        limits = self._limits
        text = (
            f"request line and headers exceed the maximum of [{limits.max_head_bytes}] bytes "
            f"or [{limits.max_headers}] headers"
        )
        return refusal(431, text, "too_long_http_header_exception")

    def _unreadable(self) -> bytes:
        """Tell an unknown method from everything else that cannot be read."""
        start = _START.match(self._chunk) if self._head_bytes == len(self._chunk) else None
        if start is not None and start[1].decode() not in METHODS:
            method, uri = start[1].decode(), start[2].decode()
            text = f"Unexpected HTTP method [{method}] for uri [{uri}], allowed: [{_ALLOWED}]"
            return whole_answer(405, {"error": text, "status": 405})
        return refusal(400, "the HTTP request cannot be read", "illegal_argument_exception")

    def _refuse(self, answer: bytes) -> None:
        self._forget_timer()
        self.transport.write(answer)
        self._hang_up()

    # --- clients that read slowly ----------------------------------------------------------------

    def pause_writing(self) -> None:
        """Write no more for now, and look whether the client reads on."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Write on."""
        if not self.transport.is_closing():
            self._forget_write_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that rested for too long."""
        if not self.transport.is_closing():
            self._hang_up()

    def _watch_reader(self) -> None:
        limit_s = self._limits.write_timeout_s
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(limit_s, self._check_reader, limit_s)

    def _check_reader(self, elapsed_s: float) -> None:
        read = self._unread_bytes - self.transport.get_write_buffer_size()
        if read < _SLOWEST_READER * elapsed_s:
            self.cut_off()
        else:
            self._watch_reader()

    def _forget_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _hang_up(self) -> None:
        """Close after what was written has left, which a client cannot put off for ever."""
        self.transport.close()
        if self._write_timer is None and self.transport.get_write_buffer_size():
            self._watch_reader()


def _without_upgrade(data: bytes) -> bytes:
    """Take the wish for another protocol out of a head.

    Java's HttpClient offers HTTP/2 with every first request; the parser would then take the body
    for the other protocol, and the request would arrive without it.
    """
    head, blank, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head) + blank + rest
