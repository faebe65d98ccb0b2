"""The SDK of Hugging Face, https://github.com/huggingface/huggingface_hub."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import msgspec
from huggingface_hub import AsyncInferenceClient

from inferry.domain import ChatChunk, InferenceRequest, TaskType
from tests.oracles.oracle import Oracle, folded, texts_of
from tests.services.cases import Case, shown


async def ask(case: Case, origin: str) -> Any:
    """Ask Hugging Face's way: the URL of the endpoint stands where others have a model."""
    request = case.request
    endpoint = request.endpoint
    url = origin + urlsplit(str(endpoint.service_settings["url"])).path
    async with AsyncInferenceClient(url, token=endpoint.secrets["api_key"]) as client:
        if case.task_type is TaskType.TEXT_EMBEDDING:
            return await client.feature_extraction(texts_of(request))
        answer = await client.chat_completion(**_chat_arguments(request))
        return [chunk async for chunk in answer] if request.stream else answer


def _chat_arguments(request: InferenceRequest) -> dict[str, Any]:
    if request.chat is None:
        (text,) = texts_of(request)
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
    else:
        asked = msgspec.to_builtins(request.chat)
    if "max_completion_tokens" in asked:
        asked["max_tokens"] = asked.pop("max_completion_tokens")
    model = asked.pop("model", None) or request.endpoint.service_settings.get("model_id")
    extra = {**request.extra, **({"model": model} if model else {})}
    if request.stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return {**asked, "extra_body": extra}


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.task_type is TaskType.TEXT_EMBEDDING:
        return {"vectors": answer.tolist()}
    if case.request.stream:
        return folded(map(_chunk, answer))
    if case.task_type is TaskType.COMPLETION:
        return {"texts": [choice.message.content for choice in answer.choices]}
    return dict(shown(_chunk(answer)))


def _chunk(theirs: Any) -> ChatChunk:
    """Put an answer or a chunk of the SDK, which are dictionaries, into our type."""
    said = json.loads(json.dumps(theirs))
    choices = [
        {
            "delta": choice["delta"] if "delta" in choice else choice["message"],
            "finish_reason": choice["finish_reason"],
            "index": choice["index"],
        }
        for choice in said["choices"]
    ]
    usage = said["usage"] and {
        "input_tokens": said["usage"]["prompt_tokens"],
        "output_tokens": said["usage"]["completion_tokens"],
    }
    named = {name: said[name] for name in ("id", "model", "created")}
    return msgspec.convert({**named, "choices": choices, "usage": usage}, ChatChunk)


ORACLES = (
    Oracle(
        "hugging_face",
        "huggingface_hub",
        (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
        ask,
        read,
    ),
)
