"""Runs the `auth` of a service and keeps what it gives for as long as it holds."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.concurrency import Nursery, SingleFlight
from inferry.domain import Endpoint
from inferry.protocols import Exchange
from inferry.service import Auth

REFRESH_BEFORE_S = 60.0
_MAX_KEPT = 4096

Send: TypeAlias = Callable[[HttpCall], Awaitable[HttpReply]]
_Key: TypeAlias = tuple[str, str, int, frozenset[tuple[str, str]]]


class Credentials:
    """Signed headers per endpoint; equal work runs once, whoever waits for it.

    send: makes a call that an `auth` asks for. now: seconds since the epoch.
    """

    def __init__(self, send: Send, *, nursery: Nursery, now: Callable[[], float]) -> None:
        self._send = send
        self._now = now
        self._kept: dict[_Key, Credential] = {}
        self._fetching = SingleFlight(nursery)

    async def headers(self, exchange: Exchange) -> Mapping[str, str]:
        """Give the headers that sign the call."""
        auth = exchange.auth
        if auth is None:
            return {}
        key = _key(exchange.endpoint)
        kept = self._kept.get(key)
        if kept is not None and self._is_fresh(kept):
            return kept.headers
        steps = auth(exchange.call, exchange.endpoint, self._now())
        try:
            next(steps)
        except StopIteration as done:  # no call needed: a constant key or a signature
            return self._keep(key, done.value).headers
        steps.close()
        fetched = await self._fetching.run(repr(key), lambda: self._fetch(auth, exchange, key))
        return fetched.headers

    def refused(self, exchange: Exchange, used: Mapping[str, str]) -> bool:
        """Take note that a provider refused the headers `used`; true if there are others to try."""
        key = _key(exchange.endpoint)
        kept = self._kept.get(key)
        if kept is None:
            return False
        if kept.headers != used:  # another call has replaced them meanwhile
            return True
        if kept.otherwise is not None:
            self._kept[key] = replace(kept, headers=kept.otherwise, otherwise=kept.headers)
            return True
        if kept.expires_at == math.inf:
            return False
        del self._kept[key]
        return True

    def _is_fresh(self, credential: Credential) -> bool:
        expires_at = credential.expires_at
        return expires_at is not None and expires_at - REFRESH_BEFORE_S > self._now()

    async def _fetch(self, auth: Auth, exchange: Exchange, key: _Key) -> Credential:
        steps = auth(exchange.call, exchange.endpoint, self._now())
        try:
            call = next(steps)
            while True:
                call = steps.send(await self._send(call))
        except StopIteration as done:
            return self._keep(key, done.value)
        finally:
            steps.close()

    def _keep(self, key: _Key, credential: Credential) -> Credential:
        if credential.expires_at is not None:
            while len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = credential
        return credential


def _key(endpoint: Endpoint) -> _Key:
    secrets = frozenset(endpoint.secrets.items())
    return (endpoint.service, endpoint.inference_id, endpoint.revision, secrets)
