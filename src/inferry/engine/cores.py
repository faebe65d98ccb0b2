"""Leases of the host's cores, so that deployments together never run more threads than there are.

A worker keeps a lease while nobody else needs it: alone on a host, it asks once. When somebody
does, the lease is recalled and comes back when the batch that uses it ends. Pure, for one thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from inferry.engine.jobs import Lane

_SEARCHES_PER_INGEST = 4


@dataclass(eq=False, slots=True)
class Holder:
    """A worker. recall: asks for one lease back, for that lane.

    owes_since: when the oldest of the recalled leases was asked back, on the monotonic clock.
    """

    recall: Callable[[Lane], None] = field(repr=False)
    leases: int = 0
    recalled: int = 0
    owes_since: float = math.inf

    def owes_for_s(self) -> float:
        """Tell how long it has kept what others wait for; below zero when it keeps nothing."""
        return time.monotonic() - self.owes_since


@dataclass(frozen=True, slots=True)
class _Ask:
    holder: Holder
    granted: asyncio.Future[None]


class Cores:
    """The cores of a host, one for each lease. total: of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._holders: dict[Holder, None] = {}  # whoever was granted last, comes last
        self._asks: dict[Lane, deque[_Ask]] = {lane: deque() for lane in Lane}
        self._searches_in_a_row = 0

    @property
    def free(self) -> int:
        """Count the cores that nobody holds."""
        return self.total - sum(holder.leases for holder in self._holders)

    async def lease(self, holder: Holder, lane: Lane) -> None:
        """Wait for one lease, first come, first served within a lane."""
        ask = _Ask(holder, asyncio.get_running_loop().create_future())
        self._asks[lane].append(ask)
        self._settle()
        await ask.granted

    def hurry(self, holder: Holder, lane: Lane) -> None:
        """Move an ask of `holder` up to `lane`: something more urgent came meanwhile."""
        for asked in sorted(Lane, reverse=True):
            ask = next((one for one in self._asks[asked] if one.holder is holder), None)
            if ask is not None and asked > lane:
                self._asks[asked].remove(ask)
                self._asks[lane].append(ask)
                self._settle()
                return

    def give_back(self, holder: Holder) -> None:
        """Take one lease back."""
        holder.leases -= 1
        holder.recalled = max(0, holder.recalled - 1)
        holder.owes_since = time.monotonic() if holder.recalled else math.inf
        self._settle()

    def leave(self, holder: Holder) -> None:
        """Take everything back from a worker that is gone, and forget what it asked for."""
        self._holders.pop(holder, None)
        holder.leases = holder.recalled = 0
        holder.owes_since = math.inf
        for lane, asks in self._asks.items():
            self._asks[lane] = deque(ask for ask in asks if ask.holder is not holder)
            for ask in asks:
                if ask.holder is holder:
                    ask.granted.cancel()
        self._settle()

    def _settle(self) -> None:
        """Grant what can be granted, and recall a lease for the next ask."""
        while (turn := self._turn()) is not None:
            ask = self._asks[turn][0]
            holder = ask.holder
            if ask.granted.done():  # whoever asked is gone
                self._asks[turn].popleft()
                continue
            if not self.free:
                self._recall(turn, for_holder=holder)
                return
            self._asks[turn].popleft()
            self._note(turn)
            self._holders.pop(holder, None)
            self._holders[holder] = None
            holder.leases += 1
            ask.granted.set_result(None)

    def _turn(self) -> Lane | None:
        """Tell which lane's ask is next; ingest is not put off for ever."""
        waiting = [lane for lane, asks in self._asks.items() if asks]
        if Lane.INGEST in waiting and self._searches_in_a_row >= _SEARCHES_PER_INGEST:
            return Lane.INGEST
        return min(waiting, default=None)

    def _note(self, turn: Lane) -> None:
        """Count the searches that went before a waiting ingest."""
        is_before_ingest = turn is not Lane.INGEST and bool(self._asks[Lane.INGEST])
        self._searches_in_a_row = self._searches_in_a_row + 1 if is_before_ingest else 0

    def _recall(self, lane: Lane, *, for_holder: Holder) -> None:
        """Recall a lease of somebody else, unless one is on its way back."""
        if any(holder.recalled for holder in self._holders):
            return
        for holder in self._holders:
            if holder is not for_holder and holder.leases:
                holder.recalled += 1
                holder.owes_since = min(holder.owes_since, time.monotonic())
                holder.recall(lane)
                return
