"""An HTTP client for different bodies: connections that each send the next one when answered."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import uvloop

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """Where requests go. field: the member of the body that holds the texts."""

    port: int
    path: str
    headers: Mapping[str, str]
    extra: Mapping[str, object]


@dataclass(frozen=True)
class Drive:
    """What a run gave. latencies: of each request in the order of their ends, seconds."""

    seconds: float
    latencies: Sequence[float]
    answers: Sequence[bytes]

    def percentile(self, share: float) -> float:
        """Give the latency below which `share` of the requests lie, milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3


def drive(
    target: Target, bodies: Iterable[bytes], *, connections: int, pause_s: float = 0.0
) -> Drive:
    """Send every body once, over several connections. Raises when one is not answered with 200."""
    return uvloop.run(_drive(target, iter(bodies), connections, pause_s))


async def _drive(
    target: Target, bodies: Iterator[bytes], connections: int, pause_s: float
) -> Drive:
    head = [f"POST {target.path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    head += [f"{name}: {value}" for name, value in target.headers.items()]
    loop = asyncio.get_running_loop()
    callers = [_Caller("\r\n".join(head), bodies, pause_s) for _ in range(connections)]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", target.port)
    started = time.perf_counter()
    for caller in callers:
        caller.send_next()
    await asyncio.wait([caller.ended for caller in callers])
    seconds = time.perf_counter() - started
    for caller in callers:
        caller.ended.result()
    return Drive(
        seconds,
        [one for caller in callers for one in caller.latencies],
        [one for caller in callers for one in caller.answers],
    )


class _Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, head: str, bodies: Iterator[bytes], pause_s: float) -> None:
        self._head = head
        self._bodies = bodies
        self._pause_s = pause_s
        self._buffer = bytearray()
        self._missing = 0
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.answers: list[bytes] = []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Count an answer that is complete, and go on."""
        self._buffer += data
        self._missing -= len(data)
        if self._missing > 0 or not self._is_complete():
            return
        self.latencies.append(time.perf_counter() - self._sent_at)
        self.answers.append(bytes(self._buffer[self._buffer.find(b"\r\n\r\n") + 4 :]))
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self.ended.set_exception(RuntimeError(self._buffer[:500]))
            return
        self._buffer.clear()
        if self._pause_s:
            asyncio.get_running_loop().call_later(self._pause_s, self.send_next)
        else:
            self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail unless all has been sent and answered."""
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionResetError("the server hung up"))

    def send_next(self) -> None:
        """Send the next body, or end."""
        body = next(self._bodies, None)
        if body is None:
            self.ended.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        head = f"{self._head}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _is_complete(self) -> bool:
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return False
        length = _LENGTH.search(self._buffer, 0, head)
        if length is None:
            return self._buffer.endswith(b"0\r\n\r\n")
        self._missing = head + 4 + int(length[1]) - len(self._buffer)
        return self._missing <= 0
