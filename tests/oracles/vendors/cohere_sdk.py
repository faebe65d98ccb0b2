"""The SDK of Cohere, https://github.com/cohere-ai/cohere-python."""

from __future__ import annotations

from typing import Any

from cohere import AsyncClientV2

from inferry.domain import InferenceRequest, InputType, TaskType
from tests.oracles.oracle import Oracle, texts_of
from tests.services.cases import Case

INPUT_TYPES = {
    InputType.INGEST: "search_document",
    InputType.INTERNAL_INGEST: "search_document",
    InputType.SEARCH: "search_query",
    InputType.INTERNAL_SEARCH: "search_query",
    InputType.CLASSIFICATION: "classification",
    InputType.CLUSTERING: "clustering",
    InputType.UNSPECIFIED: "search_query",
}
TYPES = {"float": "float", "byte": "int8", "int8": "int8", "bit": "binary", "binary": "binary"}


async def ask(case: Case, origin: str) -> Any:
    """Ask Cohere's way."""
    request = case.request
    settings, secrets = request.endpoint.service_settings, request.endpoint.secrets
    async with AsyncClientV2(secrets["api_key"], base_url=origin) as client:
        arguments: dict[str, Any] = {"model": settings["model_id"]}
        match case.task_type:
            case TaskType.TEXT_EMBEDDING:
                return await client.embed(**arguments, **_embed_arguments(request))
            case TaskType.RERANK:
                asked: dict[str, Any] = {"query": request.query, "documents": texts_of(request)}
                asked |= {"top_n": request.top_n} if request.top_n else {}
                return await client.rerank(**arguments, **asked)
        messages = [{"role": "user", "content": text} for text in texts_of(request)]
        if request.stream:
            stream = client.chat_stream(**arguments, messages=messages)
            return [event async for event in stream]
        return await client.chat(**arguments, messages=messages)


def _embed_arguments(request: InferenceRequest) -> dict[str, Any]:
    kind = TYPES[str(request.endpoint.service_settings.get("embedding_type", "float"))]
    asked: dict[str, Any] = {
        "texts": texts_of(request),
        "input_type": INPUT_TYPES[InputType(request.input_type)],
        "embedding_types": [kind],
    }
    truncate = request.task_settings.get("truncate")
    return asked | ({"truncate": truncate} if truncate else {})


def read(answer: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    if case.request.stream:
        return _read_stream(answer)
    match case.task_type:
        case TaskType.TEXT_EMBEDDING:
            found = answer.embeddings
            vectors = found.float_ or found.int8 or found.binary
            return {"vectors": vectors, "usage": _tokens(answer.meta.billed_units)}
        case TaskType.RERANK:
            return {"documents": [_document(one, case.request) for one in answer.results]}
    texts = [one.text for one in answer.message.content if one.type == "text"]
    return {"texts": texts, "usage": _tokens(answer.usage.tokens)}


def _document(result: Any, request: InferenceRequest) -> dict[str, Any]:
    """Add the text, which this version of the API never returns."""
    text = {"text": texts_of(request)[result.index]} if request.return_documents else {}
    return {"index": result.index, "relevance_score": result.relevance_score, **text}


def _read_stream(events: list[Any]) -> dict[str, Any]:
    pieces = [one.delta.message.content.text for one in events if one.type == "content-delta"]
    end = events[-1]
    assert end.type == "message-end"
    return {
        "text": "".join(piece or "" for piece in pieces),
        "usage": _tokens(end.delta.usage.tokens),
    }


def _tokens(counted: Any) -> dict[str, int]:
    return {
        "input_tokens": int(counted.input_tokens),
        "output_tokens": int(counted.output_tokens or 0),
    }


ORACLES = (
    Oracle(
        "cohere",
        "cohere",
        (TaskType.TEXT_EMBEDDING, TaskType.RERANK, TaskType.COMPLETION),
        ask,
        read,
    ),
)
