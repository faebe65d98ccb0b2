"""What API keys may use, and when they may go on."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.commands import Admission, AdmitKey, FetchKeyUsage, KeyUsage, SpendKeyTokens
from inferry.errors import StoreFailure
from inferry.key_limits import KeyLimits
from inferry.security.key_usage import KeyUsages

DAY_S = 24 * 3600.0


class Clock:
    """A clock that the test moves; it begins at noon, UTC."""

    def __init__(self) -> None:
        self.now_s = 20_000 * DAY_S + DAY_S / 2

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def usages(store, clock) -> KeyUsages:
    return KeyUsages(store, now=clock)


async def admit(usages: KeyUsages, key_id: str = "k", **limits: Any) -> Admission:
    return await usages.admit(AdmitKey(key_id, KeyLimits(**limits)))


async def test_requests_of_a_minute_are_counted_and_the_next_minute_begins_anew(usages, clock):
    admitted = [await admit(usages, requests_per_minute=3) for _ in range(4)]

    assert admitted[:3] == [Admission()] * 3
    assert admitted[3] == Admission("[3] requests per minute", 60.0)
    clock.now_s += 45
    assert (await admit(usages, requests_per_minute=3)).wait_s == 15.0
    clock.now_s += 15
    assert await admit(usages, requests_per_minute=3) == Admission()


async def test_keys_are_counted_apart(usages):
    for key_id in ("a", "b"):
        assert await admit(usages, key_id, requests_per_minute=1) == Admission()
        assert (await admit(usages, key_id, requests_per_minute=1)).limit


async def test_a_request_is_let_in_while_tokens_of_the_minute_are_left(usages, clock):
    assert await admit(usages, tokens_per_minute=10) == Admission()
    await usages.spend(SpendKeyTokens("k", 9))
    assert await admit(usages, tokens_per_minute=10) == Admission()
    await usages.spend(SpendKeyTokens("k", 9))

    assert (await admit(usages, tokens_per_minute=10)).limit == "[10] tokens per minute"
    clock.now_s += 60
    assert await admit(usages, tokens_per_minute=10) == Admission()


async def test_a_day_ends_at_midnight_utc(usages, clock):
    await admit(usages, tokens_per_day=10)
    await usages.spend(SpendKeyTokens("k", 10))

    assert await admit(usages, tokens_per_day=10) == Admission("[10] tokens per day", DAY_S / 2)
    clock.now_s += DAY_S / 2
    assert await admit(usages, tokens_per_day=10) == Admission()


async def test_what_was_used_today_is_told(usages, clock):
    await admit(usages, "b", requests_per_minute=1)
    await admit(usages, "b", requests_per_minute=1)
    await admit(usages, "a", requests_per_minute=1)
    await usages.spend(SpendKeyTokens("a", 7))

    assert await usages.fetch(FetchKeyUsage()) == [
        KeyUsage("a", requests=1, refused=0, tokens=7),
        KeyUsage("b", requests=1, refused=1, tokens=0),
    ]
    clock.now_s += DAY_S
    assert await usages.fetch(FetchKeyUsage()) == []


async def test_a_day_outlives_the_server(usages, store, clock):
    await admit(usages, tokens_per_day=10)
    await usages.spend(SpendKeyTokens("k", 10))
    await usages.flush()

    later = KeyUsages(store, now=clock)
    await later.load({"k"})

    assert (await admit(later, tokens_per_day=10)).limit == "[10] tokens per day"
    gone = KeyUsages(store, now=clock)
    await gone.load({"another"})
    assert await gone.fetch(FetchKeyUsage()) == []


async def test_nothing_is_written_while_nothing_is_used(usages, store, monkeypatch):
    await admit(usages, tokens_per_day=10)
    await usages.flush()
    monkeypatch.setattr(store, "keep", None)

    await usages.flush()


async def test_a_store_that_fails_is_tried_again(usages, store, monkeypatch):
    async def fail(*_: object) -> None:
        raise StoreFailure("disk full")

    await admit(usages, tokens_per_day=10)
    with monkeypatch.context() as patched:
        patched.setattr(store, "keep", fail)
        await usages.flush()

    await usages.flush()

    later = KeyUsages(store, now=usages._now)
    await later.load({"k"})
    assert (await later.fetch(FetchKeyUsage()))[0].requests == 1
