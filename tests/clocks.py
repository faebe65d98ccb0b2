"""A clock that moves only when something sleeps on it, or when a test says so."""

from __future__ import annotations

import asyncio


class FakeClock:
    """slept: the pauses that were asked for, in order; each passes at once."""

    def __init__(self, *, now: float = 1_700_000_000.0) -> None:
        self._monotonic = 1000.0
        self._now = now
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Give the time since some start."""
        return self._monotonic

    def now(self) -> float:
        """Give the time since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic += seconds
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass, and others run."""
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)
