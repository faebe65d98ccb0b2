"""Runs a service the way the server does, against a provider on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from inferry.core.runners.compose import compose
from inferry.core.runners.runner import Runners
from inferry.domain import ChatChunk, Deadline, InferenceRequest, TaskType
from inferry.outbound.client import open_client
from inferry.sections import OutboundSection
from inferry.service import HttpTask, Service
from tests.clocks import FakeClock


class NoLimit:
    """A limiter that lets everything through at once."""

    async def acquire(self, group: str, requests_per_minute: float, *, deadline: Deadline) -> float:
        """Give the permit."""
        return 0.0


@asynccontextmanager
async def running(
    service: Service,
    request: InferenceRequest,
    *,
    task: HttpTask | None = None,
    clock: FakeClock | None = None,
) -> AsyncIterator[Runners]:
    """Give the runners of the endpoint of `request`. task: in place of the service's own."""
    if task is None:
        declared = service.tasks[TaskType(request.endpoint.task_type)]
        assert isinstance(declared, HttpTask)
        task = declared
    async with open_client(OutboundSection(), allow_private_networks=True, clock=clock) as client:
        yield compose(
            request.endpoint,
            service,
            task,
            outbound=client,
            limiter=NoLimit(),
            count=lambda *_: None,
        )


async def stream_of(runners: Runners, request: InferenceRequest) -> list[ChatChunk]:
    """Give every chunk of a stream."""
    assert runners.stream is not None
    return [chunk async for chunks in runners.stream(request) for chunk in chunks]
