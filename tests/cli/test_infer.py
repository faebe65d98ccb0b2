"""`inferry infer`."""

from __future__ import annotations

import json

import pytest


def describe(server, task_type: str) -> None:
    server.answer("GET", "/_inference/e", {"endpoints": [{"task_type": task_type}]})


@pytest.mark.parametrize(
    ("task_type", "arguments", "body"),
    [
        ("text_embedding", ["--input", "a"], {"input": "a"}),
        ("text_embedding", ["--input", "a", "--input", "b"], {"input": ["a", "b"]}),
        (
            "text_embedding",
            ["--input", "a", "--input-type", "search"],
            {"input": "a", "input_type": "search"},
        ),
        ("rerank", ["--input", "a", "--query", "q"], {"input": ["a"], "query": "q"}),
        (
            "chat_completion",
            ["--input", "hi"],
            {"messages": [{"role": "user", "content": "hi"}]},
        ),
    ],
)
def test_the_body_suits_the_task(inferry, server, task_type, arguments, body):
    describe(server, task_type)
    server.answer("POST", "/_inference/e", {})

    inferry("infer", "e", *arguments, "--json", "--url", server.url)

    assert server.received[-1].body == body


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        ({"text_embedding": [{"embedding": [0.5, 1]}]}, "0\t2\t[0.5, 1]\n"),
        ({"text_embedding_bytes": [{"embedding": [1] * 9}]}, "0\t9\t[1, 1, 1, 1, ...]\n"),
        ({"sparse_embedding": [{"embedding": {"a": 1.5, "b": 2}}]}, "0\t2\tb 2, a 1.5\n"),
        ({"rerank": [{"index": 1, "relevance_score": 0.5, "text": "t"}]}, "1\t0.5\tt\n"),
        ({"completion": [{"result": "hello"}]}, "hello\n"),
        ({"choices": [{"message": {"content": "hello"}}]}, "hello\n"),
    ],
)
def test_every_kind_of_answer_is_printed_for_people(inferry, server, answer, printed):
    server.answer("POST", "/_inference/e", answer)

    assert inferry("infer", "e", "--body", '{"input": "x"}', "--url", server.url).out == printed


STREAMS: dict[str, list[object]] = {
    "completion": [{"completion": [{"delta": "Hel"}]}, {"completion": [{"delta": "lo"}]}],
    "chat": [
        {"choices": [{"delta": {"role": "assistant"}}]},
        {"choices": [{"delta": {"content": "Hello"}}]},
        {"choices": [], "usage": {}},
    ],
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_printed_as_text(inferry, server, kind):
    events = "".join(f"event: message\ndata: {json.dumps(one)}\n\n" for one in STREAMS[kind])
    stream = f"{events}data: [DONE]\n\n".encode()
    server.answer("POST", "/_inference/e/_stream", stream)

    ran = inferry("infer", "e", "--stream", "--body", "{}", "--url", server.url)

    assert ran.out == "Hello\n"


def test_a_stream_as_json_is_one_event_per_line(inferry, server):
    server.answer("POST", "/_inference/e/_stream", b'data: {"a": 1}\n\ndata: {"b": 2}\n\n')

    ran = inferry("infer", "e", "--stream", "--json", "--body", "{}", "--url", server.url)

    assert ran.out == '{"a": 1}\n{"b": 2}\n'


def test_an_error_within_a_stream_is_a_failure(inferry, server):
    stream = b'event: error\ndata: {"error": {"reason": "the provider left"}}\n\n'
    server.answer("POST", "/_inference/e/_stream", stream)

    ran = inferry("infer", "e", "--stream", "--body", "{}", "--url", server.url)

    assert ran.exit_code == 1
    assert "the provider left" in ran.err


def test_without_input_and_body_it_is_a_usage_error(inferry):
    assert inferry("infer", "e").exit_code == 2


def test_an_endpoint_that_is_not_there_is_not_found(inferry, server):
    assert inferry("infer", "e", "--input", "x", "--url", server.url).exit_code == 3
