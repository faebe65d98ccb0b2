"""What the openai service makes of refusals, broken replies and broken streams."""

from __future__ import annotations

import json

import pytest

from inferry.calls import Event, HttpReply
from inferry.domain import Deadline, Endpoint, InferenceRequest, TaskType
from inferry.errors import Retry, UnreadableReply, UpstreamError
from inferry.service import ErrorRow, ProviderError
from inferry.services.openai import SERVICE
from inferry.services.openai_compatible.chat import decode_chat, parse_chat, parse_completion
from inferry.services.openai_compatible.embeddings import parse_embeddings
from inferry.services.openai_compatible.replies import error_message

ENDPOINT = Endpoint("mine", TaskType.COMPLETION, "openai", {"model_id": "m"})
REQUEST = InferenceRequest(ENDPOINT, Deadline.after(30, "30s"), ("a",))
RECEIVED = "Received an error response for request from inference entity id [mine]"


def row(status: int, message: str = "") -> ErrorRow:
    found = [
        one for one in SERVICE.errors if one.first <= status <= one.last and one.contains in message
    ]
    return found[0]


def reply(body) -> HttpReply:
    return HttpReply(200, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "text", "retry"),
    [
        (302, "Unhandled redirection", Retry.NO),
        (400, "Received a bad request status code", Retry.NO),
        (401, "Received an authentication error status code", Retry.NO),
        (403, "Received an unsuccessful status code", Retry.NO),
        (404, "Resource not found at [{url}]", Retry.NO),
        (413, "Received a content too large status code", Retry.SHORTER),
        (418, "Received an unsuccessful status code", Retry.NO),
        (422, "Received an input validation error response", Retry.NO),
        (500, "Received a server error status code", Retry.YES),
        (502, "Received a server error status code", Retry.NO),
        (503, "Received a server error status code", Retry.YES),
    ],
)
def test_a_status_has_its_words_and_its_retry(status, text, retry):
    found = row(status)

    assert (found.text, found.retry) == (text, retry)


def test_a_rate_limit_names_what_is_left():
    found = row(429, "slow down")

    assert found.retry is Retry.YES
    assert found.text == (
        "Received a rate limit status code. Token limit [{x-ratelimit-limit-tokens}],"
        " remaining tokens [{x-ratelimit-remaining-tokens}]."
        " Request limit [{x-ratelimit-limit-requests}],"
        " remaining requests [{x-ratelimit-remaining-requests}]"
    )


def test_a_spent_quota_is_final():
    message = "You exceeded your current quota, please check your plan and billing details."

    assert row(429, message).retry is Retry.NO


def test_a_prompt_that_is_too_long_may_be_sent_shorter():
    message = "Too long. Please reduce your prompt; or completion length."

    assert row(400, message).retry is Retry.SHORTER


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"error": {"message": "No", "type": "t", "param": "p", "code": "c"}},
            ProviderError("No", "c", "p", "t"),
        ),
        ({"error": {"message": "No", "code": 404}}, ProviderError("No", "404")),
        ({"error": {"message": "No", "http_status_code": 422}}, ProviderError("No", "422")),
        ({"error": "No", "error_type": "Validation"}, ProviderError("No", kind="Validation")),
        ({"error": ["No", "Never"]}, ProviderError("No; Never")),
        (
            {"object": "error", "message": "No", "type": "t", "code": 40},
            ProviderError("No", "40", None, "t"),
        ),
        ({"detail": "No"}, ProviderError("No")),
        ({"detail": [{"msg": "No"}]}, ProviderError('[{"msg":"No"}]')),
        ({}, ProviderError()),
        ([], ProviderError()),
        (b"<html>", ProviderError()),
    ],
)
def test_an_error_body_is_read_in_every_form_it_has(body, expected):
    assert error_message(reply(body)) == expected


@pytest.mark.parametrize("parse", [parse_embeddings, parse_chat, parse_completion])
def test_an_error_inside_a_success_is_the_providers_error_and_final(parse):
    body = {"error": {"message": "No", "type": "t", "code": "c"}}

    with pytest.raises(UpstreamError) as raised:
        parse(reply(body), REQUEST)

    error = raised.value
    assert error.message == f"{RECEIVED}. Error message: [No]"
    assert (error.code, error.kind, error.retry) == ("c", "t", Retry.NO)


