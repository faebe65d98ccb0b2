"""Conversations in the form of Converse, and what it answers."""

from __future__ import annotations

import json

import pytest

from inferry.calls import Event
from inferry.domain import (
    Chat,
    ContentPart,
    Deadline,
    Endpoint,
    FunctionCall,
    InferenceRequest,
    Message,
    TaskType,
    Tool,
    ToolCall,
    ToolFunction,
)
from inferry.errors import BadRequest, UpstreamError
from inferry.services.converse.replies import decode_chat
from inferry.services.converse.requests import conversation_body

USER = Message("user", "Hi")
TOOLS = [Tool("function", ToolFunction("now"))]
REQUEST = InferenceRequest(
    Endpoint("mine", TaskType.CHAT_COMPLETION, "amazonbedrock", {"model": "m"}),
    Deadline.after(30, "30s"),
)


def test_a_plain_conversation_has_neither_system_nor_tools():
    assert conversation_body(Chat([USER])) == {
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "system": None,
        "toolConfig": None,
    }


def test_what_one_side_says_in_a_row_is_one_turn():
    body = conversation_body(Chat([USER, Message("user", "You?"), Message("assistant", "Yes.")]))

    assert body["messages"] == [
        {"role": "user", "content": [{"text": "Hi"}, {"text": "You?"}]},
        {"role": "assistant", "content": [{"text": "Yes."}]},
    ]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (None, {}),
        ("auto", {"toolChoice": {"auto": {}}}),
        ("required", {"toolChoice": {"any": {}}}),
    ],
)
def test_a_tool_choice_has_a_word_of_its_own(choice, config):
    schema = {"json": {"type": "object", "properties": {}}}
    tools = [{"toolSpec": {"name": "now", "inputSchema": schema}}]

    body = conversation_body(Chat([USER], tools=TOOLS, tool_choice=choice))

    assert body["toolConfig"] == {"tools": tools, **config}


def test_where_no_tool_may_be_used_none_is_named():
    assert conversation_body(Chat([USER], tools=TOOLS, tool_choice="none"))["toolConfig"] is None


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            Message("user", [ContentPart("file", file={"file_data": "x"})]),
            "Type [file] not supported by Amazon Bedrock chat completion."
            " Supported types: [text, image_url]",
        ),
        (
            Message("user", [ContentPart("image_url", image_url={"url": "https://a.org/a.png"})]),
            "Amazon Bedrock chat completion takes images as data URLs only",
        ),
        (
            Message("assistant", tool_calls=[ToolCall(id="t", function=FunctionCall("[", "f"))]),
            "The arguments of the tool call [t] must be a JSON object in a string",
        ),
    ],
)
def test_what_has_no_place_in_the_format_is_a_bad_request(message, said):
    with pytest.raises(BadRequest) as raised:
        conversation_body(Chat([message]))

    assert raised.value.message == said


def test_another_tool_choice_is_a_bad_request():
    with pytest.raises(BadRequest, match=r"Unsupported tool_choice value \[any\]"):
        conversation_body(Chat([USER], tools=TOOLS, tool_choice="any"))


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("validationException", 400),
        ("modelTimeoutException", 408),
        ("modelStreamErrorException", 424),
        ("throttlingException", 429),
        ("internalServerException", 500),
        ("serviceUnavailableException", 503),
        ("InternalError", 500),
    ],
)
def test_an_exception_within_a_stream_ends_it_with_its_status(name, status):
    with pytest.raises(UpstreamError) as raised:
        decode_chat(REQUEST)(Event('{"message": "No"}', name, is_error=True))

    error = raised.value
    assert (error.upstream_status, error.kind) == (status, name)
    assert error.message == (
        "Received an error response for request from inference entity id [mine]."
        " Error message: [No]"
    )


@pytest.mark.parametrize("data", ["{", "[]", '{"delta": {"text": 1}}'])
def test_an_event_that_makes_no_sense_ends_the_stream(data):
    with pytest.raises(UpstreamError, match="Received an error response"):
        decode_chat(REQUEST)(Event(data, "contentBlockDelta"))


@pytest.mark.parametrize(
    "event",
    [
        Event('{"contentBlockIndex": 0, "delta": {"citation": {}}}', "contentBlockDelta"),
        Event(
            '{"contentBlockIndex": 7, "delta": {"toolUse": {"input": "x"}}}', "contentBlockDelta"
        ),
        Event('{"contentBlockIndex": 0, "start": {"image": {}}}', "contentBlockStart"),
        Event(json.dumps({"any": "thing"}), "eventToCome"),
    ],
)
def test_kinds_to_come_are_passed_over(event):
    assert list(decode_chat(REQUEST)(event) or ()) == []


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("content_filtered", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("a word to come", "a word to come"),
    ],
)
def test_why_an_answer_ends_is_said_in_the_unified_words(word, reason):
    (chunk,) = decode_chat(REQUEST)(Event(json.dumps({"stopReason": word}), "messageStop")) or ()

    assert chunk.choices[0].finish_reason == reason
