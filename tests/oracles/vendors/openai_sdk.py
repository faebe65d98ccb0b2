"""The SDK of OpenAI, https://github.com/openai/openai-python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from openai import AsyncOpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inferry.domain import ChatChunk, InferenceRequest, TaskType
from tests.oracles.oracle import Oracle, folded, texts_of
from tests.services.cases import Case, shown


async def ask(case: Case, origin: str) -> Any:
    """Ask OpenAI's way."""
    endpoint = case.request.endpoint
    organization = endpoint.service_settings.get("organization_id")
    client = AsyncOpenAI(
        base_url=f"{origin}/v1",
        api_key=endpoint.secrets["api_key"],
        organization=organization if isinstance(organization, str) else None,
        max_retries=0,
    )
    async with client:
        return await say(client, case.request, model=endpoint.service_settings["model_id"])


async def say(client: AsyncOpenAI, request: InferenceRequest, *, model: Any) -> Any:
    """Say `request` in the words of the SDK, for whatever client of it."""
    if request.endpoint.task_type.is_chunkable:
        return await client.embeddings.create(**_embeddings_arguments(request, model))
    answer = await client.chat.completions.create(**chat_arguments(request, model))
    return [chunk async for chunk in answer] if request.stream else answer


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.request.stream:
        chunks = [ChatCompletionChunk.model_validate(one.model_dump()) for one in answer]
        return folded(map(_chunk, chunks))
    if case.task_type.is_chunkable:
        if isinstance(case.written["reply"]["data"][0]["embedding"], list):
            CreateEmbeddingResponse.model_validate(case.written["reply"])
        rows = sorted(answer.data, key=lambda row: row.index)
        return {
            "vectors": [row.embedding for row in rows],
            "usage": {"input_tokens": answer.usage.prompt_tokens, "output_tokens": 0},
        }
    ChatCompletion.model_validate(case.written["reply"])
    if case.task_type is TaskType.COMPLETION:
        return {"texts": [one.message.content or one.message.refusal for one in answer.choices]}
    return dict(shown(_chunk(answer)))


def _arguments(request: InferenceRequest, model: Any) -> dict[str, Any]:
    task = request.task_settings
    asked: dict[str, Any] = {"model": model, "extra_headers": task.get("headers", {})}
    asked |= {"user": task["user"]} if "user" in task else {}
    # What the caller adds goes along, but for what the request itself decides.
    extra = request.extra
    asked["extra_body"] = {name: extra[name] for name in extra if name not in {"model", "stream"}}
    return asked


def _embeddings_arguments(request: InferenceRequest, model: Any) -> dict[str, Any]:
    asked = {**_arguments(request, model), "input": texts_of(request)}
    if request.endpoint.dimensions_set_by_user:
        asked["dimensions"] = request.endpoint.service_settings["dimensions"]
    return asked


def chat_arguments(request: InferenceRequest, model: Any) -> dict[str, Any]:
    """Say a chat in the words of the SDK."""
    asked = _arguments(request, model)
    if request.chat is None:
        (text,) = texts_of(request)
        asked["messages"] = [{"role": "user", "content": text}]
    else:
        asked |= msgspec.to_builtins(request.chat)
        if reasoning := asked.pop("reasoning", None):
            asked["reasoning_effort"] = reasoning["effort"]
    if request.stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return asked


def _chunk(theirs: Any) -> ChatChunk:
    """Put an answer or a chunk of the SDK into our type, member by member."""
    return msgspec.convert(
        {
            "id": theirs.id,
            "model": theirs.model,
            "created": theirs.created,
            "choices": list(_choices(theirs.choices)),
            "usage": _usage(theirs.usage),
        },
        ChatChunk,
    )


def _choices(choices: Any) -> Iterable[dict[str, Any]]:
    for choice in choices:
        said = choice.delta if hasattr(choice, "delta") else choice.message
        yield {
            "delta": said.model_dump(exclude_none=True),
            "finish_reason": choice.finish_reason,
            "index": choice.index,
        }


def _usage(usage: Any) -> dict[str, Any] | None:
    if usage is None:
        return None
    prompt, written = usage.prompt_tokens_details, usage.completion_tokens_details
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cached_tokens": prompt and prompt.cached_tokens,
        "reasoning_tokens": written and written.reasoning_tokens,
    }


ORACLES = (
    Oracle(
        "openai",
        "openai",
        (
            TaskType.TEXT_EMBEDDING,
            TaskType.EMBEDDING,
            TaskType.COMPLETION,
            TaskType.CHAT_COMPLETION,
        ),
        ask,
        read,
    ),
)
