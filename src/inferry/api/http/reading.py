"""Bodies that may take long to read are read aside, while everybody else is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from inferry.concurrency import Aside

T = TypeVar("T")

AT_ONCE: Final = 1024
"""Bytes that the slowest of our parsers reads within a millisecond."""
QUICK: Final = 64 * 1024
"""Bytes that the fastest one does."""
_LANES: Final = (QUICK, 1024 * 1024)


class Reading:
    """The threads of a process for that: small bodies do not wait behind large ones."""

    def __init__(self) -> None:
        self._asides = [Aside() for _ in range(len(_LANES) + 1)]

    async def run(self, work: Callable[[], T], *, size: int) -> T:
        """Do something with a body of `size` bytes."""
        lane = sum(size > most for most in _LANES)
        return await self._asides[lane].run(work)

    def close(self) -> None:
        """End the threads after what they do."""
        for aside in self._asides:
            aside.close()
