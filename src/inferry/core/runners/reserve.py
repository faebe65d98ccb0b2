"""Runs with the former secrets of an endpoint where a provider refuses the newer ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from inferry.core.runners.runner import Chunks, Run, Stream
from inferry.domain import InferenceRequest, Result
from inferry.errors import UpstreamError
from inferry.telemetry import get_logger

_REFUSALS = (401, 403)


@dataclass(frozen=True, slots=True)
class Reserve:
    """Until when the former secrets count. ends_at, now: seconds since the epoch."""

    inference_id: str
    ends_at: float
    now: Callable[[], float] = time.time

    def run(self, run: Run, former: Run) -> Run:
        """Give `run` with `former` behind it."""

        async def run_either(request: InferenceRequest) -> Result:
            try:
                return await run(request)
            except UpstreamError as error:
                if not self._helps(error):
                    raise
                refusal = error
            return await self._noted(former, request, refusal)

        return run_either

    def stream(self, stream: Stream, former: Stream) -> Stream:
        """Give `stream` with `former` behind it, for what is refused before the first chunks."""

        async def stream_either(request: InferenceRequest) -> Chunks:
            has_begun = False
            try:
                async with aclosing(stream(request)) as parts:
                    async for chunks in parts:
                        has_begun = True
                        yield chunks
                return
            except UpstreamError as error:
                if has_begun or not self._helps(error):
                    raise
            self._tell()
            async with aclosing(former(request)) as parts:
                async for chunks in parts:
                    yield chunks

        return stream_either

    async def _noted(
        self, former: Run, request: InferenceRequest, refusal: UpstreamError
    ) -> Result:
        """Run with the former secrets; when they are refused too, that of the newer ones counts."""
        try:
            result = await former(request)
        except UpstreamError as error:
            raise refusal if error.upstream_status in _REFUSALS else error from None
        self._tell()
        return result

    def _helps(self, error: UpstreamError) -> bool:
        return error.upstream_status in _REFUSALS and self.now() < self.ends_at

    def _tell(self) -> None:
        get_logger().warning(
            "the provider refuses the new secrets, the former ones were used",
            inference_id=self.inference_id,
        )
