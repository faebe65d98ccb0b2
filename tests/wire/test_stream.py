"""POST `_stream`: rows 157-171."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from tests.providers import (
    answer,
    begin_events,
    chat_events,
    cut_stream,
    never_answer,
    send_event,
    send_events,
    stalled_stream,
)

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def events(content: bytes) -> list[tuple[str, str]]:
    """Split a stream into names and data, and hold its framing against the rules."""
    *frames, rest = content.decode().split("\n\n")
    assert rest == ""
    found = []
    for frame in frames:
        name, text = frame.split("\n")
        assert name.startswith("event: ")
        assert text.startswith("data: ")
        found.append((name.removeprefix("event: "), text.removeprefix("data: ")))
    return found


def chunks(content: bytes) -> list[dict[str, Any]]:
    """Give the documents of a good stream."""
    *messages, last = events(content)
    assert last == ("message", "[DONE]")
    assert {name for name, _ in messages} == {"message"}
    return [json.loads(text) for _, text in messages]


@pytest.fixture
def completion(wire):
    return f"/_inference/completion/{wire.endpoint('completion')}/_stream"


@pytest.fixture
def chat(wire):
    return f"/_inference/chat_completion/{wire.endpoint('chat_completion')}/_stream"


def test_row_157_a_completion_comes_in_deltas(wire, completion):
    reply = wire.post(completion, {"input": "hello"})

    deltas = [one["delta"] for chunk in chunks(reply.content) for one in chunk["completion"]]
    assert len(deltas) > 1
    assert "".join(deltas) == "You said: hello"


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "application/vnd.elasticsearch+json;compatible-with=9", "*/*"]
)
def test_row_158_a_stream_is_an_event_stream(wire, completion, accept):
    headers = {"Accept": accept}
    if "vnd" in accept:
        headers["Content-Type"] = accept

    reply = wire.post(completion, {"input": "hello"}, headers=headers)

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in reply.headers


def test_row_159_a_stream_has_the_product_header(wire, completion):
    reply = wire.post(completion, {"input": "hello"})

    assert reply.headers["x-elastic-product"] == "Elasticsearch"


def test_row_160_a_stream_begins_with_its_first_event(wire, completion):
    assert wire.post(completion, {"input": "hello"}).content.startswith(b"event: message\ndata: {")


def test_row_161_chat_chunks_have_no_wrapper(wire, chat):
    first, *others = chunks(wire.post(chat, HELLO).content)

    assert first == {
        "id": "chatcmpl-1",
        "choices": [{"delta": {"content": "", "role": "assistant"}, "index": 0}],
        "model": "model-1",
        "object": "chat.completion.chunk",
    }
    assert [list(first), list(first["choices"][0])] == [
        ["id", "choices", "model", "object"],
        ["delta", "index"],
    ]
    assert {"delta": {}, "finish_reason": "stop", "index": 0} in [
        choice for chunk in others for choice in chunk["choices"]
    ]


def test_row_162_tool_calls_come_in_pieces(wire, chat):
    wire.provider.then(stream_a_tool_call)

    sent = chunks(wire.post(chat, HELLO).content)

    pieces = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in sent]
    assert pieces == [
        {
            "index": 0,
            "id": "call_1",
            "function": {"arguments": '{"ci', "name": "weather"},
            "type": "function",
        },
        {"index": 0, "function": {"arguments": 'ty":1}'}},
    ]


async def stream_a_tool_call(connection, received):
    """Stream a tool call in two pieces."""
    first = {"index": 0, "id": "call_1", "type": "function"}
    first["function"] = {"name": "weather", "arguments": '{"ci'}
    pieces = [first, {"index": 0, "function": {"arguments": 'ty":1}'}}]
    head = {"id": "c", "object": "chat.completion.chunk", "model": "model-1"}
    data = [
        json.dumps({**head, "choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]})
        for piece in pieces
    ]
    await send_events(connection, [*data, "[DONE]"])


def test_row_163_usage_comes_last_and_without_choices(wire, chat):
    *_, last = chunks(wire.post(chat, HELLO).content)

    assert last["choices"] == []
    assert last["usage"] == {"completion_tokens": 3, "prompt_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize("path", ["nowhere", "completion/nowhere"])
def test_row_164_an_unknown_id_is_one_error_event(wire, path):
    reply = wire.post(f"/_inference/{path}/_stream", {"input": "x"})

    assert reply.status == 404
    assert reply.headers["content-type"] == "text/event-stream"
    [(name, text)] = events(reply.content)
    described = {
        "type": "resource_not_found_exception",
        "reason": "Inference endpoint not found [nowhere]",
    }
    assert name == "error"
    assert json.loads(text) == {
        "error": {"root_cause": [described], **described},
        "status": 404,
    }


def test_row_165_an_unknown_id_of_a_chat_is_told_in_the_form_of_chats(wire):
    reply = wire.post("/_inference/chat_completion/nowhere/_stream", HELLO)

    assert reply.status == 404
    [(name, text)] = events(reply.content)
    assert name == "error"
    assert json.loads(text) == {
        "error": {
            "code": "not_found",
            "message": "Inference endpoint not found [nowhere]",
            "type": "resource_not_found_exception",
        }
    }


def test_row_166_embeddings_are_not_streamed(wire):
    reply = wire.post(f"/_inference/{wire.endpoint()}/_stream", {"input": "x"})

    assert reply.status == 405
    [(name, text)] = events(reply.content)
    assert name == "error"
    reason = json.loads(text)["error"]["reason"]
    assert reason.startswith(
        "Streaming is not allowed for service [openai] and task [text_embedding]. Supported tasks:"
    )


def test_row_167_a_stream_that_breaks_ends_with_an_error(wire, chat, completion):
    for path, body in ((completion, {"input": "x"}), (chat, HELLO)):
        wire.provider.then(cut_stream)

        reply = wire.post(path, body)

        assert reply.status == 200
        assert events(reply.content)[-1][0] == "error"
        assert b"[DONE]" not in reply.content


def test_row_168_a_client_that_leaves_ends_the_call_to_the_provider(wire, chat):
    hung_up = threading.Event()

    async def watch(connection, received):
        await stalled_stream(connection, received)
        hung_up.set()

    wire.provider.then(watch)

    with wire.open("POST", chat, HELLO) as response:
        assert response.readline() == b"event: message\n"

    assert hung_up.wait(10), "the provider still waits"


def test_a_client_that_leaves_before_the_answer_ends_the_call_to_the_provider(wire):
    hung_up, arrived = threading.Event(), threading.Event()

    async def watch(connection, received):
        arrived.set()
        await connection.closed_by_peer()
        hung_up.set()
        connection.writer.close()

    inference_id = wire.endpoint()
    wire.provider.then(watch)
    connection = wire.server.connect()

    connection.send("POST", f"/_inference/{inference_id}", {"input": "x"})
    assert arrived.wait(10)
    connection.close()

    assert hung_up.wait(10), "the provider still waits"


@pytest.fixture
def held():
    """Give a behaviour that sends one event, and the rest when it is told to."""
    go_on = threading.Event()

    async def send_one(connection, received):
        first, *others = chat_events(received.json)
        await begin_events(connection)
        await send_event(connection, first)
        await asyncio.to_thread(go_on.wait, 20)
        for data in others:
            await send_event(connection, data)
        await connection.send(b"0\r\n\r\n")

    yield send_one, go_on
    go_on.set()


def test_row_169_the_first_event_does_not_wait_for_the_last(wire, chat, held):
    behaviour, go_on = held
    wire.provider.then(behaviour)

    with wire.open("POST", chat, HELLO) as response:
        assert response.readline() == b"event: message\n"
        assert json.loads(response.readline().removeprefix(b"data: "))["choices"]
        go_on.set()
        assert response.read().endswith(b"data: [DONE]\n\n")


def test_row_170_streams_are_not_indented(wire, completion):
    plain = wire.post(completion, {"input": "hello"})
    pretty = wire.post(f"{completion}?pretty&filter_path=x", {"input": "hello"})

    assert pretty.content == plain.content


def test_row_171_the_type_may_be_left_out(wire):
    inference_id = wire.endpoint("completion")

    reply = wire.post(f"/_inference/{inference_id}/_stream", {"input": "hello"})

    assert chunks(reply.content)


def test_a_time_limit_ends_with_the_first_event(wire, chat, held):
    behaviour, go_on = held
    wire.provider.then(behaviour, never_answer)

    with wire.open("POST", f"{chat}?timeout=300ms", HELLO) as response:
        assert response.readline() == b"event: message\n"
        assert wire.post(f"{chat}?timeout=400ms", HELLO).status == 429
        go_on.set()
        assert response.read().endswith(b"data: [DONE]\n\n")


def test_streams_are_not_packed(wire, chat):
    wire.provider.always(answer)

    reply = wire.post(chat, HELLO, headers={"Accept-Encoding": "gzip"})

    assert "content-encoding" not in reply.headers
