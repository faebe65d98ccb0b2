"""An engine that does as it is told, and what starts its models."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Mapping, Sequence

from inferry.domain import Deadline, DenseEmbeddings, InputType, Json, LocalResult, Usage
from inferry.vectors import FloatVector


class ToldEngine:
    """Embeds a text as its length. fails: raised by the next calls, in this order.

    result: given instead of vectors.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...], InputType]] = []
        self.queries: list[str | None] = []
        self.configs: list[Mapping[str, Json] | None] = []
        self.fails: list[Exception] = []
        self.result: LocalResult | None = None
        self.started: list[str] = []
        self.start_fails: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def infer(
        self,
        deployment_id: str,
        texts: Sequence[str],
        *,
        query: str | None = None,
        config: Mapping[str, Json] | None = None,
        input_type: InputType,
        deadline: Deadline,
    ) -> LocalResult:
        await asyncio.sleep(0)
        self.queries.append(query)
        self.configs.append(config)
        self.asked.append((deployment_id, tuple(texts), input_type))
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise self.fails.pop(0)
        if self.result is not None:
            return self.result
        vectors = tuple(FloatVector(array("f", [len(text)]).tobytes(), 1) for text in texts)
        return DenseEmbeddings(vectors, usage=Usage(input_tokens=7), truncated=(1,))

    async def start(self, inference_id: str) -> None:
        """Start the model of an endpoint."""
        await asyncio.sleep(0)
        self.started.append(inference_id)
        if self.start_fails is not None:
            raise self.start_fails
