"""Results in OpenAI's shapes: embeddings, chat completions and their chunks, models.

Specified by OpenAI's API reference. Where the provider counted no tokens, `usage` is our estimate
from the number of characters and says so with `"estimated": true`, a member of ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from inferry.core.runners.truncate import estimated_tokens
from inferry.core.snapshot import Entry
from inferry.domain import (
    Chat,
    ChatChoice,
    ChatChunk,
    ChatDelta,
    DenseEmbeddings,
    Input,
    Message,
    ToolCall,
    Usage,
)
from inferry.vectors import Vector, vector_to_base64, vectors_to_json

DONE = b"data: [DONE]\n\n"
_MODELS_PER_PART = 256


class PromptDetails(msgspec.Struct, frozen=True):
    """What the input's tokens were."""

    cached_tokens: int


class CompletionDetails(msgspec.Struct, frozen=True):
    """What the output's tokens were."""

    reasoning_tokens: int


class EmbeddingsUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of an embeddings call."""

    prompt_tokens: int
    total_tokens: int
    estimated: bool = False


class ChatUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of a chat completion."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    estimated: bool = False


class EmbeddingObject(msgspec.Struct, frozen=True):
    """One vector: a list of numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(msgspec.Struct, frozen=True):
    """Answer of `POST /v1/embeddings`."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingsUsage


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The message that the model wrote; `content` is null when it calls tools only."""

    role: str
    content: str | None
    refusal: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatAnswerChoice(msgspec.Struct, frozen=True):
    """One alternative."""

    index: int
    message: ChatMessage
    finish_reason: str | None


class ChatAnswer(msgspec.Struct, frozen=True):
    """Answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatAnswerChoice]
    usage: ChatUsage


class ChunkChoice(msgspec.Struct, frozen=True):
    """A piece of one alternative."""

    index: int
    delta: ChatDelta
    finish_reason: str | None


class ChunkAnswer(msgspec.Struct, frozen=True):
    """One event of a stream. `usage` is there, mostly null, only if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None | msgspec.UnsetType = msgspec.UNSET


