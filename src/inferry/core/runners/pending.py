"""Bounds what requests hold in memory that wait for a provider or for its answer."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import Any

from inferry.core.runners.runner import Chunks, Run, Stream
from inferry.domain import InferenceRequest, Input, Message, Result
from inferry.errors import QueueFull

_RETRY_AFTER_S = 1.0


class PendingBytes:
    """The bytes of all requests that are under way in a process; one for all its endpoints.

    A request above `max_bytes` passes while no other is there: refused, it would be so for ever.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.size_bytes = 0

    def run(self, run: Run) -> Run:
        """Give `run` with its request counted until it is answered."""

        async def run_counted(request: InferenceRequest) -> Result:
            size = self._take(request)
            try:
                return await run(request)
            finally:
                self.size_bytes -= size

        return run_counted

    def stream(self, stream: Stream) -> Stream:
        """Give `stream` with its request counted until it ends."""

        async def stream_counted(request: InferenceRequest) -> Chunks:
            size = self._take(request)
            try:
                async with aclosing(stream(request)) as parts:
                    async for chunks in parts:
                        yield chunks
            finally:
                self.size_bytes -= size

        return stream_counted

    def _take(self, request: InferenceRequest) -> int:
        size = size_bytes(request)
        if self.size_bytes and self.size_bytes + size > self._max_bytes:
            raise QueueFull(
                f"Failed to execute task for inference id [{request.endpoint.inference_id}] because"
                f" the requests that wait for providers hold [{self.size_bytes}] bytes and may hold"
                f" [{self._max_bytes}]",
                retry_after_s=_RETRY_AFTER_S,
            )
        self.size_bytes += size
        return size


def size_bytes(request: InferenceRequest) -> int:
    """Give the memory that the texts and files of a request take."""
    size = sum(_size_of_input(one) for one in request.inputs)
    if request.query is not None:
        size += _size_of_input(request.query)
    if request.chat is not None:
        size += sum(_size_of_message(message) for message in request.chat.messages)
    return size


def _size_of_input(given: Input) -> int:
    if isinstance(given, str):
        return sys.getsizeof(given)
    return sum(sys.getsizeof(item.value) for item in given)


def _size_of_message(message: Message) -> int:
    content = message.content
    if isinstance(content, list):
        return sum(
            sys.getsizeof(part.text)
            + _size_of_members(part.image_url)
            + _size_of_members(part.file)
            for part in content
        )
    return sys.getsizeof(content)


def _size_of_members(members: dict[str, Any] | None) -> int:
    return sum(map(sys.getsizeof, members.values())) if members else 0
