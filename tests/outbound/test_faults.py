"""Every way in which a provider fails: what the caller is told, after how many attempts.

The fixtures check that neither a task nor a connection is left behind.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from inferry.calls import HttpCall, HttpReply
from inferry.concurrency import within
from inferry.domain import Deadline, Endpoint, TaskType
from inferry.errors import (
    DeadlineExceeded,
    QueueFull,
    Retry,
    UnreadableReply,
    UpstreamError,
    UpstreamUnreachable,
)
from inferry.protocols import Exchange
from tests import providers as fake

pytestmark = pytest.mark.faults

ENDPOINT = Endpoint("endpoint-1", TaskType.TEXT_EMBEDDING, "openai", {})
RETRIED = {429: Retry.YES, 500: Retry.YES, 503: Retry.YES, 413: Retry.SHORTER}


def read(reply: HttpReply) -> object:
    """Read a reply as a service does, with its words left out."""
    if reply.status != 200:
        retry = RETRIED.get(reply.status, Retry.NO)
        raise UpstreamError(f"status {reply.status}", upstream_status=reply.status, retry=retry)
    try:
        return json.loads(reply.body)
    except ValueError as error:
        raise UnreadableReply("Failed to parse", retry=Retry.YES) from error


def exchange_with(provider, *, timeout_s=30.0, timeout="30s", stream=False) -> Exchange:
    content = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    body = json.dumps(content if stream else {"input": ["a", "b"]}).encode()
    path = "/v1/chat/completions" if stream else "/v1/embeddings"
    call = HttpCall("POST", provider.url + path, {}, body)
    deadline = Deadline.after(timeout_s, timeout, "endpoint-1")
    return Exchange(call, ENDPOINT, None, deadline, "group-1")


async def failure_of(client, exchange) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  (the test says which)
        await client.exchange(exchange, read)
    return caught.value


# --- whole answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [fake.reset, fake.hang_up, fake.half_body])
async def test_a_broken_connection_is_tried_three_times(client, provider, clock, fault) -> None:
    provider.always(fault)

    error = await failure_of(client, exchange_with(provider))

    assert isinstance(error, UpstreamUnreachable)
    place = provider.url.removeprefix("http://")
    assert str(error) == f"Failed to send request to [{place}]"
    assert error.__cause__ is not None
    assert len(provider.requests) == 3
    assert len(clock.slept) == 2


@pytest.mark.parametrize("fault", [fake.reset, fake.hang_up])
async def test_a_connection_that_broke_once_is_opened_anew_at_once(client, provider, clock, fault):
    provider.then(fault)

    await client.exchange(exchange_with(provider), read)

    assert clock.slept == [0.0]


@pytest.mark.parametrize(("status", "attempts"), [(429, 3), (500, 3), (503, 3), (413, 1), (400, 1)])
async def test_only_what_the_service_calls_retriable_is_retried(client, provider, status, attempts):
    provider.always(fake.refuse(status))

    error = await failure_of(client, exchange_with(provider))

    assert isinstance(error, UpstreamError)
    assert error.upstream_status == status
    assert len(provider.requests) == attempts


async def test_pauses_between_attempts_double(client, provider, clock) -> None:
    provider.always(fake.refuse(503))

    await failure_of(client, exchange_with(provider))

    first, second = clock.slept
    assert 1 <= first <= 2
    assert 2 <= second <= 4


async def test_a_provider_that_recovers_is_answered_from(client, provider) -> None:
    provider.then(fake.refuse(503), fake.half_json)

    reply = await client.exchange(exchange_with(provider), read)

    assert len(reply["data"]) == 2
    assert len(provider.requests) == 3


async def test_retry_after_that_fits_the_deadline_is_obeyed(client, provider, clock) -> None:
    provider.then(fake.refuse(429, headers={"Retry-After": "7"}))

    await client.exchange(exchange_with(provider), read)

    assert clock.slept == [7.0]


async def test_retry_after_beyond_the_deadline_is_final_at_once(client, provider, clock) -> None:
    provider.always(fake.refuse(429, headers={"Retry-After": "31"}))

    error = await failure_of(client, exchange_with(provider))

    assert isinstance(error, UpstreamError)
    assert (error.upstream_status, error.retry_after_s) == (429, 31.0)
    assert len(provider.requests) == 1
    assert clock.slept == []


@pytest.mark.parametrize("fault", [fake.never_answer, fake.stall])
async def test_a_silent_provider_is_left_at_the_deadline(client, provider, fault) -> None:
    provider.always(fault)

    error = await failure_of(client, exchange_with(provider, timeout_s=0.5, timeout="500ms"))

    assert isinstance(error, DeadlineExceeded)
    assert str(error) == "Request timed out after [500ms] for inference id [endpoint-1]"
    assert error.timeout == "500ms"
    assert len(provider.requests) == 1
    await provider.all_closed()


async def test_what_the_provider_said_before_the_deadline_wins(client, provider) -> None:
    provider.then(fake.refuse(503, headers={"Retry-After": "0"}), fake.never_answer)

    error = await failure_of(client, exchange_with(provider, timeout_s=1.0))

    assert isinstance(error, UpstreamError)
    assert error.upstream_status == 503


async def test_a_redirect_is_not_followed(client, provider) -> None:
    provider.always(fake.redirect)

    error = await failure_of(client, exchange_with(provider))

    assert isinstance(error, UpstreamError)
    assert error.upstream_status == 302
    assert len(provider.requests) == 1


async def test_sixty_megabytes_are_not_read_to_their_end(client, provider) -> None:
    provider.always(fake.big_body)

    error = await failure_of(client, exchange_with(provider))

    assert isinstance(error, UnreadableReply)
    assert "larger than [52428800] bytes" in str(error)
    assert len(provider.requests) == 1
    await provider.all_closed()


async def test_half_a_json_body_is_tried_three_times(client, provider) -> None:
    provider.always(fake.half_json)

    error = await failure_of(client, exchange_with(provider))

    assert isinstance(error, UnreadableReply)
    assert len(provider.requests) == 3


async def test_a_caller_who_leaves_takes_the_connection_along(client, provider) -> None:
    provider.always(fake.never_answer)
    call = asyncio.ensure_future(client.exchange(exchange_with(provider), read))
    await provider.request_arrived()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await provider.all_closed()


async def test_a_group_that_always_fails_is_left_alone_for_a_while(client, provider, clock) -> None:
    provider.always(fake.refuse(503))
    for _ in range(10):
        await failure_of(client, exchange_with(provider))
    sent = len(provider.requests)

    error = await failure_of(client, exchange_with(provider))

    assert isinstance(error, QueueFull)
    assert error.retry_after_s is not None
    assert 0 < error.retry_after_s <= 5
    assert len(provider.requests) == sent
    clock.advance(5)
    provider.always(None)
    await client.exchange(exchange_with(provider), read)
    await client.exchange(exchange_with(provider), read)


# --- streams -----------------------------------------------------------------------------------


def refuse(reply: HttpReply) -> Exception:
    retry = RETRIED.get(reply.status, Retry.NO)
    return UpstreamError(f"status {reply.status}", upstream_status=reply.status, retry=retry)


async def events_of(client, exchange) -> list[str]:
    async with client.stream(exchange, framing="sse", refuse=refuse) as stream:
        return [event.data async for events in stream.events() for event in events]


async def test_opening_a_stream_is_retried(client, provider, clock) -> None:
    provider.then(fake.refuse(503), fake.reset)

    events = await events_of(client, exchange_with(provider, stream=True))

    assert events[-1] == "[DONE]"
    assert len(provider.requests) == 3


async def test_a_stream_that_comes_byte_by_byte_is_complete(client, provider) -> None:
    provider.then(fake.dripped_stream)
    exchange = exchange_with(provider, stream=True)

    events = await events_of(client, exchange)

    assert events == fake.chat_events(json.loads(exchange.call.body))


async def test_a_cut_stream_gives_what_came_and_then_an_error_without_a_retry(client, provider):
    provider.always(fake.cut_stream)
    seen = []

    with pytest.raises(UpstreamUnreachable, match=r"The stream of \[127.0.0.1:\d+\] broke"):
        async with client.stream(
            exchange_with(provider, stream=True), framing="sse", refuse=refuse
        ) as stream:
            async for events in stream.events():
                seen += events

    assert len(seen) == 3
    assert len(provider.requests) == 1


async def test_a_stream_that_falls_silent_ends_after_the_idle_time(hasty_client, provider) -> None:
    provider.always(fake.stalled_stream)

    with pytest.raises(UpstreamUnreachable, match=r"sent nothing for \[0.2s\] within a stream"):
        await events_of(hasty_client, exchange_with(provider, stream=True))

    await provider.all_closed()


async def test_a_stream_that_never_begins_ends_at_the_deadline(client, provider) -> None:
    async def begin_only(connection, received):
        await fake.begin_events(connection)
        await fake.never_answer(connection, received)

    provider.then(begin_only)

    with pytest.raises(DeadlineExceeded, match=r"Request timed out after \[500ms\]"):
        await events_of(
            client, exchange_with(provider, stream=True, timeout_s=0.5, timeout="500ms")
        )

    await provider.all_closed()


async def test_the_deadline_does_not_cut_a_stream_that_has_begun(client, provider) -> None:
    go_on = asyncio.Event()

    async def pause(connection, received):
        await fake.begin_events(connection)
        await fake.send_event(connection, "first")
        await go_on.wait()
        await fake.send_event(connection, "second")
        await connection.send(b"0\r\n\r\n")

    provider.then(pause)
    exchange = exchange_with(provider, stream=True, timeout_s=0.5)

    async with client.stream(exchange, framing="sse", refuse=refuse) as stream:
        events = stream.events()
        [first] = await anext(events)
        with pytest.raises(DeadlineExceeded), within(exchange.deadline):
            await asyncio.Event().wait()
        go_on.set()
        [second] = await anext(events)

    assert (first.data, second.data) == ("first", "second")


async def test_leaving_a_stream_closes_its_connection(client, provider) -> None:
    provider.always(fake.stalled_stream)

    async with client.stream(
        exchange_with(provider, stream=True), framing="sse", refuse=refuse
    ) as stream:
        await anext(stream.events())

    await provider.all_closed()