class Model(msgspec.Struct, frozen=True):
    """An endpoint that `/v1` can run: `id` is its inference id, `owned_by` its service."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[Model]


# --- embeddings --------------------------------------------------------------------------------


def embeddings_answer(
    model: str, inputs: Sequence[Input], result: DenseEmbeddings, *, is_base64: bool
) -> bytes:
    """Encode an answer; numbers of the provider are copied, not read."""
    usage = msgspec.json.encode(_embeddings_usage(inputs, result.usage))
    parts = [b'{"object":"list","data":[']
    for index, row in enumerate(_rows(result.vectors, is_base64=is_base64)):
        comma = b"," if index else b""
        head = b'%b{"object":"embedding","index":%d,"embedding":' % (comma, index)
        parts += (head, row, b"}")
    parts.append(b'],"model":%b,"usage":%b}' % (msgspec.json.encode(model), usage))
    return b"".join(parts)


def _rows(vectors: Sequence[Vector], *, is_base64: bool) -> list[bytes]:
    if is_base64:
        return [b'"%b"' % vector_to_base64(vector).encode("ascii") for vector in vectors]
    return vectors_to_json(vectors)


def _embeddings_usage(inputs: Sequence[Input], usage: Usage | None) -> EmbeddingsUsage:
    if usage is None:
        usage = Usage(sum(map(estimated_tokens, inputs)), estimated=True)
    return EmbeddingsUsage(usage.input_tokens, usage.input_tokens, usage.estimated)


# --- chat --------------------------------------------------------------------------------------


def chat_answer(inference_id: str, chat: Chat, chunk: ChatChunk) -> bytes:
    """Encode a whole answer. `inference_id` stands for the model if the provider names none."""
    choices = [_answer_choice(choice) for choice in chunk.choices]
    usage = chunk.usage or _estimate(chat, "".join(map(_written, chunk.choices)))
    return msgspec.json.encode(
        ChatAnswer(
            id=chunk.id,
            object="chat.completion",
            created=_created(chunk),
            model=chunk.model or inference_id,
            choices=choices,
            usage=_chat_usage(usage),
        )
    )


class ChunkWriter:
    """Writes the chunks of one stream as events; keeps what its last ones need to know."""

    def __init__(self, inference_id: str, chat: Chat, *, includes_usage: bool) -> None:
        self._inference_id = inference_id
        self._chat = chat
        self._includes_usage = includes_usage
        self._usage: Usage | None = None
        self._written = 0
        self._last = ChatChunk("", [], created=int(time.time()))

    def write(self, chunk: ChatChunk) -> bytes:
        """Encode `chunk`; usage is held back for the end, so a chunk of usage alone is nothing."""
        self._usage = chunk.usage or self._usage
        created = chunk.created or self._last.created
        self._last = msgspec.structs.replace(chunk, created=created)
        if not chunk.choices:
            return b""
        if self._includes_usage:
            self._written += sum(len(_written(choice)) for choice in chunk.choices)
        return self._event(
            [_chunk_choice(choice) for choice in chunk.choices],
            None if self._includes_usage else msgspec.UNSET,
        )

    def end(self) -> bytes:
        """Encode the end of a good stream: usage if it was asked for, then `[DONE]`."""
        if not self._includes_usage:
            return DONE
        usage = self._usage or _estimate(self._chat, "x" * self._written)
        return self._event([], _chat_usage(usage)) + DONE

    def _event(
        self, choices: list[ChunkChoice], usage: ChatUsage | None | msgspec.UnsetType
    ) -> bytes:
        last = self._last
        answer = ChunkAnswer(
            id=last.id,
            object="chat.completion.chunk",
            created=_created(last),
            model=last.model or self._inference_id,
            choices=choices,
            usage=usage,
        )
        return b"data: %b\n\n" % msgspec.json.encode(answer)


def _answer_choice(choice: ChatChoice) -> ChatAnswerChoice:
    delta = choice.delta
    calls = [
        msgspec.structs.replace(call, index=None, type=call.type or "function")
        for call in delta.tool_calls or ()
    ]
    message = ChatMessage(
        role=delta.role or "assistant",
        content=delta.content,
        refusal=delta.refusal,
        reasoning=delta.reasoning,
        tool_calls=calls or None,
    )
    return ChatAnswerChoice(choice.index, message, choice.finish_reason)


def _chunk_choice(choice: ChatChoice) -> ChunkChoice:
    delta = choice.delta
    if delta.tool_calls and any(call.index is None for call in delta.tool_calls):
        calls = [
            msgspec.structs.replace(call, index=at if call.index is None else call.index)
            for at, call in enumerate(delta.tool_calls)
        ]
        delta = msgspec.structs.replace(delta, tool_calls=calls)
    return ChunkChoice(choice.index, delta, choice.finish_reason)


def _created(chunk: ChatChunk) -> int:
    return int(time.time()) if chunk.created is None else chunk.created


def _chat_usage(usage: Usage) -> ChatUsage:
    cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
    return ChatUsage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details=None if cached is None else PromptDetails(cached),
        completion_tokens_details=None if reasoning is None else CompletionDetails(reasoning),
        estimated=usage.estimated,
    )


# --- estimates ---------------------------------------------------------------------------------


def _estimate(chat: Chat, written: str) -> Usage:
    texts = [text for message in chat.messages for text in _texts(message)]
    return Usage(sum(map(estimated_tokens, texts)), estimated_tokens(written), estimated=True)


def _texts(message: Message) -> list[str]:
    calls = [call.function for call in message.tool_calls or () if call.function]
    texts = [call.arguments for call in calls if call.arguments]
    if isinstance(message.content, str):
        return [message.content, *texts]
    return [part.text for part in message.content or () if part.text] + texts


def _written(choice: ChatChoice) -> str:
    delta = choice.delta
    calls = [call.function for call in delta.tool_calls or () if call.function]
    return "".join(
        [delta.reasoning or "", delta.content or "", *(c.arguments or "" for c in calls)]
    )


# --- models ------------------------------------------------------------------------------------


def model_answer(entry: Entry) -> bytes:
    """Encode one model."""
    return msgspec.json.encode(_model(entry))


def model_list_parts(entries: Sequence[Entry]) -> Iterator[bytes]:
    """Encode the models in parts that are joined on the wire, a bounded piece of work each."""
    yield b'{"object":"list","data":['
    for start in range(0, len(entries), _MODELS_PER_PART):
        page: Iterable[Entry] = entries[start : start + _MODELS_PER_PART]
        comma = b"," if start else b""
        yield comma + msgspec.json.encode([_model(entry) for entry in page])[1:-1]
    yield b"]}"


def _model(entry: Entry) -> Model:
    return Model(entry.inference_id, "model", entry.created_at_ms // 1000, entry.service)
