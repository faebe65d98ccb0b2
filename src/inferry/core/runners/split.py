"""Splits a request that is larger than its provider takes, and joins the answers in order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

from inferry.concurrency import run_all
from inferry.core.runners.checks import order_ranking
from inferry.core.runners.runner import Run
from inferry.core.runners.truncate import estimated_tokens
from inferry.domain import (
    DenseEmbeddings,
    InferenceRequest,
    RankedDocument,
    Ranking,
    Result,
    SparseEmbeddings,
    Usage,
)
from inferry.errors import InternalError

_MAX_AT_ONCE = 8


def split(run: Run, *, max_batch: int | None, max_tokens: int | None) -> Run:
    """Give a runner that keeps every call within `max_batch` inputs and `max_tokens` tokens.

    An input above `max_tokens` goes alone. Up to eight parts are under way at once; the first
    failure cancels the others.
    """
    if max_batch is None and max_tokens is None:
        return run
    max_batch = sys.maxsize if max_batch is None else max_batch

    async def run_split(request: InferenceRequest) -> Result:
        starts = _starts(request, max_batch, max_tokens)
        if len(starts) <= 1:
            return await run(request)
        ends = [*starts[1:], len(request.inputs)]
        gate = asyncio.Semaphore(_MAX_AT_ONCE)

        async def run_part(start: int, end: int) -> Result:
            async with gate:
                return await run(replace(request, inputs=request.inputs[start:end]))

        parts = zip(starts, ends, strict=True)
        results = await run_all([run_part(start, end) for start, end in parts])
        return join(results, starts, request)

    return run_split


def _starts(request: InferenceRequest, max_batch: int, max_tokens: int | None) -> list[int]:
    """Give the index of each part's first input."""
    inputs = request.inputs
    if max_tokens is None:
        return list(range(0, len(inputs), max_batch))
    starts: list[int] = []
    count = tokens = 0
    for index, one in enumerate(inputs):
        size = estimated_tokens(one)
        if not starts or count == max_batch or tokens + size > max_tokens:
            starts.append(index)
            count = tokens = 0
        count += 1
        tokens += size
    return starts


def join(results: Sequence[Result], starts: Sequence[int], request: InferenceRequest) -> Result:
    """Put together what the parts of `request` gave; `starts`: index of their first inputs."""
    usage = _sum_usage(results)
    truncated = tuple(
        start + index
        for start, one in zip(starts, results, strict=True)
        for index in getattr(one, "truncated", ())
    )
    dense = [one for one in results if isinstance(one, DenseEmbeddings)]
    sparse = [one for one in results if isinstance(one, SparseEmbeddings)]
    rankings = [one for one in results if isinstance(one, Ranking)]
    if len(dense) == len(results):
        vectors = tuple(vector for one in dense for vector in one.vectors)
        return DenseEmbeddings(vectors, dense[0].element_type, usage, truncated)
    if len(sparse) == len(results):
        return SparseEmbeddings(
            tuple(item for one in sparse for item in one.items), usage, truncated
        )
    if len(rankings) == len(results):
        documents = tuple(
            RankedDocument(start + document.index, document.relevance_score, document.text)
            for start, one in zip(starts, rankings, strict=True)
            for document in one.documents
        )
        return order_ranking(Ranking(documents, usage, truncated), request)
    raise InternalError("Parts of one request gave results that cannot be joined")


def _sum_usage(results: Sequence[Result]) -> Usage | None:
    counted = [one.usage for one in results if one.usage is not None]
    if not counted:
        return None
    cached = [one.cached_tokens for one in counted if one.cached_tokens is not None]
    reasoning = [one.reasoning_tokens for one in counted if one.reasoning_tokens is not None]
    return Usage(
        input_tokens=sum(one.input_tokens for one in counted),
        output_tokens=sum(one.output_tokens for one in counted),
        cached_tokens=sum(cached) if cached else None,
        reasoning_tokens=sum(reasoning) if reasoning else None,
        estimated=any(one.estimated for one in counted),
    )
