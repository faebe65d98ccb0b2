"""Makes calls wait for a permit of their rate-limit group."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

from inferry.core.runners.runner import Chunks, Run, Stream
from inferry.domain import InferenceRequest, Result
from inferry.protocols import Limiter


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of one endpoint. group: endpoints of one account share it."""

    limiter: Limiter
    group: str
    requests_per_minute: float

    def run(self, run: Run) -> Run:
        """Give `run` with a permit taken before each call."""

        async def run_limited(request: InferenceRequest) -> Result:
            await self._wait(request)
            return await run(request)

        return run_limited

    def stream(self, stream: Stream) -> Stream:
        """Give `stream` with a permit taken before it is opened."""

        async def stream_limited(request: InferenceRequest) -> Chunks:
            await self._wait(request)
            async with aclosing(stream(request)) as parts:
                async for chunks in parts:
                    yield chunks

        return stream_limited

    async def _wait(self, request: InferenceRequest) -> None:
        waited_s = await self.limiter.acquire(
            self.group, self.requests_per_minute, deadline=request.deadline
        )
        receipt = request.receipt
        if receipt is not None and waited_s > receipt.queued_s:
            receipt.queued_s = waited_s  # parts of one request wait side by side
