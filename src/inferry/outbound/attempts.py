"""Tries a call until it works, its failure is final, or its deadline ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from inferry.concurrency import time_limit
from inferry.domain import Deadline
from inferry.errors import QueueFull, Retry, UpstreamError, UpstreamUnreachable
from inferry.outbound.breaker import Breaker
from inferry.outbound.clock import Clock
from inferry.outbound.retry import RetryBudget, RetryPolicy

T = TypeVar("T")

_MAX_GROUPS = 10_000
# A kept connection that the provider closed meanwhile: the next try opens a new one, at once.
_CLOSED = (ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True, slots=True)
class _Health:
    budget: RetryBudget
    breaker: Breaker = field(default_factory=Breaker)


class Attempts:
    """Retries per `error.retry`, with one budget and one breaker per group."""

    def __init__(
        self, policy: RetryPolicy, clock: Clock, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._policy = policy
        self._loop = loop
        self._clock = clock
        self._groups: dict[str, _Health] = {}

    async def run(self, once: Callable[[], Awaitable[T]], *, group: str, deadline: Deadline) -> T:
        """Give what `once` gives.

        Raises the last `UpstreamError` when no attempt is left or the next would come after the
        deadline, `DeadlineExceeded` when the provider has said nothing until then, and `QueueFull`
        while the breaker of the group is open.
        """
        health = self._health(group)
        blocked_s = health.breaker.blocked_s(self._clock.monotonic())
        if blocked_s > 0:
            raise _refused(group, deadline, blocked_s)
        failure: UpstreamError | None = None
        attempt = 0
        try:
            with time_limit(deadline.left_s(), self._loop):
                while True:
                    attempt += 1
                    try:
                        answer = await once()
                    except UpstreamError as error:
                        failure = error
                    else:
                        health.breaker.succeeded()
                        health.budget.earn()
                        return answer
                    delay_s = self._delay_s(failure, attempt)
                    if not self._may_retry(failure, attempt, delay_s, deadline, health):
                        raise failure
                    await self._clock.sleep(delay_s)
        except TimeoutError:
            raise (failure or deadline.exceeded()) from None

    def _may_retry(
        self,
        failure: UpstreamError,
        attempt: int,
        delay_s: float,
        deadline: Deadline,
        health: _Health,
    ) -> bool:
        now = self._clock.monotonic()
        if (
            failure.retry is Retry.YES
            and attempt < self._policy.attempts
            and delay_s < deadline.left_s()
            and health.budget.spend(now)
        ):
            return True
        if _is_sick(failure):
            health.breaker.failed(now)
        else:
            health.breaker.succeeded()
        return False

    def _delay_s(self, failure: UpstreamError, attempt: int) -> float:
        if failure.retry_after_s is not None:
            return failure.retry_after_s
        if attempt == 1 and isinstance(failure.__cause__, _CLOSED):
            return 0.0
        return self._policy.delay_s(attempt, random.random())  # noqa: S311  (spreads retries)

    def _health(self, group: str) -> _Health:
        health = self._groups.get(group)
        if health is None:
            while len(self._groups) >= _MAX_GROUPS:
                del self._groups[next(iter(self._groups))]
            health = self._groups[group] = _Health(RetryBudget(self._clock.monotonic()))
        return health


def _is_sick(failure: UpstreamError) -> bool:
    status = failure.upstream_status
    return isinstance(failure, UpstreamUnreachable) or (status is not None and status >= 500)


def _refused(group: str, deadline: Deadline, blocked_s: float) -> QueueFull:
    subject = f" for inference id [{deadline.inference_id}]" if deadline.inference_id else ""
    return QueueFull(
        f"Failed to execute task{subject} because the request service [{group}] "
        "failed too often in a row and is left alone",
        retry_after_s=blocked_s,
    )
