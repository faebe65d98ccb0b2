"""What is written on a connection: whole answers at once, parts gathered, refusals.

See `protocol`, whose connections these are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import chain
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from inferry.api.http.direct import Whole
from inferry.gathering import Gathering


class DirectConnection(Gathering):
    """The connection of one request, see `Direct`, and the transport of its answer."""

    __slots__ = ("_close", "_cycle", "_then")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        cycle: RequestResponseCycle,
        close: Callable[[], None],
    ) -> None:
        super().__init__(loop, transport)
        self._cycle = cycle
        self._close = close
        self._then = cycle.on_response

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
            self._close()
        self._let_go()
        return True

    def is_closing(self) -> bool:
        """Tell whether the connection closes."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close after what was written has left."""
        self.flush()
        self._close()

    def finish(self) -> None:
        """End the answer."""
        self.flush()
        self._let_go()

    def _let_go(self) -> None:
        """End the request; nothing is left that refers to itself and waits for the collector."""
        cycle = self._cycle
        cycle.transport, cycle.on_response = self._transport, self._then
        cycle.scope.pop("extensions", None)
        self._then()


def refusal(status: int, reason: str, name: str) -> bytes:
    """Write a refusal in the envelope of the wire."""
    cause = {"type": name, "reason": reason}
    return whole_answer(status, {"error": {"root_cause": [cause], **cause}, "status": status})


def whole_answer(status: int, document: dict[str, Any]) -> bytes:
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
