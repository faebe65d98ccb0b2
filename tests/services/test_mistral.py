"""What is particular to the service mistral."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from inferry.calls import HttpReply
from inferry.domain import Chat, Deadline, Endpoint, InferenceRequest, Message, Reasoning, TaskType
from inferry.errors import BadRequest
from inferry.services.mistral import SERVICE, adopt, build_chat, error_message, group
from inferry.services.openai_compatible.chat import parse_chat

ENDPOINT = Endpoint(
    "mine", TaskType.CHAT_COMPLETION, "mistral", {"model": "m"}, secrets={"api_key": "k"}
)
REQUEST = InferenceRequest(ENDPOINT, Deadline.after(30, "30s"))


def asking(**more) -> InferenceRequest:
    return replace(REQUEST, chat=Chat([Message("user", "Hi")], **more))


def test_the_model_may_have_the_name_that_it_has_elsewhere():
    assert adopt({"model_id": "m"}, {}) == ({"model": "m"}, {})


def test_endpoints_of_one_model_and_key_share_a_rate_limit_group():
    assert group(ENDPOINT) == group(replace(ENDPOINT, inference_id="yours"))
    assert group(ENDPOINT) != group(replace(ENDPOINT, secrets={"api_key": "other"}))
    assert group(ENDPOINT) != group(replace(ENDPOINT, service_settings={"model": "other"}))


def test_the_length_of_an_answer_is_limited_in_the_older_word():
    body = json.loads(build_chat(asking(max_completion_tokens=5)).body)

    assert body["max_tokens"] == 5
    assert "max_completion_tokens" not in body


def test_no_options_of_a_stream_are_sent():
    assert "stream_options" not in json.loads(build_chat(replace(asking(), stream=True)).body)


def test_reasoning_without_an_effort_is_a_bad_request():
    with pytest.raises(BadRequest, match=r"Mistral chat completion requires \[reasoning.effort\]"):
        build_chat(asking(reasoning=Reasoning(summary="auto")))


@pytest.mark.parametrize(
    ("word", "reason"),
    [("stop", "stop"), ("model_length", "length"), ("eos_token", "stop"), ("error", "error")],
)
def test_an_answer_ends_in_the_words_of_openai(word, reason):
    body = {"id": "x", "choices": [{"message": {"content": "a"}, "finish_reason": word}]}

    chunk = parse_chat(HttpReply(200, {}, json.dumps(body).encode()), REQUEST)

    assert chunk.choices[0].finish_reason == reason


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b'{"message": "Unauthorized", "request_id": "r"}', "Unauthorized"),
        (422, b'{"detail": [{"loc": ["body"], "msg": "No"}]}', '[{"loc":["body"],"msg":"No"}]'),
        (400, b'{"object": "error", "message": "No", "type": "t", "code": "c"}', "No"),
        (502, b" bad gateway\n", "bad gateway"),
        (500, b"", None),
        (200, b"{half", None),
    ],
)
def test_an_error_body_speaks_in_any_form(status, body, message):
    assert error_message(HttpReply(status, {}, body)).message == message


def test_an_input_that_the_provider_finds_wrong_has_words_of_its_own():
    row = next(one for one in SERVICE.errors if one.first <= 422 <= one.last)

    assert row.text == "Received an input validation error response"
