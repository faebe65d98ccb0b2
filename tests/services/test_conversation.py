"""Pieces of a conversation, taken apart for providers whose messages are not OpenAI's."""

from __future__ import annotations

import pytest

from inferry.domain import ContentPart, FunctionCall, Message, ToolCall
from inferry.errors import BadRequest
from inferry.services.conversation import arguments_of, data_url, parts_of


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("a", ["a"]),
        ("", []),
        (None, []),
        ([ContentPart("text", "a"), ContentPart("text", ""), ContentPart("text")], ["a"]),
    ],
)
def test_a_content_is_its_parts_without_empty_texts(content, texts):
    assert [part.text for part in parts_of(Message("user", content))] == texts


def test_a_part_of_another_type_stays():
    image = ContentPart("image_url", image_url={"url": "https://example.org/a.png"})

    assert parts_of(Message("user", [image])) == [image]


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (ToolCall(function=FunctionCall('{"a": [1]}')), {"a": [1]}),
        (ToolCall(function=FunctionCall("")), {}),
        (ToolCall(function=FunctionCall()), {}),
        (ToolCall(), {}),
    ],
)
def test_arguments_of_a_tool_call_are_read(call, arguments):
    assert arguments_of(call) == arguments


@pytest.mark.parametrize("text", ["{", "[1]", '"a"', "null"])
def test_arguments_that_are_no_object_are_a_bad_request(text):
    with pytest.raises(BadRequest, match=r"tool call \[7\] must be a JSON object in a string"):
        arguments_of(ToolCall(id="7", function=FunctionCall(text)))


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("data:image/png;base64,AA==", ("image/png", "AA==")),
        ("data:text/plain;charset=utf-8;base64,YQ==", ("text/plain", "YQ==")),
        ("data:text/plain,a", None),
        ("https://example.org/a.png", None),
        ("", None),
    ],
)
def test_a_data_url_is_a_media_type_and_base64(url, found):
    assert data_url(url) == found
