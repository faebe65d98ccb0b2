"""An OpenAI endpoint whose provider misbehaves: the words of each failure, end to end.

Real client, real service, a provider on loopback; only the clock does not wait.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from inferry.core.runners.compose import compose
from inferry.core.runners.runner import Runners
from inferry.domain import (
    Completion,
    Deadline,
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    Settings,
    TaskType,
)
from inferry.errors import DeadlineExceeded, UnreadableReply, UpstreamError, UpstreamUnreachable
from inferry.outbound.client import open_client
from inferry.sections import OutboundSection
from inferry.service import HttpTask
from inferry.services.openai import SERVICE
from inferry.vectors import vectors_to_json
from tests import providers as fake
from tests.clocks import FakeClock
from tests.core.limiters import Permits

pytestmark = pytest.mark.faults

SUBJECT = "for request from inference entity id [my-openai]"
SECRET = "sk-marker-1"


@dataclass
class Hosted:
    """A provider, and the runners of endpoints that it serves."""

    provider: fake.Provider
    runners: dict[TaskType, Runners]
    statuses: list[int | None]

    async def run(
        self, *inputs: str, task_type: TaskType = TaskType.TEXT_EMBEDDING, timeout_s: float = 30.0
    ) -> object:
        """Run a request."""
        return await self.runners[task_type].run(self._request(inputs, task_type, timeout_s))

    async def failure(self, *inputs: str, timeout_s: float = 30.0) -> Exception:
        """Run a request that must fail."""
        with pytest.raises(Exception) as caught:  # noqa: PT011  (the test says which)
            await self.run(*(inputs or ("a", "b")), timeout_s=timeout_s)
        assert SECRET not in str(caught.value)
        return caught.value

    async def stream(self, text: str) -> list[str]:
        """Stream a completion."""
        stream = self.runners[TaskType.COMPLETION].stream
        assert stream is not None
        request = self._request((text,), TaskType.COMPLETION, 30.0)
        return [
            choice.delta.content or ""
            async for chunks in stream(request)
            for chunk in chunks
            for choice in chunk.choices
        ]

    def _request(
        self, inputs: tuple[str, ...], task_type: TaskType, timeout_s: float
    ) -> InferenceRequest:
        deadline = Deadline.after(timeout_s, "30s", "my-openai")
        return InferenceRequest(self.runners[task_type].endpoint, deadline, inputs)


@pytest.fixture
async def hosted() -> AsyncIterator[Hosted]:
    statuses: list[int | None] = []
    section = OutboundSection(stream_idle_timeout_s=1.0)
    async with (
        fake.open_provider() as provider,
        open_client(section, allow_private_networks=True, clock=FakeClock()) as client,
    ):
        runners = {}
        for task_type, path in (
            (TaskType.TEXT_EMBEDDING, "/v1/embeddings"),
            (TaskType.COMPLETION, "/v1/chat/completions"),
        ):
            settings: Settings = {
                "model_id": "m",
                "url": provider.url + path,
                "dimensions": fake.WIDTH,
            }
            endpoint = Endpoint(
                "my-openai", task_type, "openai", settings, secrets={"api_key": SECRET}
            )
            task = SERVICE.tasks[task_type]
            assert isinstance(task, HttpTask)
            runners[task_type] = compose(
                endpoint,
                SERVICE,
                task,
                outbound=client,
                limiter=Permits(),
                count=lambda _, status: statuses.append(status),
            )
        yield Hosted(provider, runners, statuses)


async def test_vectors_come_back_in_the_order_of_the_inputs(hosted) -> None:
    result = await hosted.run("one", "two", "three")

    assert isinstance(result, DenseEmbeddings)
    expected = [fake.vector_of(text) for text in ("one", "two", "three")]
    assert [json.loads(row) for row in vectors_to_json(result.vectors)] == expected
    assert hosted.provider.requests[0].headers["authorization"] == f"Bearer {SECRET}"


async def test_more_inputs_than_one_call_takes_are_split_and_joined(hosted) -> None:
    texts = [f"text {n}" for n in range(2050)]

    result = await hosted.run(*texts)

    assert isinstance(result, DenseEmbeddings)
    assert sorted(len(one.json["input"]) for one in hosted.provider.requests) == [2, 2048]
    assert json.loads(vectors_to_json(result.vectors[-1:])[0]) == fake.vector_of("text 2049")


@pytest.mark.parametrize(
    ("status", "prefix", "attempts"),
    [
        (429, "Received a rate limit status code. Token limit [unknown], remaining tokens [7].", 3),
        (500, "Received a server error status code", 3),
        (503, "Received a server error status code", 3),
        (502, "Received a server error status code", 1),
        (401, "Received an authentication error status code", 1),
        (403, "Received an unsuccessful status code", 1),
        (400, "Received a bad request status code", 1),
        (422, "Received an input validation error response", 1),
        (418, "Received an unsuccessful status code", 1),
    ],
)
async def test_a_status_has_its_words_and_its_number_of_attempts(hosted, status, prefix, attempts):
    headers = {"X-RateLimit-Remaining-Tokens": "7"}
    hosted.provider.always(fake.refuse(status, f"wrong: {SECRET}", headers=headers))

    error = await hosted.failure()

    assert type(error) is UpstreamError
    assert str(error).startswith(prefix)
    assert str(error).endswith(f" {SUBJECT} status [{status}]. Error message: [wrong: ********]")
    assert error.upstream_status == status
    assert len(hosted.provider.requests) == attempts
    assert hosted.statuses == [status] * attempts


async def test_a_missing_resource_is_named_by_its_url(hosted) -> None:
    hosted.provider.always(fake.refuse(404))

    assert str(await hosted.failure()).startswith(
        f"Resource not found at [{hosted.provider.url}/v1/embeddings] {SUBJECT} status [404]"
    )


async def test_a_redirect_is_an_error_and_never_followed(hosted) -> None:
    hosted.provider.always(fake.redirect)

    assert str(await hosted.failure()) == f"Unhandled redirection {SUBJECT} status [302]"
    assert len(hosted.provider.requests) == 1


async def test_content_that_is_too_large_is_cut_and_sent_again(hosted) -> None:
    hosted.provider.then(fake.refuse(413))

    result = await hosted.run("x" * 100)

    assert isinstance(result, DenseEmbeddings)
    assert result.truncated == (0,)
    assert [one.json["input"] for one in hosted.provider.requests] == [["x" * 100], ["x" * 50]]


async def test_an_error_object_with_status_200_is_an_error_response(hosted) -> None:
    hosted.provider.always(fake.error_in_200)

    error = await hosted.failure()

    assert isinstance(error, UpstreamError)
    assert str(error).startswith(f"Received an error response {SUBJECT}")
    assert "Error message: [the model is gone]" in str(error)
    assert len(hosted.provider.requests) == 1


@pytest.mark.parametrize(
    ("fault", "attempts"), [(fake.half_json, 3), (fake.empty_body, 3), (fake.too_few, 1)]
)
async def test_an_answer_that_makes_no_sense_is_unreadable(hosted, fault, attempts) -> None:
    hosted.provider.always(fault)

    error = await hosted.failure()

    assert isinstance(error, UnreadableReply)
    assert len(hosted.provider.requests) == attempts


async def test_a_broken_connection_is_unreachable(hosted) -> None:
    hosted.provider.always(fake.reset)

    error = await hosted.failure()

    assert isinstance(error, UpstreamUnreachable)
    assert str(error).startswith("Failed to send request to [127.0.0.1:")
    assert hosted.statuses == [None]


async def test_a_provider_that_never_answers_runs_into_the_deadline(hosted) -> None:
    hosted.provider.always(fake.never_answer)

    error = await hosted.failure(timeout_s=0.5)

    assert isinstance(error, DeadlineExceeded)
    assert str(error) == "Request timed out after [30s] for inference id [my-openai]"


async def test_a_stream_says_what_the_whole_answer_says(hosted) -> None:
    whole = await hosted.run("hello there", task_type=TaskType.COMPLETION)
    assert isinstance(whole, Completion)
    hosted.provider.then(fake.dripped_stream)

    assert "".join(await hosted.stream("hello there")) == whole.texts[0]


async def test_an_error_within_a_stream_has_the_words_of_streams(hosted) -> None:
    hosted.provider.always(fake.error_in_stream)

    with pytest.raises(UpstreamError) as caught:
        await hosted.stream("hello")

    assert str(caught.value) == (
        f"Received an error response {SUBJECT}. Error message: [the model died]"
    )


@pytest.mark.parametrize("fault", [fake.cut_stream, fake.stalled_stream])
async def test_a_stream_that_breaks_ends_with_an_error_and_is_not_asked_for_again(hosted, fault):
    hosted.provider.always(fault)

    with pytest.raises(UpstreamUnreachable):
        await hosted.stream("hello")

    assert len(hosted.provider.requests) == 1
