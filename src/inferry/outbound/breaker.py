"""A circuit breaker: a provider that fails every call is left alone for a while."""

from __future__ import annotations

_FAILURES = 10  # calls in a row, each after its retries
_SHORTEST_S = 5.0
_LONGEST_S = 60.0


class Breaker:
    """Closed: all calls pass. Open: none does until the pause is over, then a single one tries.

    The pause doubles with every failed try. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = _SHORTEST_S
        self._opens_at = 0.0

    def blocked_s(self, now: float) -> float:
        """Give the seconds until calls may pass, 0 for now; a caller that got 0 reports its end."""
        if self._failures < _FAILURES:
            return 0.0
        left = self._opens_at - now
        if left > 0:
            return left
        self._opens_at = now + self._pause_s  # this caller is the one that tries
        return 0.0

    def succeeded(self) -> None:
        """Report a call that the provider answered."""
        self._failures = 0
        self._pause_s = _SHORTEST_S

    def failed(self, now: float) -> None:
        """Report a call that found the provider dead or failing."""
        self._failures += 1
        if self._failures > _FAILURES:
            self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        if self._failures >= _FAILURES:
            self._opens_at = now + self._pause_s
