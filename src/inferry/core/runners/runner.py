"""What a runner is: a function from a request to its result, or to the chunks of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from inferry.domain import ChatChunk, Endpoint, InferenceRequest, Result
from inferry.service import Service, Task

Run: TypeAlias = Callable[[InferenceRequest], Awaitable[Result]]
Chunks: TypeAlias = AsyncGenerator[list[ChatChunk]]
"""A stream: each item is what came together, never empty. Close it to hang up on the provider."""
Stream: TypeAlias = Callable[[InferenceRequest], Chunks]


@dataclass(frozen=True, slots=True)
class Runners:
    """How one revision of an endpoint is run; `stream` is None where the task does not stream.

    endpoint: with its secrets, for the requests that are handed to `run` and `stream`.
    """

    endpoint: Endpoint
    service: Service
    task: Task
    run: Run
    stream: Stream | None
