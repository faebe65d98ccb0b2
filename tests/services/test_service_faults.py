"""Every way in which a provider fails, tried with every task of every service."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest

from inferry.domain import ChatChunk
from inferry.errors import DeadlineExceeded, UnreadableReply, UpstreamError, UpstreamUnreachable
from tests import providers as fake
from tests.providers import Behaviour, Connection, Received, send_bytes
from tests.services import simulated
from tests.services.offers import OFFERS, STREAMED, Hosted, Offer, every, hosted_offer

pytestmark = pytest.mark.faults

BATCHED = [
    offer
    for offer in OFFERS
    if offer.task_type.is_chunkable and (offer.task.max_batch is None or offer.task.max_batch > 1)
]
SOON_S = 0.1


@pytest.fixture
async def hosted(offer: Offer) -> AsyncIterator[Hosted]:
    async with hosted_offer(
        offer, max_response_bytes=1_000_000, stream_idle_timeout_s=SOON_S
    ) as found:
        yield found


class Tape(Connection):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self.kept = b""

    async def send(self, payload: bytes) -> None:
        self.kept += payload


async def good_answer(received: Received) -> tuple[bytes, bytes]:
    """Give head and body of what the provider answers when nothing is wrong."""
    tape = Tape()
    await simulated.answer(tape, received)
    head, _, body = tape.kept.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def chunks_of(body: bytes) -> list[bytes]:
    """Cut a chunked body before every chunk."""
    chunks = []
    while body:
        size = body.partition(b"\r\n")[0]
        end = len(size) + 2 + int(size, 16) + 2
        chunks.append(body[:end])
        body = body[end:]
    return chunks


# --- whole answers -------------------------------------------------------------------------------


async def half_body(connection: Connection, received: Received) -> None:
    head, body = await good_answer(received)
    await connection.send(head + body[: len(body) // 2])
    connection.writer.close()


async def half_json(connection: Connection, received: Received) -> None:
    _, body = await good_answer(received)
    await send_bytes(connection, body[: len(body) // 2])


async def a_page(connection: Connection, _: Received) -> None:
    await send_bytes(connection, b"<html>down for maintenance</html>")


async def stall(connection: Connection, received: Received) -> None:
    head, body = await good_answer(received)
    await connection.send(head + body[: len(body) // 2])
    await fake.never_answer(connection, received)


@every()
@pytest.mark.parametrize("fault", [fake.reset, fake.hang_up, half_body])
async def test_a_broken_connection_is_tried_three_times(offer, hosted, fault):
    hosted.always(fault)

    assert isinstance(await hosted.failure(), UpstreamUnreachable)
    assert len(hosted.calls) >= 3
    assert len({call.body for call in hosted.calls}) * 3 == len(hosted.calls)


@every()
@pytest.mark.parametrize("fault", [half_json, a_page, fake.empty_body])
async def test_an_answer_that_makes_no_sense_is_tried_three_times(offer, hosted, fault):
    hosted.always(fault)

    assert isinstance(await hosted.failure("one"), UnreadableReply)
    assert len(hosted.calls) == 3


@every()
async def test_an_error_object_in_a_good_status_is_no_answer(offer, hosted):
    async def error_in_200(connection: Connection, _: Received) -> None:
        body = simulated.error_body(offer.service.name, 200, "the model is gone")
        await send_bytes(connection, json.dumps(body).encode())

    hosted.always(error_in_200)

    assert "the model is gone" in (await hosted.failure("one")).message
    assert len(hosted.calls) == 1


@every()
async def test_a_redirect_is_not_followed(offer, hosted):
    hosted.always(fake.redirect)

    error = await hosted.failure("one")

    assert error.upstream_status == 302
    assert error.message.startswith("Unhandled redirection")
    assert len(hosted.calls) == 1


@every()
async def test_an_answer_that_is_too_large_is_not_read_to_its_end(offer, hosted):
    async def too_large(connection: Connection, _: Received) -> None:
        await send_bytes(connection, b" " * 2_000_000)

    hosted.always(too_large)

    assert "is larger than [1000000] bytes" in (await hosted.failure("one")).message
    assert len(hosted.calls) == 1


@every()
@pytest.mark.parametrize("fault", [fake.never_answer, stall])
async def test_a_silent_provider_is_left_at_the_deadline(offer, hosted, fault):
    hosted.always(fault)

    with pytest.raises(DeadlineExceeded):
        await hosted.run("one", timeout_s=SOON_S)

    await hosted.provider.all_closed()


@every(BATCHED)
async def test_an_answer_with_too_few_embeddings_is_not_believed(offer, hosted):
    async def too_few(connection: Connection, _: Received) -> None:
        await simulated.answer(connection, for_one)

    await hosted.run("one")
    (for_one,) = hosted.calls
    hosted.always(too_few)

    error = await hosted.failure("one", "two")

    assert "responses [1] does not equal the number of requests [2]" in error.message


# --- streams -------------------------------------------------------------------------------------


def in_pieces(*, end: Behaviour, after: int = 3) -> Behaviour:
    """Give a behaviour that streams `after` chunks, each by itself, and then does as `end`."""

    async def behave(connection: Connection, received: Received) -> None:
        head, body = await good_answer(received)
        await connection.send(head)
        for chunk in chunks_of(body)[:after]:
            await connection.send(chunk)
            await asyncio.sleep(0)
        await end(connection, received)

    return behave


async def hang_up(connection: Connection, _: Received) -> None:
    connection.writer.close()


def say(offer: Offer, event: bytes) -> Behaviour:
    """Give a behaviour that sends one more event and ends the stream."""

    async def behave(connection: Connection, _: Received) -> None:
        await connection.send(simulated.chunk(event) + b"0\r\n\r\n")

    return behave


async def broken_stream(hosted: Hosted) -> tuple[list[ChatChunk], UpstreamError]:
    """Read a stream that must break; give what came before."""
    stream = hosted.runners().stream
    assert stream is not None
    chunks: list[ChatChunk] = []
    with pytest.raises(UpstreamError) as caught:
        async for together in stream(hosted.request("hello to all of you there")):
            chunks += together
    return chunks, caught.value


def text_of(chunks: list[ChatChunk]) -> str:
    return "".join(choice.delta.content or "" for one in chunks for choice in one.choices)


@every(STREAMED)
@pytest.mark.parametrize("fault", [hang_up, fake.never_answer])
async def test_a_stream_that_breaks_gives_what_came_and_is_not_asked_for_again(
    offer, hosted, fault
):
    hosted.always(in_pieces(end=fault, after=4))

    chunks, error = await broken_stream(hosted)

    whole = simulated.reply_text("hello to all of you there")
    assert text_of(chunks)
    assert whole.startswith(text_of(chunks))
    assert text_of(chunks) != whole
    assert isinstance(error, UpstreamUnreachable)
    assert len(hosted.calls) == 1


@every(STREAMED)
async def test_a_stream_that_comes_byte_by_byte_is_complete(offer, hosted):
    async def drip(connection: Connection, received: Received) -> None:
        head, body = await good_answer(received)
        payload = b"".join(
            re.sub(rb"^[0-9a-f]+\r\n", b"", one).removesuffix(b"\r\n") for one in chunks_of(body)
        )
        await connection.send(head)
        for at in range(len(payload)):
            await connection.send(simulated.chunk(payload[at : at + 1]))
        await connection.send(b"0\r\n\r\n")

    at_once = await hosted.stream("hello to all of you there")
    hosted.always(drip)

    assert await hosted.stream("hello to all of you there") == at_once


@every(STREAMED)
async def test_an_error_within_a_stream_is_told(offer, hosted):
    event = simulated.error_event(offer.service.name, "the model died")
    hosted.always(in_pieces(end=say(offer, event), after=4))

    chunks, error = await broken_stream(hosted)

    assert text_of(chunks)
    assert "the model died" in error.message
    assert len(hosted.calls) == 1


@every(STREAMED)
async def test_an_event_that_makes_no_sense_ends_a_stream_with_an_error(offer, hosted):
    event = simulated.event_of(offer.service.name, b"<html>")
    hosted.always(in_pieces(end=say(offer, event), after=4))

    chunks, _ = await broken_stream(hosted)

    assert text_of(chunks)


@every(STREAMED)
async def test_a_caller_who_leaves_a_stream_ends_it_at_the_provider(offer, hosted):
    hosted.always(in_pieces(end=fake.never_answer, after=4))
    stream = hosted.runners().stream
    assert stream is not None
    chunks = stream(hosted.request("hello to all of you there"))

    await anext(chunks)
    await chunks.aclose()

    await hosted.provider.all_closed()
