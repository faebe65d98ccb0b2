"""The services `hugging_face` and `openai` with `url` at the chat server of transformers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

MESSAGES = [{"role": "user", "content": "What is above the port?"}]
LENGTH = 12


def direct(transformers) -> dict[str, Any]:
    """Ask transformers itself."""
    body = {"model": transformers.model, "messages": MESSAGES, "max_tokens": LENGTH}
    answer: dict[str, Any] = transformers.post("/v1/chat/completions", body)
    return answer


@pytest.fixture(scope="module", params=["hugging_face", "openai"])
def endpoint(request, transformers, ours) -> str:
    path = f"/_inference/chat_completion/{request.param.replace('_', '-')}-chat"
    settings = {
        "api_key": "a key",
        "model_id": transformers.model,
        "url": f"{transformers.url}/v1/chat/completions",
    }
    created = ours.call("PUT", path, {"service": request.param, "service_settings": settings})
    assert created.status == 200, created.content
    return path


def test_a_chat_answers_what_it_answers_directly(transformers, ours, endpoint):
    theirs = direct(transformers)

    answer = ours.call("POST", endpoint, {"messages": MESSAGES, "max_completion_tokens": LENGTH})

    assert answer.status == 200, answer.content
    choice, usage = answer.json["choices"][0], answer.json["usage"]
    assert choice["message"]["content"] == theirs["choices"][0]["message"]["content"]
    assert choice["finish_reason"] == "length"
    assert usage["completion_tokens"] == theirs["usage"]["completion_tokens"] == LENGTH


def test_a_streamed_chat_says_the_same_in_pieces(transformers, ours, endpoint):
    answer = ours.call(
        "POST", f"{endpoint}/_stream", {"messages": MESSAGES, "max_completion_tokens": LENGTH}
    )

    *chunks, end = re.findall(r"^data: (.*)$", answer.content.decode(), re.MULTILINE)
    choices = [choice for one in chunks for choice in json.loads(one)["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert end == "[DONE]"
    assert text == direct(transformers)["choices"][0]["message"]["content"]
    assert [one["finish_reason"] for one in choices if one.get("finish_reason")] == ["length"]
    assert len(choices) > LENGTH / 2


def test_a_completion_is_a_chat_of_one_message(transformers, ours):
    path = "/_inference/completion/hugging-face-text"
    settings = {
        "api_key": "a key",
        "model_id": transformers.model,
        "url": f"{transformers.url}/v1/chat/completions",
    }
    body = {"service": "hugging_face", "service_settings": settings}
    created = ours.call("PUT", path, body)
    answer = ours.call("POST", path, {"input": MESSAGES[0]["content"]})

    assert created.status == 200, created.content
    whole = answer.json["completion"][0]["result"]
    assert whole.startswith(direct(transformers)["choices"][0]["message"]["content"])


def test_its_refusals_are_told_in_its_words(transformers, ours):
    settings = {
        "api_key": "a key",
        "model_id": "another",
        "url": f"{transformers.url}/v1/chat/completions",
    }
    body = {"service": "hugging_face", "service_settings": settings}

    answer = ours.call("PUT", "/_inference/completion/hugging-face-lost", body)

    assert answer.status == 400
    assert "requested 'another'" in answer.json["error"]["caused_by"]["reason"]
