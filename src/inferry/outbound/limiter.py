"""Rate limits of provider accounts: one bucket per group and host, leased to API processes.

`Buckets` lives in the supervisor. `LeasingLimiter` lives in an API process, hands permits out in
order of arrival, and leases several at once when traffic is high, so that a request costs no
round trip to the supervisor; what is leased and not used in time expires with the lease.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from inferry.commands import Grant, TakeTokens
from inferry.concurrency import Nursery, time_limit
from inferry.domain import Deadline
from inferry.errors import InferenceError, InternalError, QueueFull, ShuttingDown
from inferry.outbound.clock import Clock, SystemClock

LEASE_S = 1.0
_FORGET_OWNER_S = 3600.0
_FORGET_GROUP_S = 10 * 24 * 3600.0
_SWEEP_EVERY_S = 600.0
_MAX_LEASES = 10_000

Take: TypeAlias = Callable[[TakeTokens], Awaitable[Grant]]


class TokenBucket:
    """Fills evenly up to one second's worth, at least one token. Times are monotonic seconds."""

    def __init__(self, requests_per_minute: float, now: float) -> None:
        self._tokens = 0.0
        self._at = now
        self.set_rate(requests_per_minute, now)
        self._tokens = self._capacity

    def set_rate(self, requests_per_minute: float, now: float) -> None:
        """Change the rate; what has filled so far stays, within the new capacity."""
        if self._at < now:
            self._fill(now)
        self._per_second = requests_per_minute / 60
        self._capacity = max(self._per_second, 1.0)
        self._tokens = min(self._tokens, self._capacity)

    def take(self, wanted: int, now: float) -> int:
        """Take up to `wanted` whole tokens."""
        self._fill(now)
        taken = min(wanted, int(self._tokens + 1e-9))
        self._tokens = max(self._tokens - taken, 0.0)
        return taken

    def wait_s(self, now: float) -> float:
        """Give the seconds until there is a whole token."""
        self._fill(now)
        return max(1.0 - self._tokens, 0.0) / self._per_second

    def _fill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._at) * self._per_second, self._capacity)
        self._at = now


@dataclass(slots=True)
class _Account:
    """A group's bucket and who draws on it: endpoint id → limit and last time heard of."""

    bucket: TokenBucket
    limit: float
    owners: dict[str, tuple[float, float]]
    used_at: float


