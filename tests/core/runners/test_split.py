"""Large requests are cut into what a provider takes, and their answers joined in order."""

from __future__ import annotations

import asyncio

import pytest

from inferry.core.runners.split import split
from inferry.domain import (
    Completion,
    ContentItem,
    Deadline,
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    RankedDocument,
    Ranking,
    Result,
    SparseEmbeddings,
    TaskType,
    Usage,
)
from inferry.errors import InternalError, UpstreamError
from inferry.vectors import JsonVector, vectors_to_json


class Runner:
    """Gives results that tell which input they are for, and counts what runs at once."""

    def __init__(self, kind: str = "dense") -> None:
        self.batches: list[tuple[object, ...]] = []
        self.kind = kind
        self.running = self.most_running = 0

    async def run(self, request: InferenceRequest) -> Result:
        self.batches.append(request.inputs)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if "bad" in request.inputs:
            raise UpstreamError("bad input")
        return self._result(request)

    def _result(self, request: InferenceRequest) -> Result:
        usage = Usage(len(request.inputs), 1, cached_tokens=1)
        match self.kind:
            case "dense":
                texts = [str(one).encode() for one in request.inputs]
                vectors = tuple(JsonVector(text, len(text)) for text in texts)
                return DenseEmbeddings(vectors, usage=usage, truncated=(0,))
            case "sparse":
                return SparseEmbeddings(tuple({str(one): 1.0} for one in request.inputs))
            case "ranking":
                scored = enumerate(request.inputs)
                documents = (RankedDocument(n, float(str(one)), str(one)) for n, one in scored)
                return Ranking(tuple(documents), usage)
        return Completion(("text",))


def request_for(*inputs: object, task_type=TaskType.TEXT_EMBEDDING, **options) -> InferenceRequest:
    endpoint = Endpoint("e", task_type, "s", {})
    return InferenceRequest(endpoint, Deadline.after(30, "30s"), inputs, **options)  # type: ignore[arg-type]


async def test_without_limits_nothing_is_split() -> None:
    runner = Runner()

    assert split(runner.run, max_batch=None, max_tokens=None) == runner.run


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])]
)
async def test_no_call_has_more_inputs_than_allowed(count, sizes) -> None:
    runner = Runner()
    inputs = [f"text {n}" for n in range(count)]

    result = await split(runner.run, max_batch=3, max_tokens=None)(request_for(*inputs))

    assert [len(batch) for batch in runner.batches] == sizes
    assert isinstance(result, DenseEmbeddings)
    assert vectors_to_json(result.vectors) == [text.encode() for text in inputs]


async def test_a_request_without_inputs_is_one_call() -> None:
    runner = Runner()

    await split(runner.run, max_batch=3, max_tokens=None)(request_for())

    assert runner.batches == [()]


async def test_usage_is_added_up_and_truncation_keeps_its_place() -> None:
    result = await split(Runner().run, max_batch=2, max_tokens=None)(request_for(*"abcde"))

    assert isinstance(result, DenseEmbeddings)
    assert result.usage == Usage(5, 3, cached_tokens=3)
    assert result.truncated == (0, 2, 4)


async def test_no_call_has_more_tokens_than_allowed_unless_one_input_has() -> None:
    runner = Runner()
    inputs = ["x" * 27, "y" * 27, "z" * 3000, "a", "b"]

    await split(runner.run, max_batch=None, max_tokens=20)(request_for(*inputs))

    assert [len(batch) for batch in runner.batches] == [2, 1, 2]


async def test_both_limits_hold_together() -> None:
    runner = Runner()

    await split(runner.run, max_batch=2, max_tokens=20)(request_for(*"abcde"))

    assert [len(batch) for batch in runner.batches] == [2, 2, 1]


async def test_only_texts_count_as_tokens() -> None:
    runner = Runner()
    image = (ContentItem("image", "base64", "x" * 3000),)

    await split(runner.run, max_batch=None, max_tokens=20)(request_for(image, image))

    assert len(runner.batches) == 1


async def test_parts_run_side_by_side_but_not_all_at_once() -> None:
    runner = Runner()

    await split(runner.run, max_batch=1, max_tokens=None)(request_for(*map(str, range(40))))

    assert runner.most_running == 8


async def test_the_first_failure_is_the_requests() -> None:
    runner = Runner()

    with pytest.raises(UpstreamError, match="bad input"):
        await split(runner.run, max_batch=1, max_tokens=None)(request_for("a", "bad", "c"))

    assert runner.running == 0


async def test_sparse_results_are_joined_in_order() -> None:
    result = await split(Runner("sparse").run, max_batch=2, max_tokens=None)(request_for(*"abc"))

    assert result == SparseEmbeddings(({"a": 1.0}, {"b": 1.0}, {"c": 1.0}))


async def test_rankings_are_joined_by_score_and_cut_once_more() -> None:
    request = request_for(
        *["0.1", "0.9", "0.5", "0.7"], task_type=TaskType.RERANK, top_n=3, return_documents=True
    )

    result = await split(Runner("ranking").run, max_batch=2, max_tokens=None)(request)

    assert isinstance(result, Ranking)
    assert [(one.index, one.text) for one in result.documents] == [
        (1, "0.9"),
        (3, "0.7"),
        (2, "0.5"),
    ]


async def test_texts_cannot_be_joined() -> None:
    with pytest.raises(InternalError):
        await split(Runner("text").run, max_batch=1, max_tokens=None)(request_for("a", "b"))
