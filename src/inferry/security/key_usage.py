"""What API keys with limits have used: counted for the whole host, in the supervisor.

A minute begins with its first request, a day at midnight UTC. Days are written to the store every
few seconds and outlive the server; minutes do not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferry.commands import (
    Admission,
    AdmitKey,
    Command,
    FetchKeyUsage,
    KeyUsage,
    SpendKeyTokens,
)
from inferry.errors import StoreFailure
from inferry.protocols import Store
from inferry.telemetry import get_logger

FLUSH_EVERY_S = 5.0
_NAME = "api_key_usage"
_MINUTE_S, _DAY_S = 60.0, 24 * 3600


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """The day of a key, as it is kept. day: since the epoch."""

    key_id: str
    day: int
    requests: int
    refused: int
    tokens: int


@dataclass(slots=True)
class _Account:
    """What a key used, of the minute that began at `minute_at` and of the day `day`."""

    day: int
    minute_at: float = 0.0
    minute_requests: int = 0
    minute_tokens: int = 0
    requests: int = field(default=0)
    refused: int = 0
    tokens: int = 0


class KeyUsages:
    """Admits requests and counts tokens. now: seconds since the epoch."""

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._accounts: dict[str, _Account] = {}
        self._is_changed = False

    def handlers(self) -> dict[type[Command], Callable[[Any], Awaitable[Any]]]:
        """Give the handler of each command."""
        return {AdmitKey: self.admit, SpendKeyTokens: self.spend, FetchKeyUsage: self.fetch}

    async def load(self, key_ids: Collection[str]) -> None:
        """Take over what the store holds of the keys that there are."""
        kept = await self._store.value(_NAME, lambda: "[]")
        for one in msgspec.json.decode(kept, type=list[_Stored]):
            if one.key_id in key_ids:
                self._accounts[one.key_id] = _Account(
                    one.day, requests=one.requests, refused=one.refused, tokens=one.tokens
                )

    async def admit(self, asked: AdmitKey) -> Admission:
        """Count a request, or say which limit is used up and for how long."""
        account, now = self._account(asked.key_id)
        limits = asked.limits
        if now - account.minute_at >= _MINUTE_S or now < account.minute_at:
            account.minute_at, account.minute_requests, account.minute_tokens = now, 0, 0
        minute_left_s = account.minute_at + _MINUTE_S - now
        day_left_s = (account.day + 1) * _DAY_S - now
        for limit, used, left_s, name in (
            (limits.requests_per_minute, account.minute_requests, minute_left_s, "requests"),
            (limits.tokens_per_minute, account.minute_tokens, minute_left_s, "tokens"),
            (limits.tokens_per_day, account.tokens, day_left_s, ""),
        ):
            if limit is not None and used >= limit:
                account.refused += 1
                named = f"[{limit}] {name} per minute" if name else f"[{limit}] tokens per day"
                return Admission(named, left_s)
        account.minute_requests += 1
        account.requests += 1
        return Admission()

    async def spend(self, spent: SpendKeyTokens) -> None:
        """Count tokens."""
        account, _ = self._account(spent.key_id)
        account.minute_tokens += spent.tokens
        account.tokens += spent.tokens

    async def fetch(self, _: FetchKeyUsage) -> list[KeyUsage]:
        """Tell what keys with limits used today."""
        today = int(self._now() // _DAY_S)
        return [
            KeyUsage(key_id, one.requests, one.refused, one.tokens)
            for key_id, one in sorted(self._accounts.items())
            if one.day == today
        ]

    async def watch(self) -> None:
        """Write what changed, every few seconds."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what changed since the last time; a failing store is tried again the next."""
        if not self._is_changed:
            return
        today = int(self._now() // _DAY_S)
        rows = [
            _Stored(key_id, one.day, one.requests, one.refused, one.tokens)
            for key_id, one in self._accounts.items()
            if one.day == today
        ]
        self._is_changed = False
        try:
            await self._store.keep(_NAME, msgspec.json.encode(rows).decode())
        except StoreFailure as error:
            self._is_changed = True
            get_logger().error("the usage of API keys was not stored", reason=str(error))

    def _account(self, key_id: str) -> tuple[_Account, float]:
        """Give the account of a key, of today, and the time."""
        now = self._now()
        day = int(now // _DAY_S)
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account(day)
        elif account.day != day:
            account.day, account.requests, account.refused, account.tokens = day, 0, 0, 0
        self._is_changed = True
        return account, now
