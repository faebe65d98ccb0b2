"""What is particular to the service anthropic, and to its messages in other clouds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from inferry.calls import Event, HttpReply
from inferry.domain import (
    Chat,
    ContentPart,
    Deadline,
    Endpoint,
    FunctionCall,
    InferenceRequest,
    Message,
    Settings,
    TaskType,
    Tool,
    ToolCall,
    ToolFunction,
)
from inferry.errors import BadRequest, Retry, UpstreamError
from inferry.fields import Purpose, parse_settings
from inferry.service import HttpTask
from inferry.services.anthropic import SERVICE, build_chat, check, group
from inferry.services.anthropic_messages.replies import decode_chat, parse_chat
from inferry.services.anthropic_messages.requests import messages_body

ENDPOINT = Endpoint(
    "mine",
    TaskType.CHAT_COMPLETION,
    "anthropic",
    {"model_id": "m"},
    {"max_tokens": 9},
    secrets={"api_key": "k"},
)
REQUEST = InferenceRequest(ENDPOINT, Deadline.after(30, "30s"), task_settings={"max_tokens": 9})
HI = Message("user", "Hi")
RECEIVED = "Received an error response for request from inference entity id [mine]"


def event(kind: str, **members) -> Event:
    return Event(json.dumps({"type": kind, **members}), kind)


# --- settings ----------------------------------------------------------------------------------


def test_the_longest_answer_must_be_named():
    task = SERVICE.tasks[TaskType.COMPLETION]
    assert isinstance(task, HttpTask)

    parsed = parse_settings(
        task.task_settings, {"top_k": 3}, scope="task_settings", purpose=Purpose.CREATE
    )

    assert parsed.problems == ["[task_settings] does not contain the required setting [max_tokens]"]


def test_a_version_that_no_header_can_carry_is_refused():
    settings: Settings = {"model_id": "m", "anthropic_version": "2023\r\nX-Evil: 1"}

    (problem,) = check(replace(ENDPOINT, service_settings=settings))

    assert "[anthropic_version] must consist of" in problem
    assert check(ENDPOINT) == []


def test_endpoints_of_one_model_and_key_share_a_rate_limit_group():
    assert group(ENDPOINT) == group(replace(ENDPOINT, inference_id="yours"))
    assert group(ENDPOINT) != group(replace(ENDPOINT, secrets={"api_key": "other"}))
    assert group(ENDPOINT) != group(replace(ENDPOINT, service_settings={"model_id": "other"}))


# --- requests ----------------------------------------------------------------------------------


def test_what_a_request_says_wins_over_the_task_settings():
    chat = Chat([HI], max_completion_tokens=5, temperature=0.0, model="other")
    settings: Settings = {"max_tokens": 9, "temperature": 1.0, "top_k": 3}

    body = json.loads(build_chat(replace(REQUEST, chat=chat, task_settings=settings)).body)

    found = [body[name] for name in ("model", "max_tokens", "temperature", "top_k")]
    assert found == ["other", 5, 0.0, 3]


def test_results_of_tools_are_one_turn_until_somebody_else_speaks():
    result = Message("tool", "a", tool_call_id="1")

    turns = messages_body(Chat([result, result, Message("assistant", "b"), result]))["messages"]

    sizes = [(turn["role"], len(turn["content"])) for turn in turns]
    assert sizes == [("user", 2), ("assistant", 1), ("user", 1)]


def test_empty_texts_stand_in_no_list_since_they_would_be_refused():
    parts = [ContentPart("text", ""), ContentPart("text", "a")]
    call = ToolCall(id="1", function=FunctionCall("{}", "now"))

    body = messages_body(
        Chat([Message("user", parts), Message("assistant", "", tool_calls=[call])])
    )

    kinds = [[block["type"] for block in turn["content"]] for turn in body["messages"]]
    assert kinds == [["text"], ["tool_use"]]


@pytest.mark.parametrize("content", ["", []])
def test_a_system_message_that_says_nothing_in_parts_is_left_out(content):
    body = messages_body(Chat([Message("system", content), Message("system", content), HI]))

    assert body["system"] is None


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        (
            Chat([HI], tool_choice="sometimes"),
            "Unsupported tool_choice value [sometimes] for the Anthropic chat completion API.",
        ),
        (
            Chat([HI], tools=[Tool("function", ToolFunction("now", strict=True))]),
            "Anthropic chat completion does not support [strict], got it in tool [now]",
        ),
        (
            Chat([Message("user", [ContentPart("audio")])]),
            "Type [audio] not supported by Anthropic chat completion."
            " Supported types: [text, image_url, file]",
        ),
        (
            Chat(
                [Message("assistant", tool_calls=[ToolCall(id="1", function=FunctionCall("[]"))])]
            ),
            "The arguments of the tool call [1] must be a JSON object in a string",
        ),
    ],
)
def test_what_the_format_has_no_place_for_is_a_bad_request(chat, words):
    with pytest.raises(BadRequest) as raised:
        messages_body(chat)

    assert raised.value.message == words


# --- replies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("to_come", "to_come"),
        (None, None),
    ],
)
def test_an_answer_ends_in_the_words_of_openai(word, reason):
    body = {"id": "x", "content": [], "stop_reason": word}

    chunk = parse_chat(HttpReply(200, {}, json.dumps(body).encode()), REQUEST)
    chunks = decode_chat(REQUEST)(event("message_delta", delta={"stop_reason": word})) or ()

    assert chunk.choices[0].finish_reason == reason
    assert [one.choices[0].finish_reason for one in chunks] == [reason]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("invalid_request_error", 400),
        ("authentication_error", 401),
        ("permission_error", 403),
        ("not_found_error", 404),
        ("request_too_large", 413),
        ("rate_limit_error", 429),
        ("overloaded_error", 500),
    ],
)
def test_an_error_ends_a_stream_with_the_status_of_its_kind(kind, status):
    with pytest.raises(UpstreamError) as raised:
        decode_chat(REQUEST)(event("error", error={"type": kind, "message": "No"}))

    assert raised.value.message == f"{RECEIVED}. Error message: [No]"
    assert (raised.value.kind, raised.value.upstream_status) == (kind, status)


@pytest.mark.parametrize("text", ["{half", "[]", '{"index": 0}'])
def test_an_event_that_makes_no_sense_ends_a_stream(text):
    with pytest.raises(UpstreamError, match="Received an error response"):
        decode_chat(REQUEST)(Event(text))


def test_kinds_to_come_and_blocks_of_the_providers_own_tools_are_passed_over():
    reduce = decode_chat(REQUEST)
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}

    events = [
        event("message_sang"),
        event("content_block_start", index=0, content_block=search),
        event(
            "content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "{"}
        ),
        event("content_block_delta", index=0, delta={"type": "citations_delta", "citation": {}}),
    ]

    assert [reduce(one) for one in events] == [()] * len(events)


def test_the_end_of_a_stream_may_correct_the_tokens_that_went_in():
    reduce = decode_chat(REQUEST)
    usage = {"input_tokens": 3, "output_tokens": 1}
    reduce(event("message_start", message={"id": "x", "content": [], "usage": usage}))

    end = event("message_delta", delta={}, usage={"input_tokens": 7, "output_tokens": 5})
    (chunk,) = reduce(end) or ()

    assert chunk.usage is not None
    assert (chunk.usage.input_tokens, chunk.usage.output_tokens) == (7, 5)


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "text", "retry"),
    [
        (500, "Received a server error status code", Retry.YES),
        (529, "Received an Anthropic server is temporarily overloaded status code", Retry.YES),
        (503, "Received a server error status code", Retry.NO),
        (403, "Received a permission denied error status code", Retry.NO),
        (401, "Received an authentication error status code", Retry.NO),
        (400, "Received an unsuccessful status code", Retry.NO),
    ],
)
def test_a_status_has_its_words_and_its_retry(status, text, retry):
    row = next(one for one in SERVICE.errors if one.first <= status <= one.last)

    assert (row.text, row.retry) == (text, retry)


def test_a_rate_limit_names_what_is_left_and_when_it_comes_back():
    row = next(one for one in SERVICE.errors if one.first == 429)

    assert row.retry is Retry.YES
    assert row.text == (
        "Received a rate limit status code. Token limit [{anthropic-ratelimit-tokens-limit}],"
        " remaining tokens [{anthropic-ratelimit-tokens-remaining}],"
        " tokens reset [{anthropic-ratelimit-tokens-reset}]."
        " Request limit [{anthropic-ratelimit-requests-limit}],"
        " remaining requests [{anthropic-ratelimit-requests-remaining}],"
        " request reset [{anthropic-ratelimit-requests-reset}]. Retry after [{retry-after}]"
    )
