"""The core of a local runner: what is started, sent again, and told."""

from __future__ import annotations

import asyncio

import pytest

from inferry.core.runners.compose import compose_local
from inferry.core.runners.runner import Run
from inferry.domain import (
    ContentItem,
    Deadline,
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    InputType,
    RankedDocument,
    Ranking,
    TaskType,
    Usage,
)
from inferry.errors import (
    BadRequest,
    DeadlineExceeded,
    InvalidRequest,
    NotDeployed,
    NotFound,
    QueueFull,
    WorkerLost,
)
from inferry.services.elasticsearch import SERVICE
from inferry.vectors import vectors_to_json
from tests.core.engines import ToldEngine
from tests.core.outbounds import LOCAL

LOST, ABSENT = WorkerLost("lost"), NotDeployed("absent")


@pytest.fixture
def engine() -> ToldEngine:
    return ToldEngine()


def endpoint(**settings) -> Endpoint:
    return Endpoint("e", TaskType.TEXT_EMBEDDING, "elasticsearch", settings)


def runner(engine: ToldEngine, **settings) -> Run:
    task = LOCAL.tasks[TaskType.TEXT_EMBEDDING]
    return compose_local(
        endpoint(**settings),
        LOCAL,
        task,  # type: ignore[arg-type]
        engine=engine,
        start=engine.start,
    ).run


def request(*inputs, timeout_s: float = 60) -> InferenceRequest:
    return InferenceRequest(
        endpoint(),
        Deadline.after(timeout_s, "60s", "e"),
        inputs or ("a", "bb"),
        input_type=InputType.SEARCH,
    )


async def test_texts_go_to_the_deployment_of_the_endpoint(engine) -> None:
    result = await runner(engine)(request())

    assert isinstance(result, DenseEmbeddings)
    assert vectors_to_json(result.vectors) == [b"[1.0]", b"[2.0]"]
    assert (result.truncated, result.usage) == ((1,), Usage(input_tokens=7))
    assert engine.asked == [("e", ("a", "bb"), InputType.SEARCH)]


async def test_an_attached_endpoint_uses_the_deployment_that_it_names(engine) -> None:
    await runner(engine, deployment_id="other")(request())

    assert [asked[0] for asked in engine.asked] == ["other"]


async def test_a_model_that_does_not_run_is_started_and_asked_again(engine) -> None:
    engine.fails = [ABSENT]

    await runner(engine)(request())

    assert engine.started == ["e"]
    assert len(engine.asked) == 2


async def test_a_model_that_cannot_start_fails_the_request_with_its_reason(engine) -> None:
    engine.fails, engine.start_fails = [ABSENT], NotFound("no such model")

    with pytest.raises(NotFound, match="no such model"):
        await runner(engine)(request())


async def test_work_that_was_lost_is_sent_once_more(engine) -> None:
    engine.fails = [LOST]

    await runner(engine)(request())

    assert len(engine.asked) == 2
    assert engine.started == []


async def test_work_that_is_lost_twice_fails(engine) -> None:
    engine.fails = [LOST, ABSENT, LOST]

    with pytest.raises(WorkerLost) as caught:
        await runner(engine)(request())

    assert str(caught.value) == (
        "The worker of the deployment [e] ended while it ran the request, and so did its successor"
    )
    assert engine.fails == []


async def test_a_full_queue_is_told_at_once(engine) -> None:
    engine.fails = [QueueFull("full")]

    with pytest.raises(QueueFull):
        await runner(engine)(request())

    assert len(engine.asked) == 1


async def test_the_deadline_covers_everything(engine) -> None:
    engine.gate = asyncio.Event()

    with pytest.raises(DeadlineExceeded, match=r"timed out after \[60s\] for inference id \[e\]"):
        await runner(engine)(request(timeout_s=0.01))


async def test_only_texts_are_taken(engine) -> None:
    image = (ContentItem("image", "base64", "aGk="),)

    with pytest.raises(InvalidRequest, match="texts only"):
        await runner(engine)(request("a", image))

    assert engine.asked == []


# --- other tasks and element types ---------------------------------------------------------------


def rerank_request(*documents, **more) -> InferenceRequest:
    ranked = Endpoint("e", TaskType.RERANK, "elasticsearch", {})
    return InferenceRequest(ranked, Deadline.after(60, "60s", "e"), documents, **more)


def rerank_runner(engine: ToldEngine) -> Run:
    ranked = Endpoint("e", TaskType.RERANK, "elasticsearch", {})
    task = SERVICE.tasks[TaskType.RERANK]
    return compose_local(
        ranked,
        LOCAL,
        task,  # type: ignore[arg-type]
        engine=engine,
        start=engine.start,
    ).run


async def test_documents_are_ranked_by_the_query(engine) -> None:
    scores = (0.5, -2.0, 3.25)
    ranked = tuple(RankedDocument(index, score) for index, score in enumerate(scores))
    engine.result = Ranking(ranked, Usage(input_tokens=9))
    request = rerank_request("a", "b", "c", query="q", top_n=2, return_documents=True)

    result = await rerank_runner(engine)(request)

    assert engine.queries == ["q"]
    assert isinstance(result, Ranking)
    assert result.documents == (RankedDocument(2, 3.25, "c"), RankedDocument(0, 0.5, "a"))


async def test_only_texts_are_ranked_by(engine) -> None:
    image = (ContentItem("image", "base64", "aGk="),)

    with pytest.raises(InvalidRequest, match="texts only"):
        await rerank_runner(engine)(rerank_request("a", query=image))


async def test_a_model_of_another_task_is_told(engine) -> None:
    with pytest.raises(BadRequest) as caught:
        await rerank_runner(engine)(rerank_request("a", query="q"))

    assert str(caught.value) == (
        "The model that runs the inference endpoint [e] does not match its task type [rerank]"
    )


@pytest.mark.parametrize(
    ("element_type", "expected"), [("byte", [b"[127]", b"[127]"]), ("float", [b"[1.0]", b"[2.0]"])]
)
async def test_vectors_have_the_element_type_of_the_endpoint(
    engine, element_type, expected
) -> None:
    result = await runner(engine, element_type=element_type)(request())

    assert isinstance(result, DenseEmbeddings)
    assert result.element_type == element_type
    assert vectors_to_json(result.vectors) == expected
