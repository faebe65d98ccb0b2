"""A worker's side of the leases of cores (`inferry.engine.cores`): one for each core of a batch."""

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

    Use from any thread.
    """

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._changed = threading.Condition()
        self._wanting = dict.fromkeys(Lane, 0)
        self._held = 0
        self._resting = 0
        self._owed = 0
        self._asked = 0
        self._asked_for = Lane.INGEST

    def acquire(self, lane: Lane) -> None:
        """Wait until a batch of `lane` may run."""
        with self._changed:
            self._wanting[lane] += 1
            self._ask()
            while not self._resting:
                self._changed.wait()
            self._resting -= 1
            self._wanting[lane] -= 1

    def acquire_more(self, count: int) -> bool:
        """Take further leases for a batch on several cores, if they rest, and never wait.

        What others have had meanwhile is asked for, so that the next one may find it.
        """
        with self._changed:
            if self._resting >= count and not any(self._wanting.values()):
                self._resting -= count
                return True
            for _ in range(1 + count - self._held - self._asked):
                self._ask_for(Lane.INGEST)
            return False

    def release(self, count: int = 1) -> None:
        """Let the leases of a batch that has run rest, or give back what others wait for."""
        with self._changed:
            self._resting += count
            self._settle()

    def hurry(self, lane: Lane) -> None:
        """Note that work of `lane` came, if what was asked for is for less urgent work."""
        with self._changed:
            if self._asked and lane < self._asked_for:
                self._asked_for = lane
                self._lender.hurry(lane)

    def granted(self) -> None:
        """Take a lease that was asked for."""
        with self._changed:
            self._asked -= 1
            self._held += 1
            self._resting += 1
            self._settle()

    def recall(self) -> None:
        """Give a lease back as soon as no batch runs under it."""
        with self._changed:
            self._owed += 1
            self._settle()

    def _settle(self) -> None:
        """Give back what is owed, hand on what rests, and ask for what is lacking then."""
        while self._owed and self._resting:
            self._owed -= 1
            self._resting -= 1
            self._held -= 1
            self._lender.give_back()
        if self._resting:
            self._changed.notify(self._resting)
        self._ask()

    def _ask(self) -> None:
        """Ask for as many leases as slots wait for, beyond those that rest or are asked for."""
        urgent_first = (lane for lane in Lane for _ in range(self._wanting[lane]))
        for number, lane in enumerate(urgent_first):
            if number >= self._resting + self._asked:
                self._ask_for(lane)

    def _ask_for(self, lane: Lane) -> None:
        self._asked_for = min(lane, self._asked_for) if self._asked else lane
        self._asked += 1
        self._lender.ask(lane)