@pytest.mark.parametrize("parse", [parse_embeddings, parse_chat, parse_completion])
def test_a_null_error_is_none(parse):
    body = {
        "error": None,
        "id": "x",
        "data": [{"embedding": [1]}],
        "choices": [{"message": {"content": "a"}}],
    }

    assert parse(reply(body), REQUEST)


@pytest.mark.parametrize(
    ("parse", "body", "field", "answer"),
    [
        (parse_embeddings, {}, "data", "embeddings"),
        (parse_chat, {"choices": []}, "id", "chat completions"),
        (parse_chat, {"id": "x"}, "choices", "chat completions"),
        (parse_chat, {"id": "x", "choices": [{}]}, "message", "chat completions"),
        (parse_completion, {}, "choices", "chat completions"),
        (parse_completion, {"choices": [{}]}, "message", "chat completions"),
        (parse_completion, {"choices": [{"message": {}}]}, "content", "chat completions"),
    ],
)
def test_a_missing_field_is_named_and_the_call_may_be_repeated(parse, body, field, answer):
    with pytest.raises(UnreadableReply) as raised:
        parse(reply(body), REQUEST)

    assert raised.value.message == (
        f"Failed to find required field [{field}] in OpenAI {answer} response"
    )
    assert raised.value.retry is Retry.YES


@pytest.mark.parametrize(
    "rows",
    [
        [{"embedding": "not base64!"}],
        [{"embedding": [[1]]}],
        [{"embedding": []}],
        [{"embedding": None}],
        [{"embedding": [1], "index": 0}, {"embedding": [2], "index": 0}],
        [{"embedding": [1], "index": 1}],
    ],
)
def test_rows_that_are_no_vectors_in_order_are_unreadable(rows):
    with pytest.raises(UnreadableReply, match="Failed to parse the embeddings"):
        parse_embeddings(reply({"data": rows}), REQUEST)


def test_rows_without_an_index_keep_their_order_and_slashes_may_be_escaped():
    body = b'{"data": [{"embedding": "AACAPw=="}, {"embedding": "\\/\\/9\\/Pw=="}]}'

    result = parse_embeddings(reply(body), REQUEST)

    assert [vector.width for vector in result.vectors] == [1, 1]
    assert result.usage is None


@pytest.mark.parametrize(
    ("event", "code", "tail"),
    [
        (Event('{"error":{"message":"No","code":"c"}}', "error"), "c", ". Error message: [No]"),
        (Event('{"error":{"message":"No","code":400}}'), "400", ". Error message: [No]"),
        (Event('{"message":"No"}', "error"), "stream_error", ". Error message: [No]"),
        (Event('{"object":"other"}'), "stream_error", ""),
        (Event('{"id":"x","choices":"none"}'), "stream_error", ""),
        (Event("{half"), "stream_error", ""),
    ],
)
def test_an_event_that_is_no_chunk_ends_the_stream_with_an_error(event, code, tail):
    with pytest.raises(UpstreamError) as raised:
        decode_chat(REQUEST)(event)

    assert raised.value.message == RECEIVED + tail
    assert raised.value.code == code


@pytest.mark.parametrize(
    "data",
    [
        '{"id":"x","choices":[{"index":0,"delta":null,"finish_reason":null}]}',
        '{"id":"","choices":[{"delta":{"content":null,"tool_calls":null}}],"usage":{}}',
    ],
)
def test_a_chunk_may_leave_out_nearly_everything(data):
    (chunk,) = decode_chat(REQUEST)(Event(data)) or ()

    assert [choice.delta.content for choice in chunk.choices] == [None]


def test_a_chunk_without_choices_and_usage_is_passed_over():
    data = '{"id":"","choices":[],"usage":null,"prompt_filter_results":[{}]}'

    assert decode_chat(REQUEST)(Event(data)) == ()
