"""Traces of load: an hour in ticks of ten seconds, and what a deployment makes of it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial

TICKS = 360
_TICK_S = 10.0

Rate = Callable[[float], float]
"""Texts a second that come, by the second of the hour."""


def _steps(at_s: float) -> float:
    return 2.0 if at_s < 900 else 40.0 if at_s < 2100 else 6.0


def _wave(at_s: float) -> float:
    return 12.0 + 10.0 * math.sin(at_s / 3600 * 4 * math.pi)


def _spikes(at_s: float) -> float:
    return 60.0 if at_s % 600 < 30 else 1.0


def _office(at_s: float) -> float:
    """Give nothing for twenty minutes in the middle: it falls to zero, and comes back."""
    return 0.0 if 1000 < at_s < 2400 else 8.0


def _ramp(at_s: float) -> float:
    return at_s / 3600 * 80.0


RATES: Mapping[str, Rate] = {
    "steps": _steps,
    "wave": _wave,
    "spikes": _spikes,
    "office": _office,
    "ramp": _ramp,
}


class Simulated:
    """A deployment whose allocations take `text_s` for a text, more when they are many."""

    def __init__(self, rate: Rate, *, text_s: float = 0.12, seed: int = 5) -> None:
        self._rate = rate
        self._text_s = text_s
        self._random = random.Random(seed)
        self._waiting = 0

    def ticks(self) -> Iterator[Callable[[int], tuple[int, int, int, float | None]]]:
        """Give, tick by tick, what changes with so many allocations, as counters would tell it."""
        for number in range(TICKS):
            came = self._poisson(self._rate(number * _TICK_S) * _TICK_S)
            noise = self._random.uniform(0.9, 1.1)
            yield partial(self._run, came, noise)

    def _run(self, came: int, noise: float, allocations: int) -> tuple[int, int, int, float | None]:
        text_s = self._text_s * noise * (1 + 0.02 * max(allocations - 1, 0))
        before = self._waiting
        can = int(allocations * _TICK_S / text_s)
        done = min(can, before + came)
        waiting = before + came - done
        refused = max(0, waiting - 2000)
        self._waiting = waiting - refused
        return done, self._waiting - before, refused, text_s if done else None

    def _poisson(self, mean: float) -> int:
        if mean <= 0:
            return 0
        return max(0, round(self._random.gauss(mean, math.sqrt(mean))))
