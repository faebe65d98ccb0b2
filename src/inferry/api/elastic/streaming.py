r"""Server-Sent Events of POST `_inference/.../_stream`.

One JSON document per event, `\n` line ends, no byte order mark; a good stream ends with `[DONE]`,
a broken one with `event: error`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from inferry.api.elastic.answers import ChatUsage, usage_of
from inferry.api.elastic.errors import (
    chat_envelope,
    envelope,
    headers_of,
    render_error,
    rendering_of,
)
from inferry.api.exchange import Answer, Request
from inferry.api.http.media_types import EVENT_STREAM
from inferry.core.runners.runner import Chunks
from inferry.domain import ChatChunk, ChatDelta, Json
from inferry.errors import (
    InferenceError,
    NotAuthenticated,
    UnacceptableMediaType,
    UnsupportedMediaType,
)

DONE: Final = b"event: message\ndata: [DONE]\n\n"
# These come before anything knows that the call is a stream.
_EARLY: Final = (NotAuthenticated, UnacceptableMediaType, UnsupportedMediaType)


class StreamChoice(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One alternative in a chunk."""

    delta: ChatDelta
    finish_reason: str | None = None
    index: int


class StreamChunk(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One chunk of a chat completion."""

    id: str
    choices: list[StreamChoice]
    model: str | None = None
    object: str
    usage: ChatUsage | None = None


class EventStream:
    """The events of one stream; closing it hangs up on the provider, begun or not."""

    def __init__(
        self,
        parts: Chunks,
        first: list[ChatChunk],
        *,
        request: Request,
        is_chat: bool,
    ) -> None:
        self._parts = parts
        self._first = first
        self._request = request
        self._is_chat = is_chat
        self._is_over = False

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._is_over:
            try:
                chunks = await self._next()
            except InferenceError as error:
                self._is_over = True
                return _error_event(error, self._request, is_chat=self._is_chat)
            if not chunks:
                self._is_over = True
                return DONE
            if events := b"".join([_message(chunk, is_chat=self._is_chat) for chunk in chunks]):
                return events
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the stream, wherever it is."""
        self._is_over = True
        await self._parts.aclose()

    async def _next(self) -> list[ChatChunk]:
        first, self._first = self._first, []
        return first or await anext(self._parts, [])


async def stream_answer(parts: Chunks, request: Request, *, is_chat: bool) -> Answer:
    """Answer with a stream. What fails before the first chunk is raised."""
    first: list[ChatChunk] = await anext(parts, [])
    stream = EventStream(parts, first, request=request, is_chat=is_chat)
    return Answer(stream, content_type=EVENT_STREAM)


def render_stream_error(error: InferenceError, request: Request, *, is_chat: bool) -> Answer:
    """Answer with a single error event under the status of the error."""
    if isinstance(error, _EARLY):
        return render_error(error, request)
    return Answer(
        _error_event(error, request, is_chat=is_chat),
        rendering_of(error, request.compatible_with).status,
        EVENT_STREAM,
        headers_of(error),
    )


def _error_event(error: InferenceError, request: Request, *, is_chat: bool) -> bytes:
    described: Callable[[InferenceError, Request], dict[str, Json]]
    described = chat_envelope if is_chat else envelope
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(described(error, request))


def _message(chunk: ChatChunk, *, is_chat: bool) -> bytes:
    """Write a chunk as an event; nothing when it says nothing in this form."""
    if is_chat:
        body: object = StreamChunk(
            id=chunk.id,
            choices=[
                StreamChoice(delta=one.delta, finish_reason=one.finish_reason, index=one.index)
                for one in chunk.choices
            ],
            model=chunk.model,
            object="chat.completion.chunk",
            usage=usage_of(chunk.usage),
        )
    else:
        deltas = [{"delta": one.delta.content} for one in chunk.choices if one.delta.content]
        if not deltas:
            return b""
        body = {"completion": deltas}
    return b"event: message\ndata: %b\n\n" % msgspec.json.encode(body)
