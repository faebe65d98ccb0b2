"""Requests that wait for providers hold a bounded part of the memory."""

from __future__ import annotations

import asyncio

import pytest

from inferry.core.runners.pending import PendingBytes, size_bytes
from inferry.core.runners.runner import Chunks
from inferry.domain import (
    Chat,
    ChatChunk,
    Completion,
    ContentItem,
    ContentPart,
    Deadline,
    Endpoint,
    InferenceRequest,
    Message,
    Result,
    TaskType,
)
from inferry.errors import QueueFull, UpstreamError

KILOBYTE = "x" * 1000


def request_for(*inputs: object, **options) -> InferenceRequest:
    endpoint = Endpoint("mine", TaskType.TEXT_EMBEDDING, "s", {})
    return InferenceRequest(endpoint, Deadline.after(30, "30s"), inputs, **options)  # type: ignore[arg-type]


class Provider:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Event()

    async def run(self, request: InferenceRequest) -> Result:
        self.asked.set()
        await self.may_answer.wait()
        if "bad" in request.inputs:
            raise UpstreamError("bad input")
        return Completion(("text",))

    async def stream(self, request: InferenceRequest) -> Chunks:
        yield [ChatChunk("1", [])]
        yield [ChatChunk("2", [])]


async def test_a_request_that_does_not_fit_is_refused_until_another_is_answered() -> None:
    provider, pending = Provider(), PendingBytes(1500)
    run = pending.run(provider.run)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run(request_for(KILOBYTE)))  # type: ignore[arg-type]
        await provider.asked.wait()

        with pytest.raises(QueueFull) as refused:
            await run(request_for(KILOBYTE))
        provider.may_answer.set()

    assert "inference id [mine]" in refused.value.message
    assert "may hold [1500]" in refused.value.message
    assert refused.value.retry_after_s == 1.0
    assert await run(request_for(KILOBYTE)) == Completion(("text",))


async def test_a_request_that_is_too_large_passes_alone() -> None:
    provider = Provider()
    provider.may_answer.set()

    assert await PendingBytes(10).run(provider.run)(request_for(KILOBYTE)) == Completion(("text",))


async def test_a_failure_gives_back_what_its_request_held() -> None:
    provider, pending = Provider(), PendingBytes(1500)
    provider.may_answer.set()

    with pytest.raises(UpstreamError):
        await pending.run(provider.run)(request_for("bad"))

    assert pending.size_bytes == 0


async def test_a_stream_is_counted_until_it_is_closed() -> None:
    pending = PendingBytes(1500)
    chunks = pending.stream(Provider().stream)(request_for(KILOBYTE))

    await anext(chunks)
    assert pending.size_bytes > 1000
    await chunks.aclose()

    assert pending.size_bytes == 0


@pytest.mark.parametrize(
    "request_",
    [
        request_for(KILOBYTE),
        request_for((ContentItem("image", "base64", KILOBYTE),)),
        request_for(query=KILOBYTE),
        request_for(chat=Chat([Message("user", KILOBYTE)])),
        request_for(chat=Chat([Message("user", [ContentPart("text", KILOBYTE)])])),
        request_for(chat=Chat([Message("user", [ContentPart("i", image_url={"url": KILOBYTE})])])),
        request_for(chat=Chat([Message("user", [ContentPart("f", file={"file_data": KILOBYTE})])])),
    ],
    ids=["text", "item", "query", "message", "part", "image", "file"],
)
def test_everything_large_in_a_request_is_counted(request_) -> None:
    assert 1000 <= size_bytes(request_) < 1300
