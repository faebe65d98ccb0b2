"""Locks by key."""

from __future__ import annotations

import asyncio

import pytest

from inferry.concurrency import Nursery
from inferry.core.locks import KeyedLocks
from inferry.domain import Deadline
from inferry.errors import DeadlineExceeded
from tests.core.registry_parts import let_others_come_in


async def test_those_who_want_one_key_come_in_one_after_the_other() -> None:
    locks, told, gate = KeyedLocks(), [], asyncio.Event()

    async def work(name: str) -> None:
        async with locks.hold("key"):
            told.append(f"{name} in")
            await gate.wait()
            told.append(f"{name} out")

    async with Nursery() as nursery:
        nursery.start(work("a"))
        nursery.start(work("b"))
        await let_others_come_in()
        gate.set()
        await nursery.drain()

    assert told == ["a in", "a out", "b in", "b out"]


async def test_other_keys_do_not_wait() -> None:
    locks = KeyedLocks()

    async with locks.hold("a"), locks.hold("b"):
        pass


async def test_a_lock_that_nobody_holds_or_wants_is_forgotten() -> None:
    locks = KeyedLocks()

    async with locks.hold("a"):
        with pytest.raises(DeadlineExceeded):
            async with locks.hold("a", Deadline.after(0, "0s")):
                raise AssertionError
        assert set(locks._locks) == {"a"}

    assert locks._locks == {}
