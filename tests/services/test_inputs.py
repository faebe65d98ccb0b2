"""Inputs become texts, or the caller is told which of them is none."""

from __future__ import annotations

import pytest

from inferry.domain import ContentItem, Deadline, Endpoint, InferenceRequest, TaskType
from inferry.errors import BadRequest
from inferry.services.inputs import prompt_of, query_of, texts_of

TEXT = ContentItem("text", "text", "a")
IMAGE = ContentItem("image", "base64", "data:image/png;base64,AA==")


def request(*inputs, query=None) -> InferenceRequest:
    endpoint = Endpoint("mine", TaskType.RERANK, "any", {})
    return InferenceRequest(endpoint, Deadline.after(30, "30s"), inputs, query=query)


def test_a_text_may_come_as_an_item():
    assert texts_of(["a", (TEXT,)], service="any") == ["a", "a"]
    assert prompt_of(request((TEXT,)), title="Any") == "a"
    assert query_of(request(query=(TEXT,))) == query_of(request(query="a")) == "a"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ((IMAGE,), "takes text only, got type [image] and format [base64]"),
        ((TEXT, TEXT), "takes one text at a time, got [2] items"),
        ((), "takes one text at a time, got [0] items"),
    ],
)
def test_what_is_not_one_text_is_a_bad_request_that_says_where(items, words):
    with pytest.raises(BadRequest) as raised:
        texts_of(["fine", items], service="any")

    assert raised.value.message == f"The [any] service {words} in input [1]"


def test_a_query_is_named_when_it_is_no_text():
    with pytest.raises(BadRequest, match=r"got type \[image\] and format \[base64\] in query"):
        query_of(request(query=(IMAGE,)))


@pytest.mark.parametrize("inputs", [(), ("a", "b")])
def test_a_completion_takes_one_input(inputs):
    with pytest.raises(BadRequest, match="Any completions only accepts 1 input"):
        prompt_of(request(*inputs), title="Any")
