"""The runner of an endpoint: what is wrapped around its call, as its settings and service say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferry.calls import Event
from inferry.core.runners.compose import compose, compose_probe, group_of, requests_per_minute
from inferry.core.runners.pending import PendingBytes, size_bytes
from inferry.core.runners.runner import Runners
from inferry.domain import Deadline, DenseEmbeddings, Endpoint, InferenceRequest, Receipt, TaskType
from inferry.errors import UnreadableReply
from inferry.service import HttpTask, Service
from tests.core.limiters import Permits
from tests.core.outbounds import DENSE, SERVICE, Replies

ENDPOINT = Endpoint("my-id", TaskType.TEXT_EMBEDDING, "small", {})


@pytest.fixture
def outbound() -> Replies:
    return Replies()


@pytest.fixture
def permits() -> Permits:
    return Permits()


@pytest.fixture
def composed(outbound, permits):
    def make(endpoint=ENDPOINT, task=None, service=SERVICE) -> Runners:
        task = task or service.tasks[endpoint.task_type]
        return compose(
            endpoint, service, task, outbound=outbound, limiter=permits, count=lambda *_: None
        )

    return make


def request_for(endpoint, *inputs: str) -> InferenceRequest:
    return InferenceRequest(endpoint, Deadline.after(30, "30s", "my-id"), inputs, receipt=Receipt())


async def test_every_call_takes_a_permit_of_its_group(composed, permits) -> None:
    runners = composed(task=replace(DENSE, max_batch=2))

    await runners.run(request_for(ENDPOINT, "a", "b", "c"))

    assert permits.asked == [("small:my-id", 3000)] * 2


async def test_an_endpoint_may_have_a_batch_of_its_own(composed, permits) -> None:
    runners = composed(task=replace(DENSE, max_batch=3, batch_of=lambda _: 1))

    await runners.run(request_for(ENDPOINT, "a", "b", "c"))

    assert len(permits.asked) == 3


async def test_the_longest_wait_of_a_request_is_noted(composed, permits) -> None:
    permits.waits_s = [2.0, 3.0, 1.0]
    request = request_for(ENDPOINT, "a", "b", "c")

    await composed(task=replace(DENSE, max_batch=1)).run(request)

    assert request.receipt == Receipt(queued_s=3.0)


async def test_a_stored_limit_wins_over_the_defaults(composed, permits) -> None:
    endpoint = replace(ENDPOINT, service_settings={"rate_limit": {"requests_per_minute": 7}})

    await composed(endpoint).run(request_for(endpoint, "a"))

    assert permits.asked == [("small:my-id", 7)]


async def test_without_any_limit_no_permit_is_asked_for(composed, permits) -> None:
    await composed(task=replace(DENSE, requests_per_minute=None)).run(request_for(ENDPOINT, "a"))

    assert permits.asked == []


def test_a_limit_comes_from_the_endpoint_the_task_or_the_service() -> None:
    service = replace(SERVICE, requests_per_minute=5)
    task = replace(DENSE, requests_per_minute=None)

    assert requests_per_minute(ENDPOINT, service, DENSE) == 3000
    assert requests_per_minute(ENDPOINT, service, task) == 5
    assert requests_per_minute(ENDPOINT, SERVICE, task) is None


def test_a_service_may_let_endpoints_share_a_group() -> None:
    service = replace(SERVICE, group=lambda _: "account-1")

    assert group_of(ENDPOINT, service) == "account-1"
    assert group_of(ENDPOINT, SERVICE) == "small:my-id"


async def test_all_parts_of_a_request_count_together_against_what_may_wait(
    outbound, permits
) -> None:
    pending = PendingBytes(1)
    held: list[int] = []
    runners = compose(
        ENDPOINT,
        SERVICE,
        replace(DENSE, max_batch=1),
        outbound=outbound,
        limiter=permits,
        count=lambda *_: held.append(pending.size_bytes),
        pending=pending,
    )

    await runners.run(request := request_for(ENDPOINT, "a", "b", "c"))

    assert held == [size_bytes(request)] * 3
    assert pending.size_bytes == 0


async def test_inputs_above_the_endpoints_maximum_are_cut(composed, outbound) -> None:
    endpoint = replace(ENDPOINT, service_settings={"max_input_tokens": 2})

    result = await composed(endpoint).run(request_for(endpoint, "short", "much too long"))

    assert outbound.sent()["inputs"] == ["short", "much t"]
    assert isinstance(result, DenseEmbeddings)
    assert result.truncated == (1,)


async def test_vectors_are_held_against_the_stored_dimensions(composed) -> None:
    endpoint = replace(ENDPOINT, service_settings={"dimensions": 5})

    with pytest.raises(UnreadableReply, match=r"\[2\] elements instead of the \[5\]"):
        await composed(endpoint).run(request_for(endpoint, "a"))


async def test_a_probe_takes_no_permit_and_finds_the_width_out(outbound) -> None:
    endpoint = replace(ENDPOINT, service_settings={"dimensions": 5})
    probe = compose_probe(endpoint, SERVICE, DENSE, outbound=outbound)

    result = await probe(request_for(endpoint, "how big"))

    assert isinstance(result, DenseEmbeddings)
    assert result.vectors[0].width == 2


def test_only_tasks_with_a_decoder_stream(composed) -> None:
    assert composed().stream is None
    assert composed(replace(ENDPOINT, task_type=TaskType.COMPLETION)).stream is not None


async def test_a_stream_takes_one_permit(outbound, permits) -> None:
    endpoint = replace(ENDPOINT, task_type=TaskType.COMPLETION)
    service: Service = replace(SERVICE, requests_per_minute=9)
    task = service.tasks[TaskType.COMPLETION]
    assert isinstance(task, HttpTask)
    outbound.events += [Event("a"), Event("b"), Event("end")]
    runners = compose(
        endpoint, service, task, outbound=outbound, limiter=permits, count=lambda *_: None
    )
    assert runners.stream is not None

    parts = [chunks async for chunks in runners.stream(request_for(endpoint, "hi"))]

    assert len(parts) == 2
    assert permits.asked == [("small:my-id", 9)]
