"""When a failed call may be sent again, and after how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """attempts: at most, the first one included. Delays double from the first up to the longest."""

    attempts: int = 3
    first_delay_s: float = 1.0
    longest_delay_s: float = 5.0

    def delay_s(self, attempt: int, draw: float) -> float:
        """Give the pause after the failed `attempt` (1 = the first), spread by `draw` in 0..1."""
        shortest = min(self.first_delay_s * 2.0 ** (attempt - 1), self.longest_delay_s)
        longest = min(2 * shortest, self.longest_delay_s)
        return shortest + draw * (longest - shortest)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Read `Retry-After`, in seconds or as a date; `now`: seconds since the epoch."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _seconds_until(value, now)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _seconds_until(date: str, now: float) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    if moment.tzinfo is None:  # RFC 5322 lets `-0000` mean: the zone is not known
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.fromtimestamp(now, UTC)).total_seconds(), 0.0)


class RetryBudget:
    """Keeps retries a small part of the traffic, so that they never finish off a sick provider.

    Holds at most `capacity` retries; grows by one per second and by a fifth per good call.
    """

    def __init__(self, now: float, *, capacity: float = 50.0) -> None:
        self._capacity = capacity
        self._left = capacity
        self._at = now

    def earn(self) -> None:
        """Count a good call."""
        self._left = min(self._left + 0.2, self._capacity)

    def spend(self, now: float) -> bool:
        """Take one retry, if there is one."""
        self._left = min(self._left + now - self._at, self._capacity)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
