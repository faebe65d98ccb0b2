"""What the bodies of requests may take: in size each, in memory together, in time."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from inferry.api.http.reading import Reading
from inferry.api.http.request_body import BodyLimits, BodyReader, Held
from inferry.concurrency import first_of, run_all
from inferry.errors import BadRequest, BodyTooLarge, QueueFull

CHUNKED = {"transfer-encoding": "chunked"}
PACKED = {**CHUNKED, "content-encoding": "gzip"}


@pytest.fixture
def reader() -> Iterator[Callable[..., BodyReader]]:
    """Give a function that makes readers of bodies."""
    reading = Reading()

    def make(**limits) -> BodyReader:
        return BodyReader(BodyLimits(**{"max_bytes": 1000, **limits}), reading)

    yield make
    reading.close()


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


async def test_a_body_is_joined_and_counted_until_it_was_dealt_with(reader):
    bodies = reader()

    with bodies.hold() as held:
        assert await read(bodies, held, Client([b"one ", b"two"])) == b"one two"
        assert bodies.held_bytes == 7

    assert bodies.held_bytes == 0


async def test_a_body_is_read_to_its_limit_only(reader):
    bodies = reader(max_bytes=10)
    client = Client([b"x" * 8] * 100)

    with bodies.hold() as held, pytest.raises(BodyTooLarge):
        await read(bodies, held, client)

    assert len(client.parts) == 98
    assert bodies.held_bytes == 0


async def test_a_body_that_makes_others_take_too_much_memory_is_refused_for_now(reader):
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


async def test_a_body_that_is_alone_may_have_the_limit_of_one(reader):
    bodies = reader(max_held_bytes=100)

    with bodies.hold() as held:
        assert len(await read(bodies, held, Client([b"x" * 500, b"x" * 400]))) == 900


async def test_an_inflated_body_counts_as_large_as_it_is(reader):
    bodies = reader(max_bytes=1_000_000, max_held_bytes=1_000_000)
    packed = gzip.compress(b"\0" * 600_000)

    with bodies.hold() as first, bodies.hold() as second:
        await read(bodies, first, Client([packed]), PACKED)
        with pytest.raises(QueueFull):
            await read(bodies, second, Client([packed]), PACKED)
        assert bodies.held_bytes < 610_000


async def test_bombs_leave_room_for_others(reader):
    bodies = reader(max_bytes=10**6)
    bomb = gzip.compress(b"\0" * 10**7)

    async def attack() -> None:
        with bodies.hold() as held, pytest.raises(BodyTooLarge):
            await read(bodies, held, Client([bomb]), PACKED)

    await run_all(attack() for _ in range(20))

    assert bodies.held_bytes == 0


async def test_large_bodies_of_all_clients_together_come_at_a_part_per_millisecond(reader):
    bodies = reader(max_bytes=10**8)
    part = b"x" * 256 * 1024

    async def send() -> None:
        with bodies.hold() as held:
            await read(bodies, held, Client([part] * 10))

    started = time.monotonic()
    await run_all(send() for _ in range(5))

    assert time.monotonic() - started > 0.045


async def test_small_bodies_need_no_turn(reader):
    bodies = reader(max_bytes=10**8)

    with bodies.hold() as held:
        await read(bodies, held, Client([b"x" * 10_000] * 6))

    assert bodies._turns.next_at == 0


async def test_what_values_take_in_memory_counts_too(reader):
    bodies = reader(max_bytes=10**8, max_held_bytes=200 * 10**6)

    with bodies.hold() as held:
        await read(bodies, held, Client([b"1," * 10**6]))
        assert bodies.held_bytes == 66 * 10**6
    with bodies.hold() as held, pytest.raises(BodyTooLarge, match=r"has \[4000000\] values"):
        await read(bodies, held, Client([b"1," * 4 * 10**6]))

    assert bodies.held_bytes == 0


async def test_a_body_that_stops_is_given_up(reader):
    bodies = reader(timeout_s=0.01)

    with bodies.hold() as held, pytest.raises(BadRequest, match="did not arrive in time"):
        await read(bodies, held, Client([b"x"], ends=False))

    assert bodies.held_bytes == 0


async def test_a_body_that_drips_is_given_up_however_short_its_pauses(reader):
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


async def test_a_slow_body_that_goes_on_at_a_kilobyte_a_second_is_read(reader):
    bodies = reader(max_bytes=10**6, timeout_s=0.05)
    waits = 0

    async def slowly() -> dict[str, object]:
        nonlocal waits
        waits += 1
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.02)
        return {"type": "http.request", "body": b"x" * 5000, "more_body": waits < 8}

    with bodies.hold() as held:
        assert len(await bodies.read(CHUNKED, slowly, held, max_bytes=None)) == 40_000
