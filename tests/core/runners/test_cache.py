"""The same text is computed once, and what is kept stays within its bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.core.runners.cache import EmbeddingCache, cached
from inferry.core.runners.runner import Run
from inferry.domain import (
    Deadline,
    DenseEmbeddings,
    ElementType,
    Endpoint,
    InferenceRequest,
    InputType,
    Result,
    SparseEmbeddings,
    TaskType,
    Usage,
)
from inferry.errors import UpstreamError
from inferry.records import DeploymentRecord, DeploymentSpec, Drop, Put
from inferry.vectors import FloatVector, JsonVector

ENDPOINT = Endpoint("a", TaskType.TEXT_EMBEDDING, "openai", {}, revision=7)


class Provider:
    """Embeds a text as its length, and remembers what it was asked."""

    def __init__(self, element_type: ElementType = ElementType.FLOAT) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.element_type = element_type

    async def run(self, request: InferenceRequest) -> Result:
        self.asked.append(request.inputs)
        if "bad" in request.inputs:
            raise UpstreamError("bad input")
        vectors = tuple(JsonVector(b"[%d]" % len(str(one)), 1) for one in request.inputs)
        cut = tuple(i for i, one in enumerate(request.inputs) if len(str(one)) > 5)
        return DenseEmbeddings(vectors, self.element_type, Usage(len(vectors)), cut)


def request_of(*texts: str, **more: object) -> InferenceRequest:
    request = InferenceRequest(ENDPOINT, Deadline.after(5, "5s"), texts)
    return replace(request, **more)  # type: ignore[arg-type]


def rows(result: Result) -> list[bytes]:
    assert isinstance(result, DenseEmbeddings)
    return [one.text for one in result.vectors if isinstance(one, JsonVector)]


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def run(provider: Provider) -> Run:
    return cached(provider.run, ENDPOINT, EmbeddingCache(1_000_000))


async def test_a_text_that_was_embedded_before_is_not_sent_again(
    run: Run, provider: Provider
) -> None:
    await run(request_of("a", "bb"))

    result = await run(request_of("bb", "ccc", "a"))

    assert rows(result) == [b"[2]", b"[3]", b"[1]"]
    assert provider.asked == [("a", "bb"), ("ccc",)]


async def test_usage_is_that_of_what_is_computed_now(run: Run) -> None:
    await run(request_of("a", "bb"))

    partly = await run(request_of("a", "ccc"))
    not_at_all = await run(request_of("a"))

    assert isinstance(partly, DenseEmbeddings)
    assert isinstance(not_at_all, DenseEmbeddings)
    assert partly.usage == Usage(1)
    assert not_at_all.usage == Usage(0)


async def test_the_same_text_twice_in_a_request_is_computed_once(
    run: Run, provider: Provider
) -> None:
    result = await run(request_of("a", "bb", "a"))

    assert rows(result) == [b"[1]", b"[2]", b"[1]"]
    assert provider.asked == [("a", "bb")]


async def test_what_was_cut_is_told_again(run: Run) -> None:
    await run(request_of("much too long"))

    result = await run(request_of("a", "much too long"))

    assert isinstance(result, DenseEmbeddings)
    assert result.truncated == (1,)


@pytest.mark.parametrize(
    "other",
    [
        {"input_type": InputType.SEARCH},
        {"task_settings": {"user": "u"}},
        {"extra": {"dimensions": 3}},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_what_reaches_the_computation_is_part_of_the_key(
    run: Run, provider: Provider, other: dict[str, object]
) -> None:
    await run(request_of("a"))

    await run(request_of("a", **other))

    assert provider.asked == [("a",), ("a",)]


async def test_a_new_revision_of_the_endpoint_starts_afresh(provider: Provider) -> None:
    cache = EmbeddingCache(1_000_000)
    await cached(provider.run, ENDPOINT, cache)(request_of("a"))

    await cached(provider.run, replace(ENDPOINT, revision=8), cache)(request_of("a"))

    assert provider.asked == [("a",), ("a",)]


def deployed(started_at_ms: int, clearings: int = 0) -> Put:
    spec = DeploymentSpec("d", "m", num_allocations=1, num_threads=1)
    return Put(DeploymentRecord(spec, started_at_ms=started_at_ms, clearings=clearings))


async def test_what_a_deployment_has_answered_is_kept(provider: Provider) -> None:
    cache = EmbeddingCache(1_000_000)
    run = cached(provider.run, ENDPOINT, cache, deployment_id="d")
    cache.apply([deployed(5)])
    await run(request_of("a"))

    cache.apply([deployed(5)])  # scaled, for one
    await run(request_of("a"))

    assert provider.asked == [("a",)]


@pytest.mark.parametrize("now", [deployed(5, clearings=1), deployed(6)])
async def test_a_deployment_that_was_cleared_or_started_anew_computes_again(provider, now):
    cache = EmbeddingCache(1_000_000)
    run = cached(provider.run, ENDPOINT, cache, deployment_id="d")
    cache.apply([deployed(5)])
    await run(request_of("a"))

    cache.apply([now])
    await run(request_of("a"))

    assert provider.asked == [("a",), ("a",)]


async def test_without_its_deployment_nothing_is_answered_from_what_is_kept(provider) -> None:
    cache = EmbeddingCache(1_000_000)
    run = cached(provider.run, ENDPOINT, cache, deployment_id="d")
    cache.apply([deployed(5)])
    await run(request_of("a"))

    cache.apply([Drop("deployment", "d")])
    await run(request_of("a"))
    await run(request_of("a"))

    assert provider.asked == [("a",)] * 3


async def test_a_failure_is_not_kept(run: Run, provider: Provider) -> None:
    with pytest.raises(UpstreamError):
        await run(request_of("bad", "a"))

    await run(request_of("a"))

    assert provider.asked == [("bad", "a"), ("a",)]


async def test_the_element_type_stays() -> None:
    run = cached(Provider(ElementType.BYTE).run, ENDPOINT, EmbeddingCache(1_000_000))
    await run(request_of("a"))

    result = await run(request_of("a"))

    assert isinstance(result, DenseEmbeddings)
    assert result.element_type is ElementType.BYTE


async def test_sparse_embeddings_are_kept_too() -> None:
    asked = []

    async def embed(request: InferenceRequest) -> Result:
        asked.append(request.inputs)
        return SparseEmbeddings(tuple({str(one): 1.0} for one in request.inputs))

    run = cached(embed, ENDPOINT, EmbeddingCache(1_000_000))
    await run(request_of("a", "b"))

    result = await run(request_of("b"))

    assert isinstance(result, SparseEmbeddings)
    assert result.items == ({"b": 1.0},)
    assert asked == [("a", "b")]


def test_what_was_not_used_for_longest_makes_room() -> None:
    cache = EmbeddingCache(3000)
    for key in (b"1", b"2"):
        cache.put(key, DenseEmbeddings((JsonVector(b"[" + b"1" * 600 + b"]", 1),)))
    cache.get(b"1")

    cache.put(b"3", DenseEmbeddings((JsonVector(b"[" + b"1" * 600 + b"]", 1),)))

    assert cache.get(b"2") is None
    assert cache.get(b"1") is not None
    assert 0 < cache.size_bytes <= 3000


async def test_a_row_does_not_hold_the_buffer_of_its_batch() -> None:
    async def embed(request: InferenceRequest) -> Result:
        buffer = memoryview(bytes(4 * len(request.inputs)))
        count = len(request.inputs)
        return DenseEmbeddings(
            tuple(FloatVector(buffer[4 * i : 4 * i + 4], 1) for i in range(count))
        )

    run = cached(embed, ENDPOINT, EmbeddingCache(1_000_000))
    result = await run(request_of("a", "b"))

    assert isinstance(result, DenseEmbeddings)
    assert all(isinstance(one, FloatVector) and type(one.buffer) is bytes for one in result.vectors)
