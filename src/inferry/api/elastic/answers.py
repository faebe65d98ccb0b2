"""Results of inference as the bodies of Elasticsearch, and what their headers tell.

Vectors are joined from encoded rows; nothing is parsed or boxed on the way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from inferry.api.exchange import Answer
from inferry.domain import (
    ChatChunk,
    ChatDelta,
    Completion,
    DenseEmbeddings,
    ElementType,
    RankedDocument,
    Ranking,
    Result,
    SparseEmbeddings,
    TaskType,
    ToolCall,
    Usage,
)
from inferry.errors import InternalError
from inferry.vectors import FloatVector, vectors_to_json

_ROOTS: Final = {
    ElementType.FLOAT: "",
    ElementType.BYTE: "_bytes",
    ElementType.BIT: "_bits",
}
_LONGEST_RECEIPT: Final = 1000
_NOTEWORTHY_WAIT_S: Final = 1.0
_NUMBERS_INLINE: Final = 100_000  # about 5 ms of writing; more goes to a thread


class CompletionItem(msgspec.Struct, frozen=True):
    """A text that was written."""

    result: str


class CompletionAnswer(msgspec.Struct, frozen=True):
    """The answer of completion."""

    completion: list[CompletionItem]


class SparseItem(msgspec.Struct, frozen=True):
    """One sparse embedding."""

    is_truncated: bool
    embedding: dict[str, float]


class SparseAnswer(msgspec.Struct, frozen=True):
    """The answer of sparse_embedding."""

    sparse_embedding: list[SparseItem]


class DenseItem(msgspec.Struct, frozen=True):
    """One vector, for the OpenAPI document; answers are written from encoded rows."""

    embedding: list[float]


class DenseAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of text_embedding and embedding; the root tells the element type."""

    text_embedding: list[DenseItem] | None = None
    text_embedding_bytes: list[DenseItem] | None = None
    text_embedding_bits: list[DenseItem] | None = None
    embeddings: list[DenseItem] | None = None
    embeddings_bytes: list[DenseItem] | None = None
    embeddings_bits: list[DenseItem] | None = None


class RankedItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document's place."""

    index: int
    relevance_score: float
    text: str | None = None


class RerankAnswer(msgspec.Struct, frozen=True):
    """The answer of rerank."""

    rerank: list[RankedItem]


class TokenDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Parts of a token count."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class ChatUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of a chat completion."""

    completion_tokens: int
    prompt_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The message of a whole answer."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning_details: list[dict[str, Any]] | None = None


class MessageChoice(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One alternative of a whole answer."""

    index: int
    message: ChatMessage
    finish_reason: str | None = None


class ChatAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The answer of chat_completion without a stream."""

    id: str
    choices: list[MessageChoice]
    model: str | None = None
    object: str
    usage: ChatUsage | None = None


async def result_answer(result: Result, task_type: TaskType, *, queued_s: float = 0.0) -> Answer:
    """Answer with a result. queued_s: how long the request waited for a permit."""
    truncated: Sequence[int] = ()
    match result:
        case DenseEmbeddings():
            truncated = result.truncated
            body = await _dense(result, task_type)
        case SparseEmbeddings():
            truncated = result.truncated
            body = _sparse(result)
        case Ranking():
            truncated = result.truncated
            body = _ranking(result)
        case Completion(texts):
            body = msgspec.json.encode(CompletionAnswer([CompletionItem(text) for text in texts]))
        case ChatChunk():
            body = msgspec.json.encode(_chat(result))
    headers = receipt(result.usage, truncated, queued_s)
    return Answer(body, headers=headers)


def receipt(usage: Usage | None, truncated: Sequence[int], queued_s: float) -> dict[str, str]:
    """Give the headers that tell what happened to a request beside its result."""
    headers = {}
    if truncated:
        headers["X-Inferry-Truncated"] = ranges(truncated)
    if usage is not None:
        headers["X-Inferry-Tokens"] = str(usage.input_tokens + usage.output_tokens)
    if queued_s > _NOTEWORTHY_WAIT_S:
        headers["X-Inferry-Queued-Ms"] = str(round(queued_s * 1000))
    return headers


def ranges(indices: Sequence[int]) -> str:
    """Write ascending indices as `0-3,17`; what is too long ends with `;count=N`."""
    text = ""
    start = previous = indices[0]
    for index in (*indices[1:], None):
        if index == previous + 1:
            previous = index
            continue
        one = str(start) if start == previous else f"{start}-{previous}"
        if len(text) + len(one) > _LONGEST_RECEIPT - 20:
            return f"{text};count={len(indices)}"
        text = f"{text},{one}" if text else one
        if index is not None:
            start = previous = index
    return text


def usage_of(usage: Usage | None) -> ChatUsage | None:
    """Give the token counts of a chat completion."""
    if usage is None:
        return None
    cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
    return ChatUsage(
        completion_tokens=usage.output_tokens,
        prompt_tokens=usage.input_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details=None if cached is None else TokenDetails(cached_tokens=cached),
        completion_tokens_details=(
            None if reasoning is None else TokenDetails(reasoning_tokens=reasoning)
        ),
    )


async def _dense(result: DenseEmbeddings, task_type: TaskType) -> bytes:
    name = "embeddings" if task_type is TaskType.EMBEDDING else "text_embedding"
    root = (name + _ROOTS[result.element_type]).encode()
    numbers = sum(row.width for row in result.vectors if isinstance(row, FloatVector))
    if numbers <= _NUMBERS_INLINE:
        rows = _rows(result)
    else:
        rows = await asyncio.to_thread(_rows, result)
    if not rows:
        return b'{"%b":[]}' % root
    return b'{"%b":[{"embedding":%b}]}' % (root, b'},{"embedding":'.join(rows))


def _rows(result: DenseEmbeddings) -> list[bytes]:
    try:
        return vectors_to_json(result.vectors)
    except ValueError as error:
        raise InternalError("a vector of the result cannot be written as JSON") from error


def _sparse(result: SparseEmbeddings) -> bytes:
    cut = frozenset(result.truncated)
    for item in result.items:
        _check_finite(item.values())
    items = [SparseItem(index in cut, dict(item)) for index, item in enumerate(result.items)]
    return msgspec.json.encode(SparseAnswer(items))


def _ranking(result: Ranking) -> bytes:
    _check_finite(document.relevance_score for document in result.documents)
    return msgspec.json.encode(RerankAnswer([_ranked(one) for one in result.documents]))


def _ranked(document: RankedDocument) -> RankedItem:
    return RankedItem(document.index, document.relevance_score, document.text)


def _chat(chunk: ChatChunk) -> ChatAnswer:
    return ChatAnswer(
        id=chunk.id,
        choices=[
            MessageChoice(
                index=one.index, message=_message(one.delta), finish_reason=one.finish_reason
            )
            for one in chunk.choices
        ],
        model=chunk.model,
        object="chat.completion",
        usage=usage_of(chunk.usage),
    )


def _message(delta: ChatDelta) -> ChatMessage:
    return ChatMessage(
        delta.role,
        delta.content,
        delta.refusal,
        delta.reasoning,
        delta.tool_calls,
        delta.reasoning_details,
    )


def _check_finite(numbers: Any) -> None:
    if not all(map(math.isfinite, numbers)):
        raise InternalError("a number of the result is not finite")
