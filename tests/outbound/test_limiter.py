"""Permits are spaced, shared by the host, handed out in order, and never from a full queue."""

from __future__ import annotations

import asyncio

import pytest

from inferry.commands import Grant, TakeTokens
from inferry.concurrency import Nursery
from inferry.domain import Deadline
from inferry.errors import DeadlineExceeded, InternalError, QueueFull, ShuttingDown, StoreFailure
from inferry.outbound.limiter import Buckets, LeasingLimiter, TokenBucket, _Lease
from tests.clocks import FakeClock


def deadline(timeout_s: float = 30.0, inference_id: str = "endpoint-1") -> Deadline:
    return Deadline.after(timeout_s, "30s", inference_id)


# --- buckets -----------------------------------------------------------------------------------


def test_a_bucket_holds_one_second_and_at_least_one_token() -> None:
    assert TokenBucket(3000, 0.0).take(100, 0.0) == 50
    assert TokenBucket(6, 0.0).take(100, 0.0) == 1


def test_a_bucket_fills_evenly() -> None:
    bucket = TokenBucket(60, 0.0)

    assert bucket.take(1, 0.0) == 1
    assert bucket.take(1, 0.5) == 0
    assert bucket.wait_s(0.5) == pytest.approx(0.5)
    assert bucket.take(1, 1.0) == 1
    assert bucket.take(5, 100.0) == 1


def test_a_lower_rate_takes_effect_at_once() -> None:
    bucket = TokenBucket(3000, 0.0)

    bucket.set_rate(60, 0.0)

    assert bucket.take(100, 0.0) == 1
    assert bucket.wait_s(0.0) == pytest.approx(1.0)


def ask(rate: float, *, owner: str = "a", wanted: int = 100, group: str = "g") -> TakeTokens:
    return TakeTokens(group=group, requests_per_minute=rate, wanted=wanted, owner=owner)


async def test_endpoints_of_one_group_draw_on_one_bucket() -> None:
    buckets = Buckets(FakeClock())

    first = await buckets.take(ask(600, owner="a"))
    second = await buckets.take(ask(600, owner="b"))
    other = await buckets.take(ask(600, group="other"))

    assert (first.tokens, second.tokens, other.tokens) == (10, 0, 10)
    assert second.wait_s == pytest.approx(0.1)


async def test_the_lowest_limit_of_a_group_holds() -> None:
    clock = FakeClock()
    buckets = Buckets(clock)
    await buckets.take(ask(60, owner="low"))
    clock.advance(10)

    grant = await buckets.take(ask(6000, owner="high"))

    assert grant.tokens == 1


async def test_a_changed_limit_replaces_the_former_one_of_its_endpoint() -> None:
    clock = FakeClock()
    buckets = Buckets(clock)
    await buckets.take(ask(60))
    await buckets.take(ask(6000))
    clock.advance(1)

    assert (await buckets.take(ask(6000))).tokens == 100


async def test_an_endpoint_that_is_not_heard_of_for_long_does_not_slow_the_others() -> None:
    clock = FakeClock()
    buckets = Buckets(clock)
    await buckets.take(ask(60, owner="gone"))
    clock.advance(4000)
    await buckets.take(ask(6000, owner="here"))
    clock.advance(1)

    assert (await buckets.take(ask(6000, owner="here"))).tokens == 100


async def test_a_group_that_nobody_uses_is_forgotten() -> None:
    clock = FakeClock()
    buckets = Buckets(clock)
    await buckets.take(ask(60, group="old"))
    clock.advance(11 * 24 * 3600)
    await buckets.take(ask(60, group="new"))

    assert set(buckets._accounts) == {"new"}


# --- leases ------------------------------------------------------------------------------------


