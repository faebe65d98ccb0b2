"""Completions by way of a chat: a stream of chunks, cut down to its text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec

from inferry.calls import Event
from inferry.domain import ChatChunk, InferenceRequest
from inferry.service import Reduce

Decode: TypeAlias = Callable[[InferenceRequest], Reduce]


def text_only(decode_chat: Decode) -> Decode:
    """Give the decoder of a completion: chunks with text, and those with the usage."""

    def decode(request: InferenceRequest) -> Reduce:
        reduce_chat = decode_chat(request)

        def reduce(event: Event) -> Iterator[ChatChunk] | None:
            chunks = reduce_chat(event)
            return None if chunks is None else _with_text(chunks)

        return reduce

    return decode


def _with_text(chunks: Iterable[ChatChunk]) -> Iterator[ChatChunk]:
    for chunk in chunks:
        choices = [choice for choice in chunk.choices if choice.delta.content]
        if choices or chunk.usage is not None:
            yield msgspec.structs.replace(chunk, choices=choices)