class Buckets:
    """Answers `TakeTokens` for the whole host. The lowest limit of a group's endpoints holds."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._accounts: dict[str, _Account] = {}
        self._swept_at = self._clock.monotonic()

    async def take(self, command: TakeTokens) -> Grant:
        """Give the permits that there are, or say when there will be one."""
        now = self._clock.monotonic()
        self._sweep(now)
        account = self._account(command, now)
        taken = account.bucket.take(max(command.wanted, 1), now)
        wait_s = 0.0 if taken else account.bucket.wait_s(now)
        return Grant(tokens=taken, holds_s=LEASE_S, wait_s=wait_s)

    def _account(self, command: TakeTokens, now: float) -> _Account:
        asked = command.requests_per_minute
        account = self._accounts.get(command.group)
        if account is None:
            account = _Account(TokenBucket(asked, now), asked, {}, now)
            self._accounts[command.group] = account
        account.used_at = now
        account.owners[command.owner] = (asked, now)
        lowest = min(limit for limit, _ in account.owners.values())
        if lowest != account.limit:
            account.limit = lowest
            account.bucket.set_rate(lowest, now)
        return account

    def _sweep(self, now: float) -> None:
        if now - self._swept_at < _SWEEP_EVERY_S:
            return
        self._swept_at = now
        for group, account in list(self._accounts.items()):
            if now - account.used_at > _FORGET_GROUP_S:
                del self._accounts[group]
                continue
            for owner, (_, heard_at) in list(account.owners.items()):
                if now - heard_at > _FORGET_OWNER_S:
                    del account.owners[owner]


@dataclass(slots=True)
class _Lease:
    """What an API process knows of a group. handed_out: permits given since `measured_from`."""

    requests_per_minute: float
    tokens: int = 0
    holds_until: float = 0.0
    handed_out: int = 0
    measured_from: float = 0.0
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)
    is_asking: bool = False


class LeasingLimiter:
    """Implements `protocols.Limiter` in an API process."""

    def __init__(
        self,
        take: Take,
        *,
        nursery: Nursery,
        queue_capacity: int = 2000,
        clock: Clock | None = None,
    ) -> None:
        self._take = take
        self._nursery = nursery
        self._capacity = queue_capacity
        self._clock = clock or SystemClock()
        self._leases: dict[str, _Lease] = {}
        self._is_draining = False

    async def acquire(self, group: str, requests_per_minute: float, *, deadline: Deadline) -> float:
        """Wait for a permit and give the seconds waited; see `protocols.Limiter`."""
        if self._is_draining:
            raise ShuttingDown(
                f"Failed to enqueue task for inference id [{deadline.inference_id}] because the "
                f"request service [{group}] has already shutdown"
            )
        now = self._clock.monotonic()
        lease = self._leases.get(group)
        if lease is None:
            self._forget_idle()
            lease = self._leases[group] = _Lease(requests_per_minute, measured_from=now)
        elif lease.requests_per_minute != requests_per_minute:
            lease.requests_per_minute, lease.tokens = requests_per_minute, 0
        if lease.tokens and not lease.waiters and now < lease.holds_until:
            lease.tokens -= 1
            lease.handed_out += 1
            return 0.0
        await self._wait(group, lease, deadline)
        return self._clock.monotonic() - now

    def drain(self) -> None:
        """Refuse new calls from now on; those that wait are still served."""
        self._is_draining = True

    def _forget_idle(self) -> None:
        if len(self._leases) >= _MAX_LEASES:
            busy = {name: lease for name, lease in self._leases.items() if lease.is_asking}
            self._leases = busy

    async def _wait(self, group: str, lease: _Lease, deadline: Deadline) -> None:
        if len(lease.waiters) >= self._capacity:
            raise QueueFull(
                f"Failed to execute task for inference id [{deadline.inference_id}] because the "
                f"request service [{group}] queue is full",
                retry_after_s=60.0 / lease.requests_per_minute,
            )
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lease.waiters.append(waiter)
        if not lease.is_asking:
            lease.is_asking = True
            self._nursery.start(self._serve(group, lease, deadline.inference_id))
        try:
            with time_limit(deadline.left_s()):
                await waiter
        except TimeoutError:
            raise deadline.exceeded() from None
        finally:
            if waiter.cancelled() and waiter in lease.waiters:  # its caller has left
                lease.waiters.remove(waiter)

    async def _serve(self, group: str, lease: _Lease, owner: str) -> None:
        """Ask for permits and hand them out until nobody waits."""
        failure: InferenceError = InternalError(f"The rate limit of [{group}] is out of reach")
        try:
            while lease.waiters:
                grant = await self._take(
                    TakeTokens(
                        group=group,
                        requests_per_minute=lease.requests_per_minute,
                        wanted=len(lease.waiters) + self._spare(lease),
                        owner=owner,
                    )
                )
                self._hand_out(lease, grant)
                if lease.waiters and not grant.tokens:
                    await self._clock.sleep(grant.wait_s)
        except InferenceError as error:
            failure = error
        finally:
            lease.is_asking = False
            for waiter in lease.waiters:
                if not waiter.done():
                    waiter.set_exception(failure)
            lease.waiters.clear()

    def _hand_out(self, lease: _Lease, grant: Grant) -> None:
        lease.tokens = grant.tokens
        lease.holds_until = self._clock.monotonic() + grant.holds_s
        while lease.tokens and lease.waiters:
            waiter = lease.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                lease.tokens -= 1
                lease.handed_out += 1

    def _spare(self, lease: _Lease) -> int:
        """Estimate the permits that will be needed while a lease holds, by the recent traffic."""
        now = self._clock.monotonic()
        elapsed = max(now - lease.measured_from, 1e-3)
        rate = lease.handed_out / max(elapsed, LEASE_S)
        if elapsed >= LEASE_S:
            lease.handed_out, lease.measured_from = 0, now
        return int(rate * LEASE_S)
