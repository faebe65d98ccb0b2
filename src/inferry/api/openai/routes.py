"""The OpenAI dialect: `/v1/embeddings`, `/v1/chat/completions` and `/v1/models`.

`model` is an inference id. Everything else is a translation: bodies in `requests`, answers
in `answers`, failures in `errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from inferry.api.exchange import Answer, Handler, Request, Route
from inferry.api.http.media_types import EVENT_STREAM, JSON
from inferry.api.openai.answers import (
    ChatAnswer,
    ChunkWriter,
    EmbeddingsAnswer,
    Model,
    ModelList,
    chat_answer,
    embeddings_answer,
    model_answer,
    model_list_parts,
)
from inferry.api.openai.errors import openai_error_body, render_openai_error
from inferry.api.openai.requests import (
    DIALECT,
    ChatBody,
    ChatCall,
    EmbeddingsBody,
    EmbeddingsCall,
    read_chat,
    read_embeddings,
    read_members,
)
from inferry.core.asking import Ask
from inferry.core.inference import Inference
from inferry.core.lookup import endpoint_not_found
from inferry.core.runners.runner import Chunks
from inferry.core.snapshot import Entry, Snapshot
from inferry.domain import ChatChunk, DenseEmbeddings, Json, TaskType
from inferry.errors import InferenceError, InternalError, InvalidRequest

_RUN = "cluster:monitor/xpack/inference/post"
_SERVED = (TaskType.TEXT_EMBEDDING, TaskType.CHAT_COMPLETION, TaskType.EMBEDDING)
_NUMBERS_INLINE = 100_000  # about 5 ms of writing; more goes to a thread


def openai_routes(snapshot: Snapshot, inference: Inference) -> list[Route]:
    """Give the routes of the dialect."""
    calls = _Calls(snapshot, inference)
    return [
        _route(
            "POST",
            "/v1/embeddings",
            calls.embed,
            "Embed texts, in OpenAI's form",
            body_type=EmbeddingsBody,
            answer_type=EmbeddingsAnswer,
        ),
        _route(
            "POST",
            "/v1/chat/completions",
            calls.complete_chat,
            "Complete a chat, in OpenAI's form",
            body_type=ChatBody,
            answer_type=ChatAnswer,
            media_types=(JSON, EVENT_STREAM),
        ),
        _route(
            "POST",
            "/_inference/chat_completion/{inference_id}/chat/completions",
            calls.complete_chat,
            "The same for SDKs whose base URL is that of one endpoint",
            body_type=ChatBody,
            answer_type=ChatAnswer,
            media_types=(JSON, EVENT_STREAM),
        ),
        _route(
            "GET",
            "/v1/models",
            calls.list_models,
            "List the endpoints that this dialect runs",
            answer_type=ModelList,
        ),
        _route(
            "GET",
            "/v1/models/{model}",
            calls.get_model,
            "Show one endpoint that this dialect runs",
            answer_type=Model,
        ),
    ]


def _route(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    *,
    answer_type: type,
    body_type: type | None = None,
    media_types: tuple[str, ...] = (JSON,),
) -> Route:
    return Route(
        method,
        path,
        handler,
        _RUN,
        render_openai_error,
        summary,
        takes_body=body_type is not None,
        has_media_types=False,
        body_type=body_type,
        answer_type=answer_type,
        media_types=media_types,
    )


class _Calls:
    """The handlers of the routes."""

    def __init__(self, snapshot: Snapshot, inference: Inference) -> None:
        self._snapshot = snapshot
        self._inference = inference

    async def embed(self, request: Request) -> Answer:
        """Embed one text or several."""
        call = read_embeddings(await read_members(request))
        request.inference_id = call.model
        entry = self._find_embedding(call)
        stored = entry.endpoint().service_settings.get("dimensions")
        if stored is not None:
            _check_dimensions(call, stored)
        result = await self._inference.run(call.model, entry.task_type, call.ask)
        if not isinstance(result, DenseEmbeddings):
            raise InternalError("an embedding endpoint gave no dense vectors")
        if stored is None:  # a built-in model does not tell before
            _check_dimensions(call, result.vectors[0].width)
        return Answer(await _embeddings_answer(call, result))

    async def complete_chat(self, request: Request) -> Answer:
        """Continue a conversation, at once or as a stream."""
        call = read_chat(await read_members(request))
        inference_id, ask = _chat_ask(call, request.path_values.get("inference_id"))
        request.inference_id = inference_id
        if not call.is_stream:
            result = await self._inference.run(inference_id, TaskType.CHAT_COMPLETION, ask)
            if not isinstance(result, ChatChunk):
                raise InternalError("a chat endpoint gave no chat completion")
            return Answer(chat_answer(inference_id, call.chat, result))
        parts = self._inference.stream(inference_id, TaskType.CHAT_COMPLETION, ask)
        # What fails before the first chunk has a status of its own; later it is an event.
        first: list[ChatChunk] = await anext(parts, [])
        writer = ChunkWriter(inference_id, call.chat, includes_usage=call.includes_usage)
        return Answer(_events(first, parts, writer), content_type=EVENT_STREAM)

    async def list_models(self, request: Request) -> Answer:
        """List what can be run here, by id."""
        served = [entry for task_type in _SERVED for entry in self._snapshot.entries(task_type)]
        served.sort(key=lambda entry: entry.inference_id)
        return Answer(model_list_parts(served))

    async def get_model(self, request: Request) -> Answer:
        """Show one."""
        inference_id = request.path_values["model"]
        entry = self._snapshot.get(inference_id)
        if entry is None or entry.task_type not in _SERVED:
            raise endpoint_not_found(inference_id)
        return Answer(model_answer(entry))

    def _find_embedding(self, call: EmbeddingsCall) -> Entry:
        """Find the endpoint, of either type that gives dense vectors."""
        entry = self._snapshot.get(call.model)
        is_multimodal = entry is not None and entry.task_type is TaskType.EMBEDDING
        asked = TaskType.EMBEDDING if is_multimodal else TaskType.TEXT_EMBEDDING
        return self._inference.find(call.model, asked)


def _check_dimensions(call: EmbeddingsCall, width: Json) -> None:
    """Refuse `dimensions` other than those that the endpoint has."""
    if call.dimensions not in (None, width):
        raise InvalidRequest(
            f"field [dimensions] must be [{width}], which the inference endpoint [{call.model}] "
            f"has, got [{call.dimensions}]",
            param="dimensions",
        )


def _chat_ask(call: ChatCall, inference_id: str | None) -> tuple[str, Ask]:
    """Tell endpoint and model apart: where the path names the endpoint, `model` is a model."""
    chat = call.chat
    if inference_id is None:
        if call.model is None:
            text = "field [model] is required; it is the id of an inference endpoint"
            raise InvalidRequest(text, param="model")
        inference_id = call.model
    elif call.model and call.model != inference_id:
        chat = msgspec.structs.replace(chat, model=call.model)
    return inference_id, Ask(chat=chat, extra=call.extra, dialect=DIALECT)


async def _embeddings_answer(call: EmbeddingsCall, result: DenseEmbeddings) -> bytes:
    def write() -> bytes:
        return embeddings_answer(call.model, call.ask.inputs, result, is_base64=call.is_base64)

    if sum(vector.width for vector in result.vectors) <= _NUMBERS_INLINE:
        return write()
    return await asyncio.to_thread(write)


async def _events(
    first: list[ChatChunk], parts: Chunks, writer: ChunkWriter
) -> AsyncGenerator[bytes]:
    """Write the chunks as events; a failure is one too, and then there is no `[DONE]`."""
    async with aclosing(parts):
        try:
            if events := b"".join(map(writer.write, first)):
                yield events
            async for chunks in parts:
                if events := b"".join(map(writer.write, chunks)):
                    yield events
        except InferenceError as error:
            yield b"data: %b\n\n" % openai_error_body(error)
            return
        yield writer.end()
