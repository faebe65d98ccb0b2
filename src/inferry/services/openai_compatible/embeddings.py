"""OpenAI's embeddings on the wire, which many providers speak.

Source: the public OpenAPI description of the API. The reader takes numbers and base64, whatever was
asked for.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inferry.calls import HttpReply
from inferry.domain import DenseEmbeddings, InferenceRequest, Usage
from inferry.services.openai_compatible.replies import decode_reply, missing_field
from inferry.services.reading import unreadable_vectors
from inferry.vectors import Vector, vector_from_base64, vector_from_json


class EmbeddingsBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an embeddings call; None is left out."""

    input: list[str]
    model: str | None = None
    user: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None


class _Row(msgspec.Struct, frozen=True, gc=False):
    embedding: msgspec.Raw
    index: int | None = None


class _EmbeddingUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _EmbeddingsReply(msgspec.Struct, frozen=True):
    data: list[_Row] | None = None
    usage: _EmbeddingUsage | None = None
    error: Any = None


_EMBEDDINGS = msgspec.json.Decoder(_EmbeddingsReply)


def parse_embeddings(reply: HttpReply, request: InferenceRequest) -> DenseEmbeddings:
    """Read an embeddings reply, rows in the order of their `index`, numbers or base64."""
    parsed = decode_reply(_EMBEDDINGS, reply, request)
    if parsed.data is None:
        raise missing_field("data", "embeddings", reply)
    with unreadable_vectors(reply, request):
        vectors = tuple(_vector(row.embedding) for row in _in_order(parsed.data))
    usage = parsed.usage
    if usage is None:
        return DenseEmbeddings(vectors)
    tokens = usage.prompt_tokens if usage.prompt_tokens is not None else usage.total_tokens
    return DenseEmbeddings(vectors, usage=None if tokens is None else Usage(input_tokens=tokens))


def _in_order(rows: list[_Row]) -> list[_Row]:
    places = [row.index for row in rows]
    if None in places or places == list(range(len(rows))):
        return rows
    ordered: dict[int | None, _Row] = dict(zip(places, rows, strict=True))
    try:
        return [ordered[place] for place in range(len(rows))]
    except KeyError as error:
        raise ValueError(f"no row has index {error}") from error


def _vector(raw: msgspec.Raw) -> Vector:
    row = bytes(raw)
    if not row.startswith(b'"'):
        return vector_from_json(row)
    if b"\\" in row:  # some serializers escape the slash, which is a letter of base64
        return vector_from_base64(msgspec.json.decode(row, type=str))
    return vector_from_base64(row[1:-1])
