"""Cuts inputs that are too long, by an estimate: a token is taken to be three characters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import msgspec

from inferry.domain import (
    ContentItem,
    DenseEmbeddings,
    InferenceRequest,
    Input,
    Result,
    SparseEmbeddings,
)

CHARACTERS_PER_TOKEN = 3

R = TypeVar("R", bound=Result)


def estimated_tokens(given: Input) -> int:
    """Estimate the tokens of an input; only texts count."""
    if isinstance(given, str):
        return len(given) // CHARACTERS_PER_TOKEN + 1
    return sum(len(item.value) // CHARACTERS_PER_TOKEN + 1 for item in given if _is_text(item))


def cut_to_tokens(
    request: InferenceRequest, max_tokens: int
) -> tuple[InferenceRequest, tuple[int, ...]]:
    """Cut every text to about `max_tokens`; gives also the indices of those that were cut."""
    limit = max_tokens * CHARACTERS_PER_TOKEN
    cut = tuple(index for index, one in enumerate(request.inputs) if _longest(one) > limit)
    if not cut:
        return request, cut
    return replace(request, inputs=tuple(_cut(one, limit) for one in request.inputs)), cut


def halve(request: InferenceRequest) -> InferenceRequest | None:
    """Cut every text in half; None where cutting makes no sense or nothing is left to cut."""
    if not request.endpoint.task_type.is_chunkable:
        return None
    if max((_longest(one) for one in request.inputs), default=0) < 2:
        return None
    return replace(
        request, inputs=tuple(_cut(one, max(_longest(one) // 2, 1)) for one in request.inputs)
    )


def mark_truncated(result: R, indices: Iterable[int]) -> R:
    """Note in `result` that the inputs at `indices` were cut."""
    if isinstance(result, DenseEmbeddings | SparseEmbeddings):
        truncated = tuple(sorted({*result.truncated, *indices}))
        return replace(result, truncated=truncated)
    return result


def _is_text(item: ContentItem) -> bool:
    return item.type == "text"


def _longest(given: Input) -> int:
    if isinstance(given, str):
        return len(given)
    return max((len(item.value) for item in given if _is_text(item)), default=0)


def _cut(given: Input, limit: int) -> Input:
    if isinstance(given, str):
        return given[:limit]
    return tuple(
        msgspec.structs.replace(item, value=item.value[:limit]) if _is_text(item) else item
        for item in given
    )
