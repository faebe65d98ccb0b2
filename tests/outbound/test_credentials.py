"""Credentials are fetched once, kept while they hold, and never when they may not be."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator
from dataclasses import replace

import pytest

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.concurrency import Nursery
from inferry.domain import Deadline, Endpoint, TaskType
from inferry.errors import UpstreamError
from inferry.outbound.credentials import Credentials
from inferry.protocols import Exchange
from inferry.service import Auth
from tests.clocks import FakeClock

ENDPOINT = Endpoint("e", TaskType.RERANK, "s", {}, revision=1, secrets={"api_key": "a"})


def exchange_of(auth: Auth | None, endpoint: Endpoint = ENDPOINT) -> Exchange:
    call = HttpCall("POST", "https://provider.test/")
    return Exchange(call, endpoint, auth, Deadline.after(30, "30s"))


def fetched(call, endpoint, now) -> Generator[HttpCall, HttpReply, Credential]:
    """Give a token that holds for an hour, by two calls."""
    yield HttpCall("GET", "https://provider.test/discovery")
    reply = yield HttpCall("POST", "https://provider.test/token")
    return Credential({"token": reply.body.decode()}, now + 3600)


class Tokens:
    """Answers every call with a new token; waits for `may_answer` first."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def send(self, call: HttpCall) -> HttpReply:
        self.calls.append(call.url)
        await self.may_answer.wait()
        return HttpReply(200, {}, f"token-{len(self.calls)}".encode())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
async def credentials(tokens, clock):
    async with Nursery() as nursery:
        yield Credentials(tokens.send, nursery=nursery, now=clock.now)


async def test_a_service_without_auth_sends_no_credentials(credentials) -> None:
    assert await credentials.headers(exchange_of(None)) == {}


async def test_a_token_is_kept_until_a_minute_before_it_expires(credentials, tokens, clock) -> None:
    exchange = exchange_of(fetched)

    first = await credentials.headers(exchange)
    clock.advance(3539)
    second = await credentials.headers(exchange)
    clock.advance(1)
    third = await credentials.headers(exchange)

    assert first == second == {"token": "token-2"}
    assert third == {"token": "token-4"}


async def test_callers_at_once_share_one_fetch(credentials, tokens) -> None:
    tokens.may_answer.clear()
    calls = [asyncio.ensure_future(credentials.headers(exchange_of(fetched))) for _ in range(5)]
    await asyncio.sleep(0)
    tokens.may_answer.set()

    results = await asyncio.gather(*calls)

    assert results == [{"token": "token-2"}] * 5
    assert len(tokens.calls) == 2


async def test_a_caller_who_leaves_does_not_stop_the_fetch_for_others(credentials, tokens) -> None:
    tokens.may_answer.clear()
    leaving = asyncio.ensure_future(credentials.headers(exchange_of(fetched)))
    staying = asyncio.ensure_future(credentials.headers(exchange_of(fetched)))
    await asyncio.sleep(0)

    leaving.cancel()
    tokens.may_answer.set()

    assert await staying == {"token": "token-2"}
    assert leaving.cancelled()


@pytest.mark.parametrize(
    "other",
    [
        replace(ENDPOINT, inference_id="f"),
        replace(ENDPOINT, revision=2),
        replace(ENDPOINT, secrets={"api_key": "b"}),
    ],
)
async def test_another_endpoint_revision_or_secret_has_its_own(credentials, other) -> None:
    first = await credentials.headers(exchange_of(fetched))

    assert await credentials.headers(exchange_of(fetched, other)) != first


async def test_a_signature_is_made_for_every_call(credentials, clock) -> None:
    def signature(call, endpoint, now) -> Generator[HttpCall, HttpReply, Credential]:
        yield from ()
        return Credential({"signed-at": str(now)}, None)

    first = await credentials.headers(exchange_of(signature))
    clock.advance(1)

    second = await credentials.headers(exchange_of(signature))

    assert second != first
    assert not credentials.refused(exchange_of(signature), second)


async def test_a_constant_key_is_not_worth_a_second_try(credentials) -> None:
    def constant(call, endpoint, now) -> Generator[HttpCall, HttpReply, Credential]:
        yield from ()
        return Credential({"key": "a"}, math.inf)

    headers = await credentials.headers(exchange_of(constant))

    assert not credentials.refused(exchange_of(constant), headers)


async def test_a_refused_token_is_fetched_anew(credentials) -> None:
    exchange = exchange_of(fetched)
    headers = await credentials.headers(exchange)

    assert credentials.refused(exchange, headers)
    assert not credentials.refused(exchange, headers)
    assert await credentials.headers(exchange) == {"token": "token-4"}


async def test_a_token_that_was_fetched_meanwhile_is_not_given_up(credentials) -> None:
    exchange = exchange_of(fetched)
    former = await credentials.headers(exchange)
    credentials.refused(exchange, former)
    newer = await credentials.headers(exchange)

    assert credentials.refused(exchange, former)
    assert await credentials.headers(exchange) == newer


async def test_another_form_of_a_key_is_tried_and_what_works_is_remembered(credentials) -> None:
    def either(call, endpoint, now) -> Generator[HttpCall, HttpReply, Credential]:
        yield from ()
        return Credential({"key": "bare"}, math.inf, otherwise={"key": "Bearer"})

    exchange = exchange_of(either)
    first = await credentials.headers(exchange)

    assert credentials.refused(exchange, first)
    assert await credentials.headers(exchange) == {"key": "Bearer"}
    assert credentials.refused(exchange, {"key": "Bearer"})
    assert await credentials.headers(exchange) == first == {"key": "bare"}


async def test_a_failed_fetch_is_told_and_tried_again_next_time(credentials, tokens) -> None:
    def failing(call, endpoint, now) -> Generator[HttpCall, HttpReply, Credential]:
        yield HttpCall("POST", "https://provider.test/token")
        raise UpstreamError("Failed to retrieve access token")

    for _ in range(2):
        with pytest.raises(UpstreamError, match="access token"):
            await credentials.headers(exchange_of(failing))

    assert len(tokens.calls) == 2
