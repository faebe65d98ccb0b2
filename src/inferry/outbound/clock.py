"""Time as outgoing calls see it; tests have a clock of their own."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks and a pause."""

    def monotonic(self) -> float:
        """Give seconds that only grow."""

    def now(self) -> float:
        """Give seconds since the epoch."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's time."""

    def monotonic(self) -> float:
        """Give seconds that only grow."""
        return time.monotonic()

    def now(self) -> float:
        """Give seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
