"""Conversations in the form of Gemini, both ways."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from inferry.calls import Event, HttpReply
from inferry.domain import (
    Chat,
    ChatChunk,
    ContentPart,
    Deadline,
    Endpoint,
    FunctionCall,
    InferenceRequest,
    Message,
    Reasoning,
    TaskType,
    Tool,
    ToolCall,
    ToolFunction,
)
from inferry.errors import BadRequest, UnreadableReply, UpstreamError
from inferry.services.gemini.replies import decode_chat, decode_completion, parse_chat
from inferry.services.gemini.requests import gemini_body

FORMAT = "google-vertex-ai-v1"
HI = Message("user", "Hi")
REQUEST = InferenceRequest(
    Endpoint("mine", TaskType.CHAT_COMPLETION, "googlevertexai", {}),
    Deadline.after(30, "30s"),
    chat=Chat([HI]),
)


def body_of(*messages: Message, thinking_budget=None, **more):
    return gemini_body(Chat([*messages], **more), thinking_budget=thinking_budget)


def call(call_id: str, name: str = "weather", arguments: str = "{}") -> ToolCall:
    return ToolCall(id=call_id, function=FunctionCall(arguments, name), type="function")


def answer(*parts, reason=None, **more) -> str:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    return json.dumps(
        {"candidates": [candidate | ({"finishReason": reason} if reason else {})]} | more
    )


def streamed(*texts: str, chat: Chat | None = None) -> list[ChatChunk]:
    reduce = decode_chat(replace(REQUEST, chat=chat or REQUEST.chat))
    return [chunk for text in texts for chunk in reduce(Event(text)) or ()]


# --- turns -------------------------------------------------------------------------------------


def test_what_one_role_says_in_a_row_is_one_turn():
    result = Message("tool", "Rain", tool_call_id="1")
    asked = Message("assistant", tool_calls=[call("1"), call("2", "now")])

    contents = body_of(HI, asked, result, Message("tool", "Noon", tool_call_id="2"), HI)["contents"]

    kinds = [(turn["role"], [next(iter(part)) for part in turn["parts"]]) for turn in contents]
    assert kinds == [
        ("user", ["text"]),
        ("model", ["functionCall", "functionCall"]),
        ("user", ["functionResponse", "functionResponse", "text"]),
    ]


def test_system_messages_are_the_instruction_and_empty_texts_are_dropped():
    parts = [ContentPart("text", ""), ContentPart("text", "a")]

    body = body_of(Message("system", "Be brief."), Message("system", parts), Message("user", parts))

    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "a"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "a"}]}]


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ('{"sky": "grey"}', {"sky": "grey"}),
        ("Rain", {"output": "Rain"}),
        ("[1]", {"output": "[1]"}),
        ("", {}),
    ],
)
def test_the_result_of_a_function_is_an_object(text, response):
    asked = Message("assistant", tool_calls=[call("call_1")])

    (_, turn) = body_of(asked, Message("tool", text, tool_call_id="call_1"))["contents"]

    assert turn["parts"] == [
        {"functionResponse": {"name": "weather", "id": "call_1", "response": response}}
    ]


def test_an_id_that_we_made_of_the_name_is_not_given_back():
    asked = Message("assistant", tool_calls=[call("weather")])

    model, user = body_of(asked, Message("tool", "Rain", tool_call_id="weather"))["contents"]

    assert model["parts"][0]["functionCall"] == {"name": "weather", "args": {}}
    assert user["parts"][0]["functionResponse"].keys() == {"name", "response"}


# --- signatures --------------------------------------------------------------------------------


def test_the_first_call_without_a_signature_has_the_placeholder():
    parts = body_of(Message("assistant", tool_calls=[call("1"), call("2")]))["contents"][0]["parts"]

    assert [part.get("thoughtSignature") for part in parts] == [
        "skip_thought_signature_validator",
        None,
    ]


def test_signatures_and_thoughts_go_back_to_where_they_came_from():
    details: list[dict[str, Any]] = [
        {"type": "reasoning.text", "format": FORMAT, "index": 0, "text": "Hm", "signature": "t"},
        {"type": "reasoning.text", "format": FORMAT, "index": 1, "signature": "x"},
        {"type": "reasoning.text", "format": FORMAT, "id": "2", "signature": "c"},
        {"type": "reasoning.text", "format": "anthropic-claude-v1", "id": "1", "signature": "no"},
    ]
    said = [ContentPart("text", "a"), ContentPart("text", "b")]
    message = Message(
        "assistant", said, tool_calls=[call("1"), call("2")], reasoning_details=details
    )

    (turn,) = body_of(message)["contents"]

    assert turn["parts"] == [
        {"text": "Hm", "thought": True, "thoughtSignature": "t"},
        {"text": "a"},
        {"text": "b", "thoughtSignature": "x"},
        {
            "functionCall": {"name": "weather", "args": {}, "id": "1"},
            "thoughtSignature": "skip_thought_signature_validator",
        },
        {"functionCall": {"name": "weather", "args": {}, "id": "2"}, "thoughtSignature": "c"},
    ]


def test_a_signature_of_no_call_is_the_first_calls_when_there_is_no_text():
    details = [{"format": FORMAT, "signature": "x"}]
    message = Message("assistant", tool_calls=[call("1")], reasoning_details=details)

    (turn,) = body_of(message)["contents"]

    assert turn["parts"][0]["thoughtSignature"] == "x"


def test_what_comes_back_can_be_sent_as_it_is():
    first = answer(
        {"text": "Hm", "thought": True, "thoughtSignature": "t"},
        {"functionCall": {"name": "weather", "args": {"city": "Graz"}}, "thoughtSignature": "c"},
    )
    delta = parse_chat(HttpReply(200, {}, first.encode()), REQUEST).choices[0].delta
    message = msgspec.convert(msgspec.to_builtins(delta), Message)

    (turn,) = body_of(message)["contents"]

    assert turn["parts"] == json.loads(first)["candidates"][0]["content"]["parts"]


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reasoning", "budget", "config"),
    [
        (None, None, None),
        (None, 7, {"thinkingBudget": 7}),
        (Reasoning(effort="high"), 7, {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (
            Reasoning(effort="minimal", exclude=True),
            None,
            {"thinkingLevel": "MINIMAL", "includeThoughts": False},
        ),
        (Reasoning(summary="auto"), 7, {"thinkingBudget": 7, "includeThoughts": True}),
    ],
)
def test_thinking_has_a_level_or_a_budget(reasoning, budget, config):
    body = body_of(HI, reasoning=reasoning, thinking_budget=budget)

    assert body["generationConfig"] == (config and {"thinkingConfig": config})


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        (
            {"messages": [Message("critic", "a")]},
            "Role [critic] not supported by Google VertexAI ChatCompletion."
            " Supported roles: [user, assistant]",
        ),
        (
            {"messages": [Message("user", [ContentPart("image_url", image_url={"url": "x"})])]},
            "Type [image_url] not supported by Google VertexAI ChatCompletion."
            " Supported types: [text]",
        ),
        (
            {"messages": [Message("system", "")]},
            "System message cannot be empty for Google Vertex AI",
        ),
        (
            {"messages": [Message("tool", "a")]},
            "Tool messages require a [tool_call_id] for Google VertexAI ChatCompletion",
        ),
        (
            {"messages": [HI], "tool_choice": "required"},
            "Tool choice value [required] not supported by Google VertexAI ChatCompletion."
            " Supported values: [auto]",
        ),
        (
            {"messages": [HI], "reasoning": Reasoning(effort="xhigh")},
            "Reasoning effort [xhigh] not supported by Google VertexAI ChatCompletion."
            " Supported efforts: [minimal, low, medium, high]",
        ),
    ],
)
def test_what_the_format_has_no_place_for_is_a_bad_request(chat, words):
    with pytest.raises(BadRequest) as raised:
        gemini_body(Chat(**chat), thinking_budget=None)

    assert raised.value.message == words


def test_a_tool_is_declared_with_what_it_has():
    body = body_of(HI, tools=[Tool("function", ToolFunction("now"))], tool_choice="auto")

    assert body["tools"] == [{"functionDeclarations": [{"name": "now"}]}]
    assert body["toolConfig"] is None


# --- replies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL"),
        (None, None),
    ],
)
def test_an_answer_ends_in_the_words_of_openai(word, reason):
    (chunk,) = streamed(answer({"text": "a"}, reason=word))

    assert chunk.choices[0].finish_reason == reason


def test_function_calls_are_counted_through_a_stream_and_end_it_with_their_word():
    one = {"functionCall": {"name": "weather", "args": {"city": "Graz"}, "id": "c1"}}
    two = {"functionCall": {"name": "now", "args": None}}

    chunks = streamed(answer(one), answer(two, one), answer({"text": ""}, reason="STOP"))

    calls = [it for chunk in chunks for it in chunk.choices[0].delta.tool_calls or ()]
    assert [(it.index, it.id, it.function and it.function.arguments) for it in calls] == [
        (0, "c1", '{"city":"Graz"}'),
        (1, "now", "{}"),
        (2, "c1", '{"city":"Graz"}'),
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_pieces_of_one_thought_share_an_index_until_something_else_comes():
    chunks = streamed(
        answer({"text": "a", "thought": True}),
        answer({"text": "b", "thought": True, "thoughtSignature": "s"}),
        answer({"text": "c", "thought": True}),
        answer({"text": "Hello"}),
        answer({"text": "d", "thought": True}),
        answer({"text": "!", "thoughtSignature": "e"}),
    )

    deltas = [chunk.choices[0].delta for chunk in chunks]
    details = [one for delta in deltas for one in delta.reasoning_details or ()]
    assert [(one.get("index"), one.get("text"), one.get("signature")) for one in details] == [
        *((0, "a", None), (0, "b", "s"), (1, "c", None), (2, "d", None), (3, None, "e")),
    ]
    assert {(one["type"], one["format"]) for one in details} == {("reasoning.text", FORMAT)}
    assert "".join(delta.reasoning or "" for delta in deltas) == "abcd"
    assert "".join(delta.content or "" for delta in deltas) == "Hello!"


def test_thoughts_may_be_left_out_but_not_the_signatures_of_calls():
    chat = Chat([HI], reasoning=Reasoning(effort="low", exclude=True))
    function_call = {"functionCall": {"name": "now"}, "thoughtSignature": "c"}

    (chunk,) = streamed(
        answer({"text": "a", "thought": True, "thoughtSignature": "s"}, function_call), chat=chat
    )

    delta = chunk.choices[0].delta
    assert (delta.content, delta.reasoning) == (None, None)
    assert delta.reasoning_details == [
        {"type": "reasoning.text", "format": FORMAT, "id": "now", "signature": "c"}
    ]


def test_a_completion_has_no_thoughts_in_its_text():
    reduce = decode_completion(REQUEST)

    found = [
        [*(reduce(Event(answer(part))) or ())]
        for part in ({"text": "a", "thought": True}, {"text": "Hello"})
    ]

    assert found[0] == []
    assert [chunk.choices[0].delta.content for chunk in found[1]] == ["Hello"]


@pytest.mark.parametrize(
    ("text", "words", "kind"),
    [
        (
            '{"error": {"code": 503, "message": "No", "status": "UNAVAILABLE"}}',
            "Error message: [No]",
            "UNAVAILABLE",
        ),
        ("{}", "Received an error response", None),
        ("{half", "Received an error response", None),
        ('{"promptFeedback": {"blockReason": "SPII"}}', "blocked the prompt", None),
        (
            '{"promptFeedback": {"blockReason": "SPII"}, "usageMetadata": {}}',
            "Reason: [SPII]",
            None,
        ),
    ],
)
def test_an_event_that_is_no_answer_ends_a_stream(text, words, kind):
    with pytest.raises(UpstreamError) as raised:
        streamed(text)

    assert words in raised.value.message
    assert raised.value.kind == kind


def test_an_answer_without_candidates_is_unreadable():
    with pytest.raises(UnreadableReply, match=r"required field \[candidates\] in googlevertexai"):
        parse_chat(HttpReply(200, {}, b'{"usageMetadata": {}}'), REQUEST)


def test_a_chunk_may_have_nothing_but_the_usage():
    (chunk,) = streamed('{"usageMetadata": {"promptTokenCount": 3}}')

    assert chunk.choices == []
    assert chunk.usage is not None
    assert chunk.usage.input_tokens == 3
