"""Streams of providers: bytes in, events out, pure.

Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html. JSON lines: one
JSON value per line. AWS: frames of https://smithy.io/2.0/aws/amazon-eventstream.html. Chunks may be
split anywhere, inside a UTF-8 character too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from inferry.calls import Event
from inferry.errors import UnreadableReply
from inferry.service import Framing

MAX_EVENT_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Decoder(Protocol):
    """Turns a stream's bytes into events; one per stream."""

    def feed(self, chunk: bytes) -> list[Event]:
        """Give the events that `chunk` completes. Raises `UnreadableReply` above the size limit."""

    def finish(self) -> list[Event]:
        """Give what the end of the body completes. Raises `UnreadableReply` for half a frame."""


class Lines:
    """Cuts bytes into lines that end with CR, LF or CRLF; a CRLF may be split between chunks."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Give the lines that `chunk` completes, without their ends."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        lines = chunk.splitlines(keepends=True)
        if not lines:
            return lines
        tail = lines.pop() if lines[-1][-1] not in b"\r\n" else b""
        if lines:
            self._after_cr = not tail and lines[-1].endswith(b"\r")
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += tail
        if len(self._rest) > self._max_bytes:
            raise too_large(self._max_bytes)
        return [line.rstrip(b"\r\n") for line in lines]

    def finish(self) -> bytes:
        """Give the line that the end of the body ends, empty if there is none."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


class SseDecoder:
    """Server-sent events. Comments, `id` and `retry` are passed over."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._lines = Lines(max_bytes)
        self._max_bytes = max_bytes
        self._is_first = True
        self._clear()

    def feed(self, chunk: bytes) -> list[Event]:
        """Give the events that `chunk` completes. Raises `UnreadableReply` above the size limit."""
        events: list[Event] = []
        for line in self._lines.feed(chunk):
            self._take(line, events)
        return events

    def finish(self) -> list[Event]:
        """Give the event that the end of the body completes, if any."""
        events: list[Event] = []
        rest = self._lines.finish()
        if rest:
            self._take(rest, events)
        self._take(b"", events)
        return events

    def _clear(self) -> None:
        self._data: list[bytes] = []
        self._size = 0
        self._name = b""

    def _take(self, line: bytes, events: list[Event]) -> None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                data = b"\n".join(self._data).decode("utf-8", "replace")
                events.append(Event(data, self._name.decode("utf-8", "replace")))
            self._clear()
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
            if self._size > self._max_bytes:
                raise too_large(self._max_bytes)
        elif name == b"event":
            self._name = value.removeprefix(b" ")


class JsonLinesDecoder:
    """One JSON value per line; empty lines are passed over."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._lines = Lines(max_bytes)

    def feed(self, chunk: bytes) -> list[Event]:
        """Give the lines that `chunk` completes. Raises `UnreadableReply` above the size limit."""
        return _events(self._lines.feed(chunk))

    def finish(self) -> list[Event]:
        """Give the line that the end of the body completes, if any."""
        return _events([self._lines.finish()])


class AwsFrameDecoder:
    """Frames with two checksums each. A frame that is damaged, or half a frame, ends the stream."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        from botocore.eventstream import EventStreamBuffer, ParserError

        self._frames = EventStreamBuffer()
        # Headers that make no sense within good checksums are errors of all kinds.
        self._damages = (ParserError, struct.error, KeyError, ValueError)
        self._max_bytes = max_bytes
        self._pending_bytes = 0
        self._failure: UnreadableReply | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Give the events that `chunk` completes; what is wrong behind them is raised next time.

        Raises `UnreadableReply` for a damaged frame, and above the size limit.
        """
        self._frames.add_data(chunk)
        self._pending_bytes += len(chunk)
        events: list[Event] = []
        while self._failure is None and (event := self._next()):
            events.append(event)
        if self._failure is not None and not events:
            raise self._failure
        return events

    def finish(self) -> list[Event]:
        """Give nothing, since no frame ends by the end of the body."""
        if self._failure is None and self._pending_bytes:
            self._failure = UnreadableReply("Failed to parse the stream: it ends within a frame")
        if self._failure is not None:
            raise self._failure
        return []

    def _next(self) -> Event | None:
        try:
            frame = next(self._frames, None)
        except self._damages as error:
            self._failure = UnreadableReply("Failed to parse the stream: a frame is damaged")
            self._failure.__cause__ = error
            return None
        size = self._pending_bytes if frame is None else frame.prelude.total_length
        if size > self._max_bytes:
            self._failure = too_large(self._max_bytes)
            return None
        if frame is None:
            return None
        self._pending_bytes -= size
        return _event_of(frame.headers, frame.payload)


DECODERS: Mapping[Framing, Callable[[], Decoder]] = MappingProxyType(
    {"sse": SseDecoder, "json_lines": JsonLinesDecoder, "aws": AwsFrameDecoder}
)


def too_large(max_bytes: int) -> UnreadableReply:
    """Give the error for an event above the limit."""
    return UnreadableReply(f"Failed to parse the stream: an event is larger than {max_bytes} bytes")


def _events(lines: list[bytes]) -> list[Event]:
    return [Event(line.decode("utf-8", "replace")) for line in lines if line.strip()]


def _event_of(headers: Mapping[str, Any], payload: bytes) -> Event:
    match headers.get(":message-type"):
        case "exception":
            name = str(headers.get(":exception-type", ""))
            return Event(payload.decode("utf-8", "replace"), name, is_error=True)
        case "error":  # one that the service does not model; it has no payload
            said = json.dumps({"message": str(headers.get(":error-message", ""))})
            return Event(said, str(headers.get(":error-code", "")), is_error=True)
        case _:
            return Event(payload.decode("utf-8", "replace"), str(headers.get(":event-type", "")))
