"""A worker's side of the leases of cores (`inferry.engine.cores`): one for each core of a batch.

A wide batch may run under leases that narrow ones are using, which give way to it.
"""

from __future__ import annotations

import threading
from typing import Protocol

from inferry.engine.jobs import Lane


class Lender(Protocol):
    """Whoever lends cores, far away: nothing here blocks."""

    def ask(self, lane: Lane) -> None:
        """Ask for one lease more, for work of `lane`; `Leases.granted` is called later."""

    def hurry(self, lane: Lane) -> None:
        """Say that what was asked for is now for work of `lane`."""

    def give_back(self) -> None:
        """Give one lease back."""


class Leases:
    """The leases of a worker. Those that rest are kept until they are recalled.

    most: that it may have; an ask for more would never be granted, and stand before those of
    others. Use from any thread.
    """

    def __init__(self, lender: Lender, most: int) -> None:
        self._lender = lender
        self._most = most
        self._changed = threading.Condition()
        self._wanting = dict.fromkeys(Lane, 0)
        self._held = 0
        self._resting = 0
        self._handed_over = 0  # to a batch that waits and may begin, whatever is recalled
        self._overtaken = 0  # by wide batches, resting or not
        self._owed = 0
        self._asked = 0
        self._asked_for = Lane.INGEST

    def acquire(self, lane: Lane) -> None:
        """Wait until a batch of `lane` may run."""
        with self._changed:
            self._wanting[lane] += 1
            self._ask()
            while not self._handed_over and not self._resting:
                self._changed.wait()
            if self._handed_over:
                self._handed_over -= 1
            else:
                self._resting -= 1
            self._wanting[lane] -= 1

    def overtake(self, count: int, lane: Lane, patience_s: float = 0.0) -> bool:
        """Use the cores of `count` leases for a wide batch of `lane`, whatever runs there.

        Where so many are not held, they are asked for, so that the next one may find them; only the
        first is urgent.
        """
        with self._changed:
            if not self._has(count):
                for number in range(count - self._held - self._asked):
                    self._ask_for(Lane.INGEST if number else lane)
                self._changed.wait_for(lambda: self._has(count), patience_s)
            has_them = self._has(count)
            self._overtaken += count if has_them else 0
            return has_them

    def fall_back(self, count: int) -> None:
        """Leave the cores that were overtaken to the batches that run there."""
        with self._changed:
            self._overtaken -= count
            self._settle()

    def release(self) -> None:
        """Let the lease of a batch that has run rest, or give it back if others wait for it."""
        with self._changed:
            self._resting += 1
            self._settle()

    def hurry(self, lane: Lane) -> None:
        """Note that work of `lane` came, if what was asked for is for less urgent work."""
        with self._changed:
            if self._asked and lane < self._asked_for:
                self._asked_for = lane
                self._lender.hurry(lane)

    def granted(self) -> None:
        """Take a lease that was asked for: for a batch at least, if one still waits."""
        with self._changed:
            self._asked -= 1
            self._held += 1
            if self._handed_over < sum(self._wanting.values()):
                self._handed_over += 1
                self._changed.notify_all()
            else:
                self._resting += 1
            self._settle()

    def recall(self) -> None:
        """Give a lease back as soon as no batch runs under it."""
        with self._changed:
            self._owed += 1
            self._settle()

    def _settle(self) -> None:
        """Give back what is owed, hand on what rests, and ask for what is lacking then."""
        while self._owed and self._resting and self._held > self._overtaken:
            self._owed -= 1
            self._resting -= 1
            self._held -= 1
            self._lender.give_back()
        if self._resting:
            self._changed.notify_all()
        self._ask()

    def _has(self, count: int) -> bool:
        """Tell whether so many are held that no wide batch uses, and nobody is waiting for."""
        return self._held - self._owed - self._overtaken >= count

    def _ask(self) -> None:
        """Ask for as many leases as slots wait for, beyond those that come to them."""
        urgent_first = (lane for lane in Lane for _ in range(self._wanting[lane]))
        coming = self._handed_over + self._resting + self._asked
        for number, lane in enumerate(urgent_first):
            if number >= coming:
                self._ask_for(lane)

    def _ask_for(self, lane: Lane) -> None:
        if self._held + self._asked >= self._most:
            return
        self._asked_for = min(lane, self._asked_for) if self._asked else lane
        self._asked += 1
        self._lender.ask(lane)
