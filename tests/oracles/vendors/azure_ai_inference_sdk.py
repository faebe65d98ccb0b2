"""The SDK for models of Azure AI, https://github.com/Azure/azure-sdk-for-python, and Cohere's."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from azure.ai.inference.aio import ChatCompletionsClient, EmbeddingsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from cohere import AsyncClient

from inferry.domain import InferenceRequest, InputType, TaskType
from tests.oracles.oracle import Oracle, texts_of
from tests.services.cases import Case

_INPUT_TYPES = {
    InputType.INGEST: "document",
    InputType.INTERNAL_INGEST: "document",
    InputType.SEARCH: "query",
    InputType.INTERNAL_SEARCH: "query",
}


async def ask(case: Case, origin: str) -> Any:
    """Ask the way of Azure AI."""
    request = case.request
    credential = AzureKeyCredential(request.endpoint.secrets["api_key"])
    if case.task_type is TaskType.TEXT_EMBEDDING:
        async with EmbeddingsClient(origin, credential, retry_total=0) as client:
            return await client.embed(**_embed_arguments(request))
    async with ChatCompletionsClient(origin, credential, retry_total=0) as chat:
        answer = await chat.complete(**_chat_arguments(request))
        return [update async for update in answer] if request.stream else answer


def _embed_arguments(request: InferenceRequest) -> dict[str, Any]:
    endpoint, user = request.endpoint, request.task_settings.get("user")
    settings = endpoint.service_settings
    asked: dict[str, Any] = {"input": texts_of(request), "model_extras": {**request.extra}}
    asked["model_extras"] |= {"user": user} if user else {}
    if endpoint.dimensions_set_by_user:
        asked["dimensions"] = settings["dimensions"]
    if settings["provider"] == "cohere" and InputType(request.input_type) in _INPUT_TYPES:
        asked["input_type"] = _INPUT_TYPES[InputType(request.input_type)]
    return asked


def _chat_arguments(request: InferenceRequest) -> dict[str, Any]:
    task = request.task_settings
    (text,) = texts_of(request)
    asked: dict[str, Any] = {name: task[name] for name in ("temperature", "top_p") if name in task}
    asked |= {"max_tokens": task["max_new_tokens"]} if "max_new_tokens" in task else {}
    asked |= {"stream": True} if request.stream else {}
    return {"messages": [UserMessage(text)], **asked}


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.task_type is TaskType.TEXT_EMBEDDING:
        usage = {"input_tokens": answer.usage.prompt_tokens, "output_tokens": 0}
        return {"vectors": [one.embedding for one in answer.data], "usage": usage}
    if case.request.stream:
        pieces = [one.delta.content for update in answer for one in update.choices]
        return {"text": "".join(piece or "" for piece in pieces), "usage": _usage(answer[-1])}
    return {
        "texts": [one.message.content for one in answer.choices],
        "usage": _usage(answer),
    }


def _usage(answer: Any) -> dict[str, int]:
    counted = answer.usage
    return {"input_tokens": counted.prompt_tokens, "output_tokens": counted.completion_tokens}


async def ask_cohere(case: Case, origin: str) -> Any:
    """Ask the way of Cohere, whose rerank these deployments speak."""
    request = case.request
    key = request.endpoint.secrets["api_key"]
    base = origin + urlsplit(str(request.endpoint.service_settings["target"])).path
    asked: dict[str, Any] = {"query": request.query, "documents": texts_of(request)}
    asked |= {"top_n": request.top_n} if request.top_n else {}
    asked |= {"return_documents": True} if request.return_documents else {}
    async with AsyncClient(key, base_url=base) as client:
        return await client.rerank(**asked)


def read_cohere(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    documents = []
    for one in answer.results:
        text = {"text": one.document.text} if one.document else {}
        documents.append({"index": one.index, "relevance_score": one.relevance_score, **text})
    return {"documents": documents}


ORACLES = (
    Oracle(
        "azureaistudio",
        "azure-ai-inference",
        (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION),
        ask,
        read,
    ),
    Oracle("azureaistudio", "cohere", (TaskType.RERANK,), ask_cohere, read_cohere),
)
