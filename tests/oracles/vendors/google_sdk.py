"""The SDK of Google, https://github.com/googleapis/python-genai."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from google import genai
from google.genai import types

from inferry.domain import InferenceRequest, InputType, TaskType
from tests.oracles.oracle import Oracle, texts_of
from tests.services.cases import Case

TASK_TYPES = {
    InputType.INGEST: "RETRIEVAL_DOCUMENT",
    InputType.INTERNAL_INGEST: "RETRIEVAL_DOCUMENT",
    InputType.SEARCH: "RETRIEVAL_QUERY",
    InputType.INTERNAL_SEARCH: "RETRIEVAL_QUERY",
    InputType.CLASSIFICATION: "CLASSIFICATION",
    InputType.CLUSTERING: "CLUSTERING",
}


async def ask_ai_studio(case: Case, origin: str) -> Any:
    """Ask the way of the Gemini API."""
    request = case.request
    endpoint = request.endpoint
    async with _options(origin) as options:
        client = genai.Client(api_key=endpoint.secrets["api_key"], http_options=options).aio
        model = str(endpoint.service_settings["model_id"])
        if case.task_type is TaskType.TEXT_EMBEDDING:
            return await _embed(client, model, request)
        (text,) = texts_of(request)
        config = types.GenerateContentConfig(candidate_count=1)
        return await _generate(client, model, text, config, stream=request.stream)


@asynccontextmanager
async def _options(origin: str) -> AsyncIterator[types.HttpOptions]:
    """Have the SDK call `origin`, with httpx: it derives from a class of aiohttp, which warns."""
    async with httpx.AsyncClient() as client:
        yield types.HttpOptions(base_url=origin, api_version="v1", httpx_async_client=client)


async def _embed(client: Any, model: str, request: InferenceRequest) -> Any:
    endpoint = request.endpoint
    config = types.EmbedContentConfig(task_type=TASK_TYPES.get(InputType(request.input_type)))
    if endpoint.dimensions_set_by_user:
        config.output_dimensionality = int(str(endpoint.service_settings["dimensions"]))
    return await client.models.embed_content(model=model, contents=texts_of(request), config=config)


async def _generate(client: Any, model: str, contents: Any, config: Any, *, stream: bool) -> Any:
    asked = {"model": model, "contents": contents, "config": config}
    if not stream:
        return await client.models.generate_content(**asked)
    return [chunk async for chunk in await client.models.generate_content_stream(**asked)]


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.task_type is TaskType.TEXT_EMBEDDING:
        return {"vectors": [one.values for one in answer.embeddings]}
    chunks = answer if case.request.stream else [answer]
    text = "".join(_texts(chunks))
    usage = _usage(chunks[-1].usage_metadata)
    if case.request.stream:
        return {"text": text, "usage": usage}
    return {"texts": [text], "usage": usage}


def _texts(chunks: Iterable[Any]) -> Iterable[str]:
    for chunk in chunks:
        for part in chunk.candidates[0].content.parts or []:
            if part.text and not part.thought:
                yield part.text


def _usage(counted: Any) -> dict[str, Any]:
    thoughts = counted.thoughts_token_count
    usage = {
        "input_tokens": counted.prompt_token_count,
        "output_tokens": (counted.candidates_token_count or 0) + (thoughts or 0),
    }
    return usage | ({} if thoughts is None else {"reasoning_tokens": thoughts})


ORACLES = (
    Oracle(
        "googleaistudio",
        "google-genai",
        (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION),
        ask_ai_studio,
        read,
    ),
)