class Supervisor:
    """Answers like the supervisor and counts how often it is asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.asked: list[TakeTokens] = []
        self._buckets = Buckets(clock)

    async def take(self, command: TakeTokens) -> Grant:
        self.asked.append(command)
        await asyncio.sleep(0)
        return await self._buckets.take(command)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def supervisor(clock) -> Supervisor:
    return Supervisor(clock)


@pytest.fixture
async def limiter(supervisor, clock):
    async with Nursery() as nursery:
        yield LeasingLimiter(supervisor.take, nursery=nursery, queue_capacity=3, clock=clock)


async def test_a_free_permit_is_given_without_waiting(limiter, clock) -> None:
    assert await limiter.acquire("g", 60, deadline=deadline()) == 0
    assert clock.slept == []


async def test_without_a_free_permit_the_caller_waits_just_as_long_as_needed(
    limiter, clock
) -> None:
    await limiter.acquire("g", 60, deadline=deadline())

    waited_s = await limiter.acquire("g", 60, deadline=deadline())

    assert waited_s == pytest.approx(1.0)
    assert clock.slept == [pytest.approx(1.0)]


async def test_permits_come_in_order_of_arrival(limiter) -> None:
    order: list[int] = []

    async def call(number: int) -> None:
        await limiter.acquire("g", 60, deadline=deadline())
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(3)))

    assert order == [0, 1, 2]


async def test_heavy_traffic_asks_the_supervisor_rarely(limiter, supervisor) -> None:
    for _ in range(2000):
        await limiter.acquire("g", 600_000, deadline=deadline())

    assert len(supervisor.asked) < 20


async def test_no_more_permits_are_handed_out_than_the_limit_allows(clock, supervisor) -> None:
    async with Nursery() as nursery:
        limiters = [LeasingLimiter(supervisor.take, nursery=nursery, clock=clock) for _ in range(3)]
        started = clock.monotonic()
        for _ in range(200):
            for limiter in limiters:
                await limiter.acquire("g", 600, deadline=deadline())

        assert clock.monotonic() - started >= (600 - 3 * 10) / 10


async def test_a_lease_that_is_over_is_not_used(limiter, supervisor, clock) -> None:
    for _ in range(10):
        await limiter.acquire("g", 6000, deadline=deadline())
    asked = len(supervisor.asked)
    clock.advance(1.0)

    await limiter.acquire("g", 6000, deadline=deadline())

    assert len(supervisor.asked) == asked + 1


async def test_a_changed_limit_is_asked_for_at_once(limiter, supervisor) -> None:
    for rate in (6000, 6000, 6000, 600):
        await limiter.acquire("g", rate, deadline=deadline())

    assert supervisor.asked[-1].requests_per_minute == 600
    assert supervisor.asked[-1].owner == "endpoint-1"


async def test_groups_that_nobody_waits_for_are_forgotten_when_there_are_many(limiter) -> None:
    for number in range(10_001):
        limiter._leases[f"old-{number}"] = _Lease(60)

    await limiter.acquire("g", 60, deadline=deadline())

    assert set(limiter._leases) == {"g"}


class Closed:
    """A supervisor that does not answer until told."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.error: Exception | None = None

    async def take(self, command: TakeTokens) -> Grant:
        await self.opened.wait()
        if self.error is not None:
            raise self.error
        return Grant(tokens=command.wanted, holds_s=1.0, wait_s=0.0)


@pytest.fixture
def closed() -> Closed:
    return Closed()


@pytest.fixture
async def blocked(closed, clock):
    async with Nursery() as nursery:
        yield LeasingLimiter(closed.take, nursery=nursery, queue_capacity=2, clock=clock)


async def test_a_full_queue_refuses_at_once(blocked, closed) -> None:
    waiting = [
        asyncio.ensure_future(blocked.acquire("g", 60, deadline=deadline())) for _ in range(2)
    ]
    await asyncio.sleep(0)

    with pytest.raises(QueueFull) as caught:
        await blocked.acquire("g", 60, deadline=deadline())

    assert str(caught.value) == (
        "Failed to execute task for inference id [endpoint-1] because the request service [g] "
        "queue is full"
    )
    closed.opened.set()
    await asyncio.gather(*waiting)


async def test_waiting_counts_against_the_deadline(blocked) -> None:
    with pytest.raises(DeadlineExceeded, match=r"timed out after \[30s\] for inference id"):
        await blocked.acquire("g", 60, deadline=deadline(0.02))

    assert not blocked._leases["g"].waiters


async def test_a_caller_who_leaves_makes_room_in_the_queue(blocked, closed) -> None:
    leaving = asyncio.ensure_future(blocked.acquire("g", 60, deadline=deadline()))
    staying = asyncio.ensure_future(blocked.acquire("g", 60, deadline=deadline()))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving

    third = asyncio.ensure_future(blocked.acquire("g", 60, deadline=deadline()))
    await asyncio.sleep(0)
    closed.opened.set()

    await asyncio.gather(staying, third)


@pytest.mark.parametrize(
    ("error", "told"), [(StoreFailure("gone"), StoreFailure), (OSError("gone"), InternalError)]
)
async def test_a_supervisor_that_fails_leaves_nobody_waiting(blocked, closed, error, told) -> None:
    closed.error = error
    closed.opened.set()

    with pytest.raises(told):
        await blocked.acquire("g", 60, deadline=deadline())


async def test_a_draining_process_takes_nobody_new_and_serves_those_who_wait(
    blocked, closed
) -> None:
    waiting = asyncio.ensure_future(blocked.acquire("g", 60, deadline=deadline()))
    await asyncio.sleep(0)
    blocked.drain()

    with pytest.raises(ShuttingDown) as caught:
        await blocked.acquire("g", 60, deadline=deadline())

    assert str(caught.value) == (
        "Failed to enqueue task for inference id [endpoint-1] because the request service [g] "
        "has already shutdown"
    )
    closed.opened.set()
    await waiting
