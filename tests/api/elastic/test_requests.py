"""Bodies of POST `_inference`: what they mean, and the words when they do not fit."""

from __future__ import annotations

import json

import pytest

from inferry.api.elastic.requests import read_ask
from inferry.api.exchange import Request
from inferry.domain import ContentItem, InputType, TaskType
from inferry.errors import (
    IllegalArgument,
    InferenceError,
    InvalidRequest,
    MissingBody,
    UnreadableBody,
)
from inferry.security.gate import Principal

TEXT, RERANK, EMBEDDING, CHAT = (
    TaskType.TEXT_EMBEDDING,
    TaskType.RERANK,
    TaskType.EMBEDDING,
    TaskType.CHAT_COMPLETION,
)
IMAGE = {"type": "image", "value": "data:image/png;base64,aGk="}
IMAGE_ITEM = ContentItem("image", "base64", "data:image/png;base64,aGk=")


async def read(body, task_type=TEXT, *, time_limit=None, asked=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await read_ask(request_of(raw), task_type, asked or task_type, time_limit)


def request_of(body: bytes) -> Request:
    return Request("POST", "/", "/", {}, {}, Principal("somebody"), body=body)


async def refusal(body, task_type=TEXT) -> InferenceError:
    with pytest.raises(InferenceError) as caught:
        await read(body, task_type)
    return caught.value


async def test_a_general_body_is_read():
    ask = await read(
        {
            "input": ["a", "b"],
            "input_type": "Search",
            "task_settings": {"user": "u"},
            "timeout": "5s",
        }
    )

    assert ask.inputs == ("a", "b")
    assert ask.input_type is InputType.SEARCH
    assert ask.task_settings == {"user": "u"}
    assert ask.timeout == (5.0, "5s")


async def test_the_time_limit_of_the_url_wins():
    ask = await read({"input": "a", "timeout": "5s"}, time_limit=(1.0, "1s"))

    assert ask.timeout == (1.0, "1s")


async def test_an_empty_string_is_an_input():
    assert (await read({"input": ""})).inputs == ("",)


async def test_without_a_type_in_the_url_an_input_type_is_taken_by_every_general_body():
    raw = b'{"input":"a","input_type":"ingest"}'

    ask = await read_ask(request_of(raw), TaskType.SPARSE_EMBEDDING, None, None)

    assert ask.input_type is InputType.INGEST


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        ({}, ["Field [input] cannot be null"]),
        ({"input": []}, ["Field [input] cannot be an empty array"]),
        (
            {"query": "q", "top_n": 1, "return_documents": True},
            [
                "Field [input] cannot be null",
                "Field [query] cannot be specified for task type [text_embedding]",
                "Field [return_documents] cannot be specified for task type [text_embedding]",
                "Field [top_n] cannot be specified for task type [text_embedding]",
            ],
        ),
    ],
)
async def test_all_problems_of_a_body_are_told_together(body, problems):
    error = await refusal(body)

    assert isinstance(error, InvalidRequest)
    assert error.message == InvalidRequest.of(problems).message


