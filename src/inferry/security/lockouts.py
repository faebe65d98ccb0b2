"""Failed logins: counted per pair of user and address, for the whole host.

A pair that failed too often within a minute is locked out for the rest of it: nothing is hashed
for it, and a login that was remembered does not let it in either, else guessing could go on at the
speed of a look-up. `FailedLogins` counts in the supervisor; `Lockouts` is what an API process
knows.

Times are of the monotonic clock, which is one for all processes of a host.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from inferry.commands import NoteFailedLogin
from inferry.errors import LockedOut
from inferry.protocols import Publish
from inferry.records import Change, LockoutRecord, Put

MAX_FAILURES = 100
WINDOW_S = 60.0
MAX_PAIRS = 20_000
"""More than the slow hashes of a host fail in a minute; beyond it the oldest pair is forgotten."""
_SUBSCRIBER_BITS = 64  # of an IPv6 address; the rest is the subscriber's own to choose


def pair_of(username: str, address: str) -> bytes:
    """Give 16 bytes that stand for a user, known or not, and the network of an address."""
    text = f"{_network_of(address)}\n{username}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


def locked_out(username: str, address: str, left_s: float) -> LockedOut:
    """Word the refusal."""
    return LockedOut(
        f"too many failed attempts to authenticate user [{username}] from [{address}], "
        f"try again in [{max(left_s, 1):.0f}s]",
        retry_after_s=left_s,
        user=username,
    )


class FailedLogins:
    """Counts what the API processes note, and tells them all who is locked out."""

    def __init__(
        self, publish: Publish, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._publish = publish
        self._monotonic = monotonic
        self._failures: dict[bytes, list[float]] = {}  # times, oldest first; pairs by their newest

    async def note(self, failed: NoteFailedLogin) -> float:
        """Count a failure; give the seconds that the pair is locked out, 0 while it is not.

        When it is, every API process knows it before this returns.
        """
        now = self._monotonic()
        self._forget(now)
        times = [at for at in self._failures.pop(failed.pair, ()) if now - at < WINDOW_S]
        times = [*times[-(MAX_FAILURES - 1) :], now]
        self._failures[failed.pair] = times
        if len(times) < MAX_FAILURES:
            return 0.0
        until = times[0] + WINDOW_S
        await self._publish([Put(LockoutRecord(failed.pair, until))])
        return until - now

    def records(self) -> Iterator[LockoutRecord]:
        """Give the lockouts of this moment, for a process that starts."""
        now = self._monotonic()
        for pair, times in list(self._failures.items()):
            if len(times) == MAX_FAILURES and times[0] + WINDOW_S > now:
                yield LockoutRecord(pair, times[0] + WINDOW_S)

    def _forget(self, now: float) -> None:
        """Drop pairs whose minute is over, and the oldest when there are too many."""
        while self._failures:
            pair, times = next(iter(self._failures.items()))
            if now - times[-1] < WINDOW_S and len(self._failures) < MAX_PAIRS:
                return
            del self._failures[pair]


class Lockouts:
    """The pairs that must wait, as an API process holds them; true while there are any."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._until: dict[bytes, float] = {}

    def apply(self, changes: Sequence[Change]) -> None:
        """Take over lockouts; other changes are left alone."""
        for change in changes:
            match change:
                case Put(record=LockoutRecord(pair=pair, until_s=until_s)):
                    self._forget()
                    self._until[pair] = until_s
                case _:
                    continue

    def left_s(self, pair: bytes) -> float:
        """Give the seconds that a pair must wait, 0 when it need not."""
        return max(self._until.get(pair, 0.0) - self._monotonic(), 0.0)

    def __bool__(self) -> bool:
        if self._until:
            self._forget()
        return bool(self._until)

    def _forget(self) -> None:
        now = self._monotonic()
        self._until = {pair: until for pair, until in self._until.items() if until > now}


@lru_cache(maxsize=4096)
def _network_of(address: str) -> str:
    """Give what stands for an address: itself, or the /64 of IPv6, which is one subscriber's."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), _SUBSCRIBER_BITS), strict=False))
