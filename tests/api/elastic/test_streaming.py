"""Streams as Server-Sent Events: framing, errors, and that closing hangs up."""

from __future__ import annotations

import json

import pytest

from inferry.api.elastic.streaming import DONE, EventStream, render_stream_error, stream_answer
from inferry.core.runners.runner import Chunks
from inferry.domain import ChatChoice, ChatChunk, ChatDelta, Usage
from inferry.errors import (
    InferenceError,
    NotAuthenticated,
    NotFound,
    UnsupportedMediaType,
    UpstreamError,
)


def chunk(text, **more):
    return ChatChunk("id", [ChatChoice(ChatDelta(content=text))], **more)


class Source:
    """Chunks, some of them together, and an error if one is among them.

    is_closed: whether it was hung up.
    """

    def __init__(self, *items) -> None:
        self.items = items
        self.is_closed = False

    async def __call__(self) -> Chunks:
        try:
            for item in self.items:
                if isinstance(item, InferenceError):
                    raise item
                yield item if isinstance(item, list) else [item]
        finally:
            self.is_closed = True


async def open_stream(source, request, *, is_chat=False) -> EventStream:
    answer = await stream_answer(source(), request, is_chat=is_chat)
    assert isinstance(answer.body, EventStream)
    return answer.body


async def events(source, request, *, is_chat=False):
    return [part async for part in await open_stream(source, request, is_chat=is_chat)]


async def test_a_completion_gives_one_event_per_piece(make_request):
    source = Source(chunk("Hel"), chunk(""), chunk("lo"))

    assert await events(source, make_request()) == [
        b'event: message\ndata: {"completion":[{"delta":"Hel"}]}\n\n',
        b'event: message\ndata: {"completion":[{"delta":"lo"}]}\n\n',
        DONE,
    ]


async def test_pieces_that_come_together_are_written_together(make_request):
    source = Source([chunk("Hel"), chunk(""), chunk("lo")])

    assert await events(source, make_request()) == [
        b'event: message\ndata: {"completion":[{"delta":"Hel"}]}\n\n'
        b'event: message\ndata: {"completion":[{"delta":"lo"}]}\n\n',
        DONE,
    ]


async def test_a_chat_gives_every_chunk_with_its_index(make_request):
    usage = ChatChunk("id", [], "gpt", Usage(1, 2))

    assert await events(Source(chunk("a"), usage), make_request(), is_chat=True) == [
        b'event: message\ndata: {"id":"id","choices":[{"delta":{"content":"a"},"index":0}],'
        b'"object":"chat.completion.chunk"}\n\n',
        b'event: message\ndata: {"id":"id","choices":[],"model":"gpt",'
        b'"object":"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":1,'
        b'"total_tokens":3}}\n\n',
        DONE,
    ]


async def test_a_line_break_in_the_text_does_not_break_the_event(make_request):
    [first, _] = await events(Source(chunk("a\n\nb\r")), make_request())

    assert first.count(b"\n") == 3
    assert b"\r" not in first


async def test_a_stream_without_any_chunk_is_done(make_request):
    assert await events(Source(), make_request()) == [DONE]


async def test_an_error_before_the_first_chunk_is_raised(make_request):
    with pytest.raises(NotFound):
        await open_stream(Source(NotFound("no")), make_request())


@pytest.mark.parametrize("is_chat", [True, False])
async def test_an_error_later_is_the_last_event(make_request, is_chat):
    error = UpstreamError("broke off", upstream_status=200)

    *_, last = await events(Source(chunk("a"), error), make_request(), is_chat=is_chat)

    name, text = last.decode().strip().split("\n")
    assert name == "event: error"
    described = json.loads(text.removeprefix("data: "))["error"]
    assert described["message" if is_chat else "reason"] == "broke off"


@pytest.mark.parametrize("reads", [0, 1])
async def test_closing_hangs_up_on_the_provider(make_request, reads):
    source = Source(chunk("a"), chunk("b"), chunk("c"))
    stream = await open_stream(source, make_request())
    for _ in range(reads):
        await anext(stream)

    await stream.aclose()

    assert source.is_closed
    assert [part async for part in stream] == []


def test_an_error_under_its_status_is_one_event(make_request):
    answer = render_stream_error(NotFound("no"), make_request(), is_chat=True)

    assert (answer.status, answer.content_type) == (404, "text/event-stream")
    assert isinstance(answer.body, bytes)
    assert answer.body.startswith(b'event: error\ndata: {"error":{"code":"not_found"')


@pytest.mark.parametrize("error", [NotAuthenticated("who?"), UnsupportedMediaType("what?")])
def test_what_is_refused_before_anything_is_known_is_plain_json(error, make_request):
    answer = render_stream_error(error, make_request(), is_chat=False)

    assert answer.content_type is None
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["error"]
