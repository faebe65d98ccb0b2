"""Read the body of a request: within a limit, within a time, inflated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

from inferry.api.http.compression import decompress, decompress_small, too_large
from inferry.api.http.direct import Direct
from inferry.api.http.reading import QUICK, Reading
from inferry.concurrency import time_limit
from inferry.errors import BadRequest, BodyTooLarge, QueueFull, UnsupportedMediaType

Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]

_SLOWEST_SENDER: Final = 1024  # bytes a second
_PART_BYTES, _PART_S = 256 * 1024, 0.001
"""How fast large bodies come, all of a process together: to take a part costs a sixth of that."""
_LARGE: Final = 1024 * 1024
_VALUE_BYTES: Final = 64
"""What a value of JSON takes in memory, beside its text."""
_RETRY_AFTER_S: Final = 1.0


def has_body(headers: Mapping[str, str]) -> bool:
    """Tell whether the headers announce a body."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What bodies may take.

    max_bytes: of one, inflated. timeout_s: a client sends the whole body within it, or a kilobyte
    for each of its seconds, and so on. max_held_bytes: of all bodies that are being received or
    answered in a process.
    """

    max_bytes: int
    timeout_s: float = 60.0
    max_held_bytes: int = 256 * 1024 * 1024


@dataclass(slots=True)
class Held:
    """The bytes of a body that count until `BodyReader.hold` ends."""

    size: int = 0


@dataclass(slots=True)
class _Pace:
    """How fast a body must come. missing: bytes until the time is set anew."""

    timeout_s: float
    ends_at: float = 0.0
    missing: float = 0.0

    def left_s(self) -> float:
        now = time.monotonic()
        if self.missing <= 0:
            self.ends_at, self.missing = now + self.timeout_s, _SLOWEST_SENDER * self.timeout_s
        return self.ends_at - now


@dataclass(slots=True)
class _Turns:
    """Gives turns at regular intervals; whoever comes when none was given lately has it at once."""

    next_at: float = 0.0

    async def take(self) -> None:
        now = time.monotonic()
        at = max(now, self.next_at)
        self.next_at = at + _PART_S
        if at > now:
            await asyncio.sleep(at - now)


@dataclass(slots=True)
class BodyReader:
    """Reads the bodies of a process. held_bytes: those of the requests that are under way.

    Nobody shall wait for the large bodies of others: they come a part at a time, and what takes
    long is done aside.
    """

    limits: BodyLimits
    reading: Reading
    held_bytes: int = 0
    _turns: _Turns = field(default_factory=_Turns)

    @contextmanager
    def hold(self) -> Iterator[Held]:
        """Count, until the block ends, what is read for the `Held` that is given."""
        held = Held()
        try:
            yield held
        finally:
            self.held_bytes -= held.size

    async def read(
        self,
        headers: Mapping[str, str],
        receive: Receive,
        held: Held,
        *,
        max_bytes: int | None,
        direct: Direct | None = None,
    ) -> bytes:
        """Give the body; `max_bytes` lowers the limit.

        Raises `BodyTooLarge`, `UnsupportedMediaType` for an encoding other than gzip,
        `BadRequest` for a body that is not complete, too slow or not gzip, and `QueueFull` when
        those of other requests take too much memory.
        """
        limit = (
            self.limits.max_bytes if max_bytes is None else min(max_bytes, self.limits.max_bytes)
        )
        body = direct.take_body() if direct is not None else None
        if body is None:
            body = await self._receive(headers.get("content-length"), receive, held, limit)
        elif len(body) > limit:
            raise BodyTooLarge(too_large(limit))
        else:
            self._count(held, len(body))
            if len(body) > QUICK:
                await self._turns.take()
        encoding = headers.get("content-encoding")
        if encoding is not None and body:
            body = await self._decoded(body, encoding, held, limit)
        if len(body) > _LARGE:
            await self._count_values(body, held)
        return body

    async def _receive(
        self, announced: str | None, receive: Receive, held: Held, limit: int
    ) -> bytes:
        if announced is not None and (not announced.isdecimal() or int(announced[:20]) > limit):
            raise BodyTooLarge(too_large(limit))
        parts: list[bytes] = []
        pace = _Pace(self.limits.timeout_s)
        credit = QUICK
        while True:
            message = await _next(receive, pace)
            parts.append(message["body"])
            self._count(held, len(parts[-1]))
            if held.size > limit:
                raise BodyTooLarge(too_large(limit))
            credit -= len(parts[-1])
            while credit < 0:
                credit += _PART_BYTES
                await self._turns.take()
            if not message["more_body"]:
                break
        if len(parts) == 1:
            return parts[0]
        if held.size <= _LARGE:
            return b"".join(parts)
        return await self.reading.run(partial(b"".join, parts), size=held.size)

    async def _decoded(self, body: bytes, encoding: str, held: Held, limit: int) -> bytes:
        match encoding.strip().lower():
            case "gzip" | "x-gzip":
                return await self._inflate(body, held, limit)
            case "identity":
                return body
        raise UnsupportedMediaType(f"Content-Encoding header [{encoding}] is not supported")

    async def _inflate(self, body: bytes, held: Held, limit: int) -> bytes:
        """Unpack a body; one at a time where that takes long, since how large it is shows then."""
        inflated = decompress_small(body, max_bytes=limit)
        if inflated is None:
            work = partial(decompress, body, max_bytes=limit)
            inflated = await self.reading.run(work, size=limit)
        self._count(held, len(inflated) - len(body))
        return inflated

    async def _count_values(self, body: bytes, held: Held) -> None:
        """Count what the values in a body will take: many small ones are much larger than it is."""
        values = await self.reading.run(partial(_values_in, body), size=len(body))
        size = len(body) + values * _VALUE_BYTES
        most = self.limits.max_held_bytes
        if size > most:
            raise BodyTooLarge(
                f"the request body has [{values}] values, with which it would take [{size}] bytes"
                f" of memory, more than [{most}]"
            )
        self._count(held, values * _VALUE_BYTES)

    def _count(self, held: Held, size: int) -> None:
        """Count bytes; a body that is alone is never refused, else it would be so for ever."""
        others = self.held_bytes - held.size
        if others and self.held_bytes + size > self.limits.max_held_bytes:
            raise QueueFull(
                f"the bodies of requests that are under way hold [{others}] bytes and may hold "
                f"[{self.limits.max_held_bytes}], try again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        held.size += size
        self.held_bytes += size


def _values_in(body: bytes) -> int:
    """Give at most how many values a body of JSON has; a slice at a time, to hold nobody up."""
    return sum(
        body.count(mark, at, at + _LARGE)
        for at in range(0, len(body), _LARGE)
        for mark in (b",", b"[", b"{")
    )


async def _next(receive: Receive, pace: _Pace) -> dict[str, Any]:
    """Wait for the next part."""
    left_s = pace.left_s()
    try:
        if left_s <= 0:
            raise TimeoutError
        with time_limit(left_s):
            message = await receive()
    except TimeoutError:
        raise BadRequest("the request body did not arrive in time") from None
    if message["type"] != "http.request":
        raise BadRequest("the request body is not complete")
    pace.missing -= len(message["body"])
    return message
