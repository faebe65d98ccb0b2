"""What Anthropic's messages answer, whole and streamed.

Source: https://docs.claude.com/en/api/messages and /en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from inferry.calls import Event, HttpReply
from inferry.domain import (
    ChatChoice,
    ChatChunk,
    ChatDelta,
    Completion,
    FunctionCall,
    InferenceRequest,
    ToolCall,
    Usage,
)
from inferry.errors import UpstreamError
from inferry.service import Reduce
from inferry.services.completions import text_only
from inferry.services.openai_compatible.replies import stream_error
from inferry.services.reading import decoded

_REASONS: Mapping[str | None, str] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "pause_turn": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
    }
)
_STATUSES: Mapping[str | None, int] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
    }
)


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Block(msgspec.Struct, frozen=True):
    """A block of the content, or a piece of one."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    id: str | None = None
    name: str | None = None
    input: Any = None
    stop_reason: str | None = None


class _Message(msgspec.Struct, frozen=True):
    id: str
    content: list[_Block]
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage = _Usage()


class _StreamEvent(msgspec.Struct, frozen=True):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block = _Block()
    delta: _Block = _Block()
    usage: _Usage = _Usage()


_MESSAGE = msgspec.json.Decoder(_Message)
_EVENT = msgspec.json.Decoder(_StreamEvent)


def parse_chat(reply: HttpReply, request: InferenceRequest) -> ChatChunk:
    """Read a message."""
    message = decoded(_MESSAGE, reply, request)
    calls = [block for block in message.content if block.type == "tool_use"]
    delta = ChatDelta(
        content="".join(block.text for block in message.content) or None,
        role="assistant",
        reasoning="".join(block.thinking for block in message.content) or None,
        tool_calls=[
            _tool_call(None, block, msgspec.json.encode(block.input).decode()) for block in calls
        ]
        or None,
    )
    return ChatChunk(
        message.id,
        [ChatChoice(delta, _reason(message.stop_reason))],
        message.model,
        Usage(message.usage.input_tokens or 0, message.usage.output_tokens or 0),
    )


def parse_completion(reply: HttpReply, request: InferenceRequest) -> Completion:
    """Read every text of a message as a text of its own."""
    message = decoded(_MESSAGE, reply, request)
    texts = tuple(block.text for block in message.content if block.type == "text")
    usage = Usage(message.usage.input_tokens or 0, message.usage.output_tokens or 0)
    return Completion(texts, usage)


def decode_chat(request: InferenceRequest) -> Reduce:
    """Give the reducer of a stream, which knows the message and its tool calls."""
    return _Reducer(request)


decode_completion = text_only(decode_chat)


class _Reducer:
    def __init__(self, request: InferenceRequest) -> None:
        self._request = request
        self._message = _Message("", [])
        self._tools: dict[int, int] = {}
        """The places of blocks of the content among the tool calls."""

    def __call__(self, event: Event) -> tuple[ChatChunk, ...] | None:
        """Turn one event into chunks; kinds to come are passed over."""
        try:
            read = _EVENT.decode(event.data)
        except msgspec.MsgspecError as error:
            raise stream_error(event.data, self._request) from error
        match read.type:
            case "message_start" if read.message is not None:
                self._message = read.message
                return self._chunks(ChatDelta(content="", role="assistant"), usage=_Usage())
            case "content_block_start":
                return self._begin(read.index, read.content_block)
            case "content_block_delta":
                return self._go_on(read.index, read.delta)
            case "message_delta":
                reason = _reason(read.delta.stop_reason)
                return self._chunks(ChatDelta(), reason=reason, usage=read.usage)
            case "message_stop":
                return None
            case "error":
                raise _error(event, self._request)
        return ()

    def _begin(self, index: int, block: _Block) -> tuple[ChatChunk, ...]:
        if block.type == "tool_use":
            place = self._tools[index] = len(self._tools)
            # Their input is always empty here; its text follows in pieces.
            return self._chunks(ChatDelta(tool_calls=[_tool_call(place, block, "")]))
        return self._go_on(index, block)

    def _go_on(self, index: int, piece: _Block) -> tuple[ChatChunk, ...]:
        if piece.text:
            return self._chunks(ChatDelta(content=piece.text))
        if piece.thinking:
            return self._chunks(ChatDelta(reasoning=piece.thinking))
        if piece.partial_json and index in self._tools:
            call = ToolCall(self._tools[index], function=FunctionCall(piece.partial_json))
            return self._chunks(ChatDelta(tool_calls=[call]))
        return ()

    def _chunks(
        self, delta: ChatDelta, *, reason: str | None = None, usage: _Usage | None = None
    ) -> tuple[ChatChunk, ...]:
        message, counted = self._message, None
        if usage is not None:
            begun = message.usage
            counted = Usage(
                usage.input_tokens or begun.input_tokens or 0,
                usage.output_tokens or begun.output_tokens or 0,
            )
        return (ChatChunk(message.id, [ChatChoice(delta, reason)], message.model, counted),)


def _tool_call(place: int | None, block: _Block, arguments: str) -> ToolCall:
    return ToolCall(place, block.id, FunctionCall(arguments, block.name), "function")


def _reason(word: str | None) -> str | None:
    return _REASONS.get(word, word)


def _error(event: Event, request: InferenceRequest) -> UpstreamError:
    error = stream_error(event.data, request)
    error.upstream_status = _STATUSES.get(error.kind, 500)
    return error
