"""Locks by key: writes of one endpoint wait for each other, those of others do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from inferry.concurrency import within
from inferry.domain import Deadline


class KeyedLocks:
    """A lock per key, which exists only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def settle(self) -> None:
        """Wait until everybody who holds a lock now, or waits for one, has let go of it."""
        for key in list(self._locks):
            async with self.hold(key):
                pass

    @asynccontextmanager
    async def hold(self, key: str, deadline: Deadline | None = None) -> AsyncIterator[None]:
        """Hold the lock of `key` within the block, first come, first served.

        Raises `DeadlineExceeded` when `deadline` ends before the lock is free.
        """
        lock, holders = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = lock, holders + 1
        try:
            if deadline is None:
                await lock.acquire()
            else:
                with within(deadline):
                    await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, holders = self._locks.pop(key)
            if holders > 1:
                self._locks[key] = lock, holders - 1
