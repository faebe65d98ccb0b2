"""The middle: finds, settles, composes once, runs, streams and counts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from inferry.calls import Event
from inferry.commands import Command, FetchSecrets
from inferry.concurrency import Nursery
from inferry.core.inference import Ask, Inference, Timeouts
from inferry.core.runners.compose import compose, compose_local
from inferry.core.snapshot import Snapshot
from inferry.domain import Completion, DenseEmbeddings, InputType, TaskType
from inferry.errors import (
    BadRequest,
    DeadlineExceeded,
    InvalidSettings,
    NotFound,
    RegionDenied,
    StoreFailure,
    StreamingNotAllowed,
    UpstreamError,
)
from inferry.records import Drop, EndpointRecord, Put, RegionPolicyRecord
from inferry.telemetry import Metrics
from inferry.vectors import vectors_to_json
from tests.core.engines import ToldEngine
from tests.core.limiters import Permits
from tests.core.outbounds import LOCAL, SERVICE, Replies


@dataclass
class Secrets:
    """Answers `FetchSecrets` once `may_answer` is set."""

    asked: list[Command] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None

    async def submit(self, command: Command) -> Any:
        self.asked.append(command)
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return {"api_key": f"key-{len(self.asked)}"}


def record(inference_id: str, task_type: TaskType, *, revision: int = 1, service="small", **more):
    return EndpointRecord(
        inference_id=inference_id,
        task_type=task_type,
        service=service,
        service_settings=more.pop("service_settings", {}),
        task_settings=more.pop("task_settings", {}),
        chunking_settings=None,
        revision=revision,
        **more,
    )


@pytest.fixture
def snapshot() -> Snapshot:
    made = Snapshot(cores=2)
    made.apply(
        [
            Put(record("dense", TaskType.TEXT_EMBEDDING)),
            Put(record("texts", TaskType.COMPLETION)),
            Put(record("strange", TaskType.COMPLETION, service="unheard")),
            Put(record("chatty", TaskType.CHAT_COMPLETION)),
        ]
    )
    return made


@pytest.fixture
def outbound() -> Replies:
    return Replies()


@pytest.fixture
def secrets() -> Secrets:
    made = Secrets()
    made.may_answer.set()
    return made


@pytest.fixture
def permits() -> Permits:
    return Permits()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def engine() -> ToldEngine:
    return ToldEngine()


@pytest.fixture
async def inference(  # noqa: PLR0917  fixtures, by name
    snapshot, outbound, secrets, permits, metrics, engine
):
    async with Nursery() as nursery:
        yield Inference(
            snapshot,
            {"small": SERVICE, "elasticsearch": LOCAL},
            compose=partial(
                compose, outbound=outbound, limiter=permits, count=metrics.count_upstream
            ),
            compose_local=partial(compose_local, engine=engine, start=engine.start),
            writer=secrets,
            metrics=metrics,
            timeouts=Timeouts(),
            nursery=nursery,
        )


DENSE = TaskType.TEXT_EMBEDDING


# --- finding -----------------------------------------------------------------------------------


async def test_an_unknown_endpoint_is_not_found(inference) -> None:
    with pytest.raises(NotFound, match=r"^Inference endpoint not found \[nope\]$"):
        await inference.run("nope", DENSE, Ask(inputs=("a",)))


def test_another_task_type_than_the_endpoints_is_refused(inference) -> None:
    with pytest.raises(BadRequest) as caught:
        inference.find("dense", TaskType.RERANK)

    assert str(caught.value) == (
        "Incompatible task_type, the requested type [rerank] does not match the model type "
        "[text_embedding]"
    )


def test_chat_with_an_endpoint_of_another_type_has_words_of_its_own(inference) -> None:
    with pytest.raises(BadRequest) as caught:
        inference.find("texts", TaskType.CHAT_COMPLETION)

    assert str(caught.value) == (
        "Incompatible task_type for unified API, the requested type [completion] must be one of "
        "[chat_completion]"
    )


@pytest.mark.parametrize("asked", [None, DENSE])
def test_an_endpoint_is_found_by_its_own_type_or_without_any(inference, asked) -> None:
    assert inference.find("dense", asked).inference_id == "dense"


async def test_an_endpoint_of_a_service_that_is_not_here_cannot_run(inference) -> None:
    with pytest.raises(BadRequest, match=r"Unknown service \[unheard\]"):
        await inference.run("strange", None, Ask(inputs=("a",)))


async def test_a_task_that_the_service_does_not_have_cannot_run(inference) -> None:
    with pytest.raises(BadRequest, match=r"\[small\] service does not support task type \[chat"):
        await inference.run("chatty", None, Ask(inputs=("a",)))


# --- running -----------------------------------------------------------------------------------


async def test_a_request_runs_with_the_secrets_of_its_endpoint(
    inference, outbound, secrets
) -> None:
    result = await inference.run("dense", DENSE, Ask(inputs=("a", "bb")))

    assert isinstance(result, DenseEmbeddings)
    assert vectors_to_json(result.vectors) == [b"[1,0]", b"[2,0]"]
    assert secrets.asked == [FetchSecrets("dense", 1)]
    assert outbound.exchanges[0].endpoint.secrets == {"api_key": "key-1"}


async def test_secrets_are_fetched_once_per_revision(
    inference, snapshot, outbound, secrets
) -> None:
    for _ in range(3):
        await inference.run("dense", DENSE, Ask(inputs=("a",)))
    snapshot.apply([Put(record("dense", DENSE, revision=2))])
    for _ in range(2):
        await inference.run("dense", DENSE, Ask(inputs=("a",)))

    assert secrets.asked == [FetchSecrets("dense", 1), FetchSecrets("dense", 2)]
    assert outbound.exchanges[-1].endpoint.secrets == {"api_key": "key-2"}


async def test_first_uses_at_once_share_one_fetch(inference, secrets) -> None:
    secrets.may_answer.clear()
    calls = [
        asyncio.ensure_future(inference.run("dense", DENSE, Ask(inputs=("a",)))) for _ in range(5)
    ]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.sleep(0)
    secrets.may_answer.set()

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(result) for result in results] == [asyncio.CancelledError] + [DenseEmbeddings] * 4
    assert len(secrets.asked) == 1


async def test_a_failed_fetch_is_tried_again_by_the_next_request(inference, secrets) -> None:
    secrets.failure = StoreFailure("out of reach")
    with pytest.raises(StoreFailure):
        await inference.run("dense", DENSE, Ask(inputs=("a",)))
    secrets.failure = None

    await inference.run("dense", DENSE, Ask(inputs=("a",)))

    assert len(secrets.asked) == 2


async def test_an_endpoint_that_was_deleted_meanwhile_is_not_found(inference, snapshot) -> None:
    await inference.run("dense", DENSE, Ask(inputs=("a",)))
    snapshot.apply([Drop("endpoint", "dense")])

    with pytest.raises(NotFound):
        await inference.run("dense", DENSE, Ask(inputs=("a",)))


async def test_waiting_for_secrets_counts_against_the_deadline(inference, secrets) -> None:
    secrets.may_answer.clear()

    with pytest.raises(DeadlineExceeded) as caught:
        await inference.run("dense", DENSE, Ask(inputs=("a",), timeout=(0.02, "20ms")))

    assert str(caught.value) == "Request timed out after [20ms] for inference id [dense]"


@pytest.mark.parametrize(
    ("inference_id", "timeout", "limit"),
    [
        ("dense", None, (30, "30s")),
        ("texts", None, (120, "2m")),
        ("texts", (7.0, "7s"), (7, "7s")),
    ],
)
async def test_a_request_has_its_own_time_limit_or_that_of_its_task(
    inference, outbound, inference_id, timeout, limit
) -> None:
    await inference.run(inference_id, None, Ask(inputs=("a",), timeout=timeout))

    deadline = outbound.exchanges[0].deadline
    assert deadline.timeout == limit[1]
    assert deadline.inference_id == inference_id
    assert deadline.left_s() == pytest.approx(limit[0], abs=2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500ms"), (1.5, "1.5s"), (90, "90s"), (60, "1m"), (7200, "2h")]
)
def test_a_default_limit_is_written_as_the_wire_does(seconds, text) -> None:
    assert Timeouts(default_s=seconds).of(TaskType.RERANK) == (seconds, text)


async def test_request_settings_are_checked_before_the_call(inference, outbound) -> None:
    with pytest.raises(InvalidSettings):
        await inference.run("dense", DENSE, Ask(inputs=("a",), task_settings={"depth": 0}))

    assert outbound.exchanges == []


async def test_the_region_policy_holds_for_running(inference, snapshot, outbound) -> None:
    settings = {"region": "us-east-1"}
    snapshot.apply(
        [
            Put(record("far", DENSE, service="amazonbedrock", service_settings=settings)),
            Put(RegionPolicyRecord({"allowed_geos": ["eu"]}, created_at_ms=0)),
        ]
    )

    with pytest.raises(RegionDenied, match="us-east-1"):
        await inference.run("far", DENSE, Ask(inputs=("a",)))

    assert outbound.exchanges == []


async def test_a_local_model_runs_without_secrets(inference, engine, secrets) -> None:
    result = await inference.run(".minilm-l6-v2", DENSE, Ask(inputs=("abc",)))

    assert isinstance(result, DenseEmbeddings)
    assert vectors_to_json(result.vectors) == [b"[3.0]"]
    assert engine.asked == [(".minilm-l6-v2", ("abc",), InputType.UNSPECIFIED)]
    assert secrets.asked == []


# --- streaming ---------------------------------------------------------------------------------


async def texts_of(inference, inference_id="texts", **asked) -> list[str | None]:
    ask = Ask(**{"inputs": ("hi",), **asked})
    async with aclosing(inference.stream(inference_id, None, ask)) as chunks:
        return [one.choices[0].delta.content async for together in chunks for one in together]


async def test_a_stream_gives_its_chunks(inference, outbound) -> None:
    outbound.events += [Event("a"), Event("b"), Event("end")]

    assert await texts_of(inference) == ["a", "b"]
    assert outbound.open_streams == 0


async def test_a_task_without_a_stream_names_those_that_have_one(inference) -> None:
    with pytest.raises(StreamingNotAllowed) as caught:
        await texts_of(inference, "dense")

    assert str(caught.value) == (
        "Streaming is not allowed for service [small] and task [text_embedding]. "
        "Supported tasks: [completion]"
    )


async def test_a_service_that_streams_nothing_says_only_that(inference) -> None:
    with pytest.raises(StreamingNotAllowed) as caught:
        await texts_of(inference, ".elser-2-elasticsearch")

    assert str(caught.value) == "Streaming is not allowed for service [elasticsearch]."


async def test_errors_come_with_the_first_chunk_and_not_before(inference) -> None:
    chunks = inference.stream("nope", None, Ask(inputs=("hi",)))

    with pytest.raises(NotFound):
        await anext(chunks)


async def test_closing_a_stream_hangs_up_on_the_provider(inference, outbound) -> None:
    outbound.events += [Event("a"), Event("b")]
    chunks = inference.stream("texts", None, Ask(inputs=("hi",)))
    await anext(chunks)
    assert outbound.open_streams == 1

    await chunks.aclose()

    assert outbound.open_streams == 0


async def test_a_stream_of_a_completion_takes_one_input_too(inference) -> None:
    with pytest.raises(BadRequest, match="only accepts 1 input"):
        await texts_of(inference, inputs=("a", "b"))


# --- metrics -----------------------------------------------------------------------------------


async def lines_of(metrics: Metrics, name: str) -> list[str]:
    text = (await metrics.render()).decode()
    return [line for line in text.splitlines() if line.startswith(name)]


async def test_a_good_request_is_counted_with_its_stages_and_tokens(
    inference, metrics, permits
) -> None:
    permits.waits_s = [0.25]

    await inference.run("dense", DENSE, Ask(inputs=("a", "b"), dialect="openai"))

    labels = 'endpoint="dense",'
    assert await lines_of(metrics, "inferry_requests_total") == [
        f'inferry_requests_total{{dialect="openai",{labels}outcome="success",'
        'task_type="text_embedding"} 1.0'
    ]
    stages = await lines_of(metrics, "inferry_endpoint_stage_seconds_total")
    assert {line.split('stage="')[1].split('"')[0] for line in stages} == {
        "queue",
        "total",
        "upstream",
    }
    assert "2.0" in (await lines_of(metrics, "inferry_tokens_total"))[0]
    assert await lines_of(metrics, "inferry_upstream_responses_total") == [
        'inferry_upstream_responses_total{service="small",status="200"} 1.0'
    ]


async def test_a_failed_request_is_counted_by_its_outcome(inference, metrics, outbound) -> None:
    outbound.replies.append(UpstreamError("no"))
    with pytest.raises(UpstreamError):
        await inference.run("dense", DENSE, Ask(inputs=("a",)))

    (line,) = await lines_of(metrics, "inferry_requests_total")
    assert 'outcome="upstream_error"' in line


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([Event("a"), Event("end")], "success"),
        ([Event("a"), UpstreamError("broken")], "upstream_error"),
        ([Event("a"), Event("b")], "cancelled"),
    ],
)
async def test_a_stream_is_counted_when_it_ends(inference, metrics, outbound, events, outcome):
    outbound.events += events
    chunks = inference.stream("texts", None, Ask(inputs=("hi",)))
    await anext(chunks)

    if outcome == "cancelled":
        await chunks.aclose()
    elif outcome == "success":
        assert [chunk async for chunk in chunks] == []
    else:
        with pytest.raises(UpstreamError):
            await anext(chunks)

    (line,) = await lines_of(metrics, "inferry_requests_total")
    assert f'outcome="{outcome}"' in line


async def test_a_completion_runs_whole_too(inference) -> None:
    result = await inference.run("texts", TaskType.COMPLETION, Ask(inputs=("abc",)))

    assert isinstance(result, Completion)
    assert result.texts == ("3",)