@pytest.mark.parametrize(
    ("body", "task_type", "message"),
    [
        (b'{"input":"a",\n"inptu":1}', TEXT,
         "[2:1] [cluster:internal/xpack/inference] unknown field [inptu] did you mean [input]?"),
        (b'{"input":{"a":1}}', TEXT, "[1:10] [cluster:internal/xpack/inference] "
         "input doesn't support values of type: START_OBJECT"),
        (b'{"input":["a",1]}', TEXT, "[1:15] [cluster:internal/xpack/inference] "
         "input doesn't support values of type: VALUE_NUMBER"),
        (b'{"input":"a","top_n":"x"}', TEXT, "[1:22] [cluster:internal/xpack/inference] "
         "top_n doesn't support values of type: VALUE_STRING"),
        (b'{"input":"a","input":"b"}', TEXT, "[1:14] Duplicate field 'input'"),
        (b'{"messages":[{"role":"user","role":"x","content":"a"}]}', CHAT,
         "[1:29] Duplicate field 'role'"),
        (b'{"input":', TEXT, "[1:10] Unexpected end of input, expected a value"),
        (b'["a"]', TEXT, "[1:1] Expected START_OBJECT but found START_ARRAY"),
        (b'{"input":"a","query":"q","x":1}', RERANK, "[1:26] [RerankRequest] unknown field [x]"),
        (b'{"input":[{"type":"text"}],"query":"q"}', RERANK,
         "[1:11] [RerankRequest] failed to parse field [input]"),
        (b'{"messages":[],"input":"x"}', CHAT,
         "[1:16] [UnifiedCompletionRequest] unknown field [input]"),
        (b'{"messages":[{"role":"user","content":[{"type":"text","txt":"x"}]}]}', CHAT,
         "[1:14] [UnifiedCompletionRequest] failed to parse field [messages]"),
        (b'{"messages":[{"role":"user"}],"temperature":"hot"}', CHAT,
         "[1:45] [UnifiedCompletionRequest] temperature doesn't support values of type: "
         "VALUE_STRING"),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_read_is_refused_with_its_place(body, task_type, message):
    error = await refusal(body, task_type)

    assert isinstance(error, UnreadableBody)
    assert error.message == message


async def test_what_is_wrong_inside_is_told_as_the_cause():
    error = await refusal({"messages": [{"role": "user", "content": [{"txt": "x"}]}]}, CHAT)

    assert error.__cause__ is not None
    inner = error.__cause__.__cause__
    assert isinstance(inner, UnreadableBody)
    assert "[ContentObject] unknown field [txt]" in inner.message


async def test_a_large_body_that_is_wrong_is_told_like_a_small_one():
    error = await refusal({"input": ["x" * 200_000], "colour": 1})

    assert "unknown field [colour]" in error.message


async def test_a_huge_body_that_is_wrong_is_told_without_a_position():
    error = await refusal({"input": ["x"] * 500_000, "colour": 1})

    assert error.message.startswith("[1:1] [cluster:internal/xpack/inference] ")
    assert "colour" in error.message


@pytest.mark.parametrize("task_type", [TEXT, RERANK, EMBEDDING, CHAT])
@pytest.mark.parametrize("body", [b"", b"  \n", b" " * 2_000_000])
async def test_a_body_is_required(body, task_type):
    assert isinstance(await refusal(body, task_type), MissingBody)


@pytest.mark.parametrize(
    ("body", "task_type", "message"),
    [
        ({}, RERANK, "Required [input, query]"),
        ({"input": "a"}, RERANK, "Required [query]"),
        ({}, EMBEDDING, "Required [input]"),
        ({}, CHAT, "Required [messages]"),
    ],
)
async def test_members_that_a_parser_needs_are_named(body, task_type, message):
    error = await refusal(body, task_type)

    assert isinstance(error, IllegalArgument)
    assert error.message == message


async def test_documents_may_be_texts_and_objects():
    body = {
        "input": ["a", {"type": "text", "value": "b"}, IMAGE],
        "query": {"type": "text", "format": "text", "value": "q"},
        "top_n": 2,
        "return_documents": True,
    }

    ask = await read(body, RERANK)

    assert ask.inputs == ("a", "b", (IMAGE_ITEM,))
    assert (ask.query, ask.top_n, ask.return_documents) == ("q", 2, True)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"input": None, "query": "q"}, "Field [input] cannot be null"),
        ({"input": [], "query": "q"}, "Field [input] cannot be an empty array"),
        ({"input": "a", "query": None}, "Field [query] cannot be null"),
        ({"input": "a", "query": ""}, "Field [query] cannot be empty"),
        ({"input": "a", "query": {"type": "text", "value": ""}}, "Field [query] cannot be empty"),
        ({"input": "a", "query": "q", "top_n": 0}, "Field [top_n] must be greater than or equal "
         "to 1"),
        ({"input": ["a", {"type": "audio", "value": "x"}], "query": "q"},
         "Field [input] contains unsupported [type] value audio at index 1"),
        ({"input": "a", "query": {"type": "pdf", "value": "x"}},
         "Field [query] contains unsupported [type] value pdf"),
    ],
)  # fmt: skip
async def test_a_ranking_that_makes_no_sense_is_refused(body, problem):
    error = await refusal(body, RERANK)

    assert error.message == InvalidRequest.of([problem]).message


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ({"content": {"type": "text", "value": "a"}}, ("a",)),
        ({"content": [IMAGE, {"type": "text", "value": "a"}]},
         ((IMAGE_ITEM, ContentItem("text", "text", "a")),)),
        (["a", {"content": IMAGE}], ("a", (IMAGE_ITEM,))),
    ],
)  # fmt: skip
async def test_what_is_embedded_may_be_more_than_text(given, inputs):
    assert (await read({"input": given}, EMBEDDING)).inputs == inputs


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"type": "text", "format": "base64", "value": "x"},
         "Data type [text] does not support data format [base64], supported formats are [text]"),
        ({"type": "smell", "value": "x"}, "Unrecognized type [smell], must be one of "
         "[text, image, audio, video, pdf]"),
        ({"type": "image", "value": "aGk="}, "base64 inputs must be specified as data URIs with "
         "the format [data:{MIME-type};base64,...]"),
        ({"type": "image", "value": "data:image/" + "x" * 300 + ";base64,aGk="},
         "base64 inputs must be specified as data URIs with the format "
         "[data:{MIME-type};base64,...]"),
    ],
)  # fmt: skip
async def test_content_that_makes_no_sense_is_refused(item, message):
    error = await refusal({"input": {"content": item}}, EMBEDDING)

    assert isinstance(error, IllegalArgument)
    assert error.message == message


@pytest.mark.parametrize("given", [None, [], {"content": []}])
async def test_an_embedding_needs_an_input(given):
    assert isinstance(await refusal({"input": given}, EMBEDDING), InvalidRequest)


async def test_a_chat_is_read():
    body = {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        ],
        "max_completion_tokens": 5,
        "stop": ["x"],
        "temperature": 1,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    }

    chat = (await read(body, CHAT)).chat

    assert chat is not None
    assert [message.role for message in chat.messages] == ["system", "user"]
    assert chat.temperature == 1
    assert chat.max_completion_tokens == 5


@pytest.mark.parametrize(
    ("messages", "problem"),
    [(None, "Field [messages] cannot be null"), ([], "Field [messages] cannot be an empty array")],
)
async def test_a_chat_needs_messages(messages, problem):
    error = await refusal({"messages": messages}, CHAT)

    assert error.message == InvalidRequest.of([problem]).message
