"""The SDK of Mistral, https://github.com/mistralai/client-python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from mistralai.client import Mistral

from inferry.domain import ChatChunk, InferenceRequest, TaskType
from tests.oracles.oracle import Oracle, folded, texts_of
from tests.services.cases import Case, shown


async def ask(case: Case, origin: str) -> Any:
    """Ask Mistral's way."""
    request = case.request
    endpoint = request.endpoint
    model = str(endpoint.service_settings["model"])
    async with Mistral(api_key=endpoint.secrets["api_key"], server_url=origin) as client:
        if case.task_type is TaskType.TEXT_EMBEDDING:
            return await client.embeddings.create_async(
                model=model, inputs=texts_of(request), encoding_format="float"
            )
        return await say(client, request, model=model)


async def say(client: Any, request: InferenceRequest, *, model: str) -> Any:
    """Say a chat in the words of the SDK, for whatever client of it."""
    arguments = {"model": model, **_chat_arguments(request), **request.extra}
    if not request.stream:
        return await client.chat.complete_async(**arguments)
    stream = await client.chat.stream_async(**arguments)
    async with stream:
        return [event.data async for event in stream]


def _chat_arguments(request: InferenceRequest) -> dict[str, Any]:
    if request.chat is None:
        return {"messages": [{"role": "user", "content": text} for text in texts_of(request)]}
    asked: dict[str, Any] = msgspec.to_builtins(request.chat)
    if "max_completion_tokens" in asked:
        asked["max_tokens"] = asked.pop("max_completion_tokens")
    return asked


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.request.stream:
        return folded(map(_chunk, answer))
    if case.task_type is TaskType.TEXT_EMBEDDING:
        rows = sorted(answer.data, key=lambda row: row.index)
        return {
            "vectors": [row.embedding for row in rows],
            "usage": {"input_tokens": answer.usage.prompt_tokens, "output_tokens": 0},
        }
    if case.task_type is TaskType.COMPLETION:
        return {"texts": [_plain(choice.message)["content"] for choice in answer.choices]}
    return dict(shown(_chunk(answer)))


def _chunk(theirs: Any) -> ChatChunk:
    usage = theirs.usage and {
        "input_tokens": theirs.usage.prompt_tokens,
        "output_tokens": theirs.usage.completion_tokens,
    }
    return msgspec.convert(
        {
            "id": theirs.id,
            "model": theirs.model,
            "created": theirs.created,
            "choices": list(_choices(theirs.choices)),
            "usage": usage or None,
        },
        ChatChunk,
    )


def _choices(choices: Any) -> Iterable[dict[str, Any]]:
    for choice in choices:
        said = choice.delta if hasattr(choice, "delta") else choice.message
        reason = choice.finish_reason
        yield {
            "delta": _plain(said),
            "finish_reason": "length" if reason == "model_length" else reason,
            "index": choice.index,
        }


def _plain(said: Any) -> dict[str, Any]:
    """Put texts in place of the parts that reasoning models give."""
    dumped: dict[str, Any] = said.model_dump(exclude_none=True)
    content = dumped.get("content")
    if isinstance(content, list):
        thoughts = [it["text"] for part in content for it in part.get("thinking", [])]
        texts = [part["text"] for part in content if part["type"] == "text"]
        dumped |= {"content": "".join(texts) or None, "reasoning": "".join(thoughts) or None}
    return dumped


ORACLES = (
    Oracle(
        "mistral",
        "mistralai",
        (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
        ask,
        read,
    ),
)
