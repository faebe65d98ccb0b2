"""What the bodies of requests may take: in size each, in memory together, in time."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable

import pytest

from inferry.api.http import compression, request_body
from inferry.api.http.request_body import BodyLimits, BodyReader, Held
from inferry.concurrency import first_of, run_all
from inferry.errors import BadRequest, BodyTooLarge, QueueFull

CHUNKED = {"transfer-encoding": "chunked"}
PACKED = {**CHUNKED, "content-encoding": "gzip"}


def reader(**limits) -> BodyReader:
    return BodyReader(BodyLimits(**{"max_bytes": 1000, **limits}))


class Client:
    """Sends a body in parts, each when it is told to."""

    def __init__(self, parts: Iterable[bytes], *, ends: bool = True) -> None:
        self.parts = list(parts)
        self.ends = ends

    async def receive(self) -> dict[str, object]:
        if not self.parts:
            await asyncio.Event().wait()
        body = self.parts.pop(0)
        return {
            "type": "http.request",
            "body": body,
            "more_body": bool(self.parts) or not self.ends,
        }


async def read(bodies: BodyReader, held: Held, client: Client, headers=CHUNKED) -> bytes:
    return await bodies.read(headers, client.receive, held, max_bytes=None)


async def test_a_body_is_joined_and_counted_until_it_was_dealt_with():
    bodies = reader()

    with bodies.hold() as held:
        assert await read(bodies, held, Client([b"one ", b"two"])) == b"one two"
        assert bodies.held_bytes == 7

    assert bodies.held_bytes == 0


async def test_a_body_is_read_to_its_limit_only():
    bodies = reader(max_bytes=10)
    client = Client([b"x" * 8] * 100)

    with bodies.hold() as held, pytest.raises(BodyTooLarge):
        await read(bodies, held, client)

    assert len(client.parts) == 98
    assert bodies.held_bytes == 0


async def test_a_body_that_makes_others_take_too_much_memory_is_refused_for_now():
    bodies = reader(max_held_bytes=100)

    with bodies.hold() as first, bodies.hold() as second:
        await read(bodies, first, Client([b"x" * 60]))
        with pytest.raises(QueueFull) as refused:
            await read(bodies, second, Client([b"y" * 30, b"y" * 30]))

    assert str(refused.value) == (
        "the bodies of requests that are under way hold [60] bytes and may hold [100], "
        "try again later"
    )
    assert refused.value.retry_after_s == 1
    assert bodies.held_bytes == 0


async def test_a_body_that_is_alone_may_have_the_limit_of_one():
    bodies = reader(max_held_bytes=100)

    with bodies.hold() as held:
        assert len(await read(bodies, held, Client([b"x" * 500, b"x" * 400]))) == 900


async def test_an_inflated_body_counts_as_large_as_it_is():
    bodies = reader(max_bytes=1_000_000, max_held_bytes=1_000_000)
    packed = gzip.compress(b"\0" * 600_000)

    with bodies.hold() as first, bodies.hold() as second:
        await read(bodies, first, Client([packed]), PACKED)
        with pytest.raises(QueueFull):
            await read(bodies, second, Client([packed]), PACKED)
        assert bodies.held_bytes < 610_000


async def test_bombs_are_unpacked_two_at_a_time(monkeypatch):
    running, most = 0, 0
    real = compression.decompress

    async def count(body: bytes, *, max_bytes: int) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await real(body, max_bytes=max_bytes)
        finally:
            running -= 1

    monkeypatch.setattr(request_body, "decompress", count)
    bodies = reader(max_bytes=100_000)
    bomb = gzip.compress(b"\0" * 200_000)

    async def attack() -> None:
        with bodies.hold() as held, pytest.raises(BodyTooLarge):
            await read(bodies, held, Client([bomb]), PACKED)

    await run_all(attack() for _ in range(20))

    assert most == 2
    assert bodies.held_bytes == 0


async def test_a_body_that_stops_is_given_up():
    bodies = reader(timeout_s=0.01)

    with bodies.hold() as held, pytest.raises(BadRequest, match="did not arrive in time"):
        await read(bodies, held, Client([b"x"], ends=False))

    assert bodies.held_bytes == 0


async def test_a_body_that_drips_is_given_up_however_short_its_pauses():
    bodies = reader(max_bytes=10**9, timeout_s=0.05)

    async def drip() -> dict[str, object]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": True}

    async def attack() -> None:
        with bodies.hold() as held, pytest.raises(BadRequest, match="did not arrive in time"):
            await bodies.read(CHUNKED, drip, held, max_bytes=None)

    async def give_up() -> None:
        async with asyncio.timeout(10):
            await asyncio.Event().wait()

    await first_of(attack(), give_up())


async def test_a_slow_body_that_goes_on_at_a_kilobyte_a_second_is_read():
    bodies = reader(max_bytes=10**6, timeout_s=0.05)
    waits = 0

    async def slowly() -> dict[str, object]:
        nonlocal waits
        waits += 1
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.02)
        return {"type": "http.request", "body": b"x" * 100, "more_body": waits < 8}

    with bodies.hold() as held:
        assert len(await bodies.read(CHUNKED, slowly, held, max_bytes=None)) == 800
