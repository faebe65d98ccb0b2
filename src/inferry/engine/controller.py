"""How many allocations a deployment needs, as its load comes and goes. Pure: no clock, no thread.

Two filters estimate the rate of requests and the time that one takes; their product is the load, in
allocations that are busy all the time. Source: Elasticsearch, `AdaptiveAllocationsScaler` and
`KalmanFilter1d`, whose constants these are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_SMOOTHING = 100.0
_CHANGE = 100.0
"""How many times its variance a measurement must be off, squared, to be no accident."""
_UP, _DOWN = 0.9, 0.85
_MOST = 32
_UNKNOWN_TIME_S = 1.0
IDLE_S = 15 * 60.0
"""Without a request for so long, allocations fall to none where that is allowed."""
_CALM_S = 5 * 60.0


@dataclass(slots=True)
class Estimate:
    """A number that is measured again and again, and how sure we are of it (Kalman filter).

    value, variance: None and 0 before the first measurement. finds_changes: take a measurement
    that is far off for a change of the number itself, which is then followed at once.
    """

    finds_changes: bool
    value: float | None = None
    variance: float = 0.0
    _has_just_changed: bool = False

    @property
    def lower(self) -> float:
        """Give the value less its deviation."""
        return (self.value or 0.0) - math.sqrt(self.variance)

    @property
    def upper(self) -> float:
        """Give the value and its deviation."""
        return (self.value or 0.0) + math.sqrt(self.variance)

    def add(self, value: float, variance: float, *, has_changed: bool = False) -> None:
        """Take a measurement. has_changed: what is measured is known to be another one now."""
        if self.value is None:
            self.value, self.variance = value, variance
            self._has_just_changed = True
            return
        if self.finds_changes and not has_changed:
            has_changed = (value - self.value) ** 2 / (variance + self.variance) > _CHANGE
        drift = variance / _SMOOTHING
        if has_changed or self._has_just_changed:
            drift = value**2
        spread = self.variance + drift
        gain = spread / (spread + variance) if spread + variance else 0.0
        self.value += gain * (value - self.value)
        self.variance = (1 - gain) * spread
        self._has_just_changed = has_changed


@dataclass(frozen=True, slots=True)
class Work:
    """What a deployment did between two looks: counts of texts. time_s: of one, None of none."""

    succeeded: int
    pending: int
    failed: int
    time_s: float | None

    @property
    def requests(self) -> int:
        """Count those that came."""
        return max(0, self.succeeded) + max(0, self.pending) + max(0, self.failed)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many allocations there may be; None where nobody says."""

    least: int | None = None
    most: int | None = None


@dataclass(slots=True)
class Controller:
    """Follows the load of one deployment. idle_s: see `IDLE_S`."""

    bounds: Bounds
    idle_s: float = IDLE_S
    _rate: Estimate = field(default_factory=lambda: Estimate(finds_changes=True))
    _time: Estimate = field(default_factory=lambda: Estimate(finds_changes=False))
    _has_scaled: bool = False
    _waited_s: float = 0.0
    _since_up_s: float = math.inf

    def next_allocations(self, allocations: int, work: Work, interval_s: float) -> int:
        """Give how many there shall be from now on.

        work: of the last `interval_s`, done with `allocations`.
        """
        self._since_up_s += interval_s
        self._measure(work, interval_s)
        wanted = self._clamped(self._needed(allocations))
        if wanted < allocations and self._since_up_s < _CALM_S:
            wanted = allocations
        if wanted > allocations:
            self._since_up_s = 0.0
        self._has_scaled = wanted != allocations
        return wanted

    def note_start(self) -> None:
        """Count a start from zero, which a request caused, as a step up."""
        self._since_up_s = self._waited_s = 0.0
        self._has_scaled = True

    def _measure(self, work: Work, interval_s: float) -> None:
        requests = work.requests
        self._waited_s = 0.0 if requests else self._waited_s + interval_s
        rate = requests / interval_s
        expected = rate if self._rate.value is None else self._rate.value
        self._rate.add(rate, max(1.0, expected * interval_s) / interval_s**2)
        if requests and work.time_s is not None:
            usual_s = work.time_s if self._time.value is None else self._time.value
            self._time.add(work.time_s, usual_s**2 / requests, has_changed=self._has_scaled)

    def _needed(self, allocations: int) -> int:
        """Give the number at which allocations are busy, but not all the time."""
        low_s = high_s = _UNKNOWN_TIME_S
        if self._time.value is not None:
            low_s, high_s = max(0.0, self._time.lower), self._time.upper
        low, high = max(0.0, self._rate.lower) * low_s, self._rate.upper * high_s
        needed = allocations
        while needed == 0 < low or (needed and low / needed > _UP):
            needed += 1
        while needed > 1 and high / (needed - 1) < _DOWN:
            needed -= 1
        return needed

    def _clamped(self, needed: int) -> int:
        least, most = self.bounds.least, self.bounds.most
        if not least and self._waited_s > self.idle_s:
            return 0
        wanted = max(min(needed, _MOST) if most is None else needed, least or 0)
        return wanted if most is None else min(wanted, most)
