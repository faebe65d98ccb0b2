"""Clients that mean harm: each is one way to take more of a server than a request is worth."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

MEGABYTE = 1_000_000
RUN = "/_inference/text_embedding/nothing"
DEEP = b"[" * 100_000
WIDE = b'{"input":[' + b"1," * 125_000 + b"1]}"  # refused for a number where a text belongs
_ROOT = Path(__file__).parent.parent
_LONGEST_WAIT_S = 120.0

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Target:
    """Where a server listens, and what its requests carry to be let in."""

    port: int
    authorization: str

    def head(self, method: str = "POST", path: str = RUN, **headers: str | int) -> bytes:
        """Write the head of a request without its end."""
        given = {"host": "localhost", "authorization": self.authorization, **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines]).encode()

    def whole(
        self, body: bytes, *, method: str = "POST", path: str = RUN, **headers: str | int
    ) -> bytes:
        """Write a request with a body of JSON."""
        headers = {
            "content_type": "application/json",
            "content_length": len(body),
            **headers,
        }
        return self.head(method, path, **headers) + b"\r\n\r\n" + body


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Streams]:
    """Open a connection and leave without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=MEGABYTE)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def status_of(reader: asyncio.StreamReader) -> int:
    """Read one answer and give its status; 0 when the connection closes without one."""
    try:
        async with asyncio.timeout(_LONGEST_WAIT_S):
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    return int(head.split(b" ", 2)[1])


async def send(target: Target, *parts: bytes) -> int:
    """Send a request on a connection of its own and give the status of its answer."""
    async with connected(target) as (reader, writer):
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass  # it was answered and closed meanwhile
        return await status_of(reader)


async def flood(
    target: Target, request: Callable[[int], bytes], *, times: int, connections: int
) -> Counter[int]:
    """Send requests on connections that stay open, as fast as they are answered."""
    met: Counter[int] = Counter()
    numbers = iter(range(times))

    async def one() -> None:
        async with connected(target) as (reader, writer):
            for number in numbers:
                writer.write(request(number))
                status = await status_of(reader)
                met[status] += 1
                if status == 0:
                    return

    await asyncio.gather(*(one() for _ in range(connections)))
    return met


async def guess_passwords(port: int, *, times: int) -> Counter[int]:
    """Try one wrong password after the other of one user."""

    def guess(number: int) -> bytes:
        encoded = base64.b64encode(f"elastic:guess {number}".encode()).decode()
        return Target(port, f"Basic {encoded}").head("GET", "/") + b"\r\n\r\n"

    return await flood(Target(port, ""), guess, times=times, connections=20)


async def guess_elsewhere(port: int, *, times: int) -> Counter[int]:
    """Do the same in a process of its own: the event loop of a test is ten times slower."""
    command = [sys.executable, "-m", "tests.attacks", str(port), str(times)]
    told = await asyncio.to_thread(subprocess.check_output, command, cwd=_ROOT)
    return Counter({int(status): count for status, count in json.loads(told).items()})


@asynccontextmanager
async def held(
    target: Target, *, connections: int, start: bytes = b""
) -> AsyncIterator[list[Streams]]:
    """Hold connections open that have sent `start` and send no more."""
    opened: list[Streams] = []
    try:
        for _ in range(connections):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            opened.append((reader, writer))
            writer.write(start)
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


def bomb(size: int) -> bytes:
    """Pack zeros that unpack to `size` bytes."""
    return gzip.compress(b"\0" * size)


async def served(target: Target, *, times: int) -> int:
    """Act as somebody else: give how many of some harmless requests were answered well."""
    request = target.head("GET", "/_inference/_all") + b"\r\n\r\n"
    met = await flood(target, lambda _: request, times=times, connections=1)
    return met[200]


async def beside(attack: Awaitable[Counter[int]], target: Target) -> tuple[Counter[int], int]:
    """Run an attack and give what it met, and how many requests of others were answered."""
    answered = 0

    async def others() -> None:
        nonlocal answered
        while True:
            answered += await served(target, times=1)

    other = asyncio.ensure_future(others())
    try:
        met = await attack
    finally:
        other.cancel()
        await asyncio.wait([other])
    return met, answered


if __name__ == "__main__":
    found = asyncio.run(guess_passwords(int(sys.argv[1]), times=int(sys.argv[2])))
    sys.stdout.write(json.dumps(found))
