"""What Amazon Bedrock's Converse answers, whole and streamed.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
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
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "content_filtered": "content_filter",
        "guardrail_intervened": "content_filter",
    }
)
_STATUSES: Mapping[str, int] = MappingProxyType(
    {
        "validationException": 400,
        "modelTimeoutException": 408,
        "modelStreamErrorException": 424,
        "throttlingException": 429,
        "internalServerException": 500,
        "serviceUnavailableException": 503,
    }
)


class _Usage(msgspec.Struct, frozen=True, rename="camel"):
    input_tokens: int = 0
    output_tokens: int = 0


class _ToolUse(msgspec.Struct, frozen=True, rename="camel"):
    """A call of a tool; `input` is an object in a whole answer, a piece of JSON in a stream."""

    tool_use_id: str | None = None
    name: str | None = None
    input: Any = None


class _ReasoningText(msgspec.Struct, frozen=True):
    text: str = ""


class _Reasoning(msgspec.Struct, frozen=True, rename="camel"):
    """In a whole answer nested, in a stream bare."""

    reasoning_text: _ReasoningText = _ReasoningText()
    text: str = ""


class _Block(msgspec.Struct, frozen=True, rename="camel"):
    """A block of the content, or a piece of one."""

    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning = _Reasoning()


class _Message(msgspec.Struct, frozen=True):
    content: list[_Block]


class _Output(msgspec.Struct, frozen=True):
    message: _Message


class _Reply(msgspec.Struct, frozen=True, rename="camel"):
    output: _Output
    stop_reason: str | None = None
    usage: _Usage = _Usage()


class _StreamEvent(msgspec.Struct, frozen=True, rename="camel"):
    content_block_index: int = 0
    start: _Block = _Block()
    delta: _Block = _Block()
    stop_reason: str | None = None
    usage: _Usage = _Usage()


_REPLY = msgspec.json.Decoder(_Reply)
_EVENT = msgspec.json.Decoder(_StreamEvent)


def parse_chat(reply: HttpReply, request: InferenceRequest) -> ChatChunk:
    """Read an answer."""
    parsed = decoded(_REPLY, reply, request)
    blocks = parsed.output.message.content
    delta = ChatDelta(
        content="".join(block.text or "" for block in blocks) or None,
        role="assistant",
        reasoning="".join(block.reasoning_content.reasoning_text.text for block in blocks) or None,
        tool_calls=[
            _tool_call(None, block.tool_use, msgspec.json.encode(block.tool_use.input).decode())
            for block in blocks
            if block.tool_use is not None
        ]
        or None,
    )
    choice = ChatChoice(delta, _reason(parsed.stop_reason))
    return ChatChunk("", [choice], _model_of(request), _usage(parsed.usage))


def parse_completion(reply: HttpReply, request: InferenceRequest) -> Completion:
    """Read every text of an answer as a text of its own."""
    parsed = decoded(_REPLY, reply, request)
    blocks = parsed.output.message.content
    texts = tuple(block.text for block in blocks if block.text is not None)
    return Completion(texts, _usage(parsed.usage))


def decode_chat(request: InferenceRequest) -> Reduce:
    """Give the reducer of a stream, which knows its tool calls. It ends with the body."""
    return _Reducer(request)


decode_completion = text_only(decode_chat)


class _Reducer:
    def __init__(self, request: InferenceRequest) -> None:
        self._request = request
        self._model = _model_of(request)
        self._tools: dict[int, int] = {}
        """The places of blocks of the content among the tool calls."""

    def __call__(self, event: Event) -> tuple[ChatChunk, ...]:
        """Turn one event into chunks; kinds to come are passed over."""
        if event.is_error:
            raise _error(event, self._request)
        try:
            read = _EVENT.decode(event.data)
        except msgspec.MsgspecError as error:
            raise stream_error(event.data, self._request) from error
        match event.name:
            case "messageStart":
                return self._chunks(ChatDelta(content="", role="assistant"))
            case "contentBlockStart" if read.start.tool_use is not None:
                place = self._tools[read.content_block_index] = len(self._tools)
                call = _tool_call(place, read.start.tool_use, "")
                return self._chunks(ChatDelta(tool_calls=[call]))
            case "contentBlockDelta":
                return self._go_on(read.content_block_index, read.delta)
            case "messageStop":
                return self._chunks(ChatDelta(), reason=_reason(read.stop_reason))
            case "metadata":
                return (ChatChunk("", [], self._model, _usage(read.usage)),)
        return ()

    def _go_on(self, index: int, piece: _Block) -> tuple[ChatChunk, ...]:
        if piece.text:
            return self._chunks(ChatDelta(content=piece.text))
        if piece.reasoning_content.text:
            return self._chunks(ChatDelta(reasoning=piece.reasoning_content.text))
        if piece.tool_use is not None and index in self._tools:
            call = ToolCall(self._tools[index], function=FunctionCall(piece.tool_use.input))
            return self._chunks(ChatDelta(tool_calls=[call]))
        return ()

    def _chunks(self, delta: ChatDelta, *, reason: str | None = None) -> tuple[ChatChunk, ...]:
        return (ChatChunk("", [ChatChoice(delta, reason)], self._model),)


def _tool_call(place: int | None, use: _ToolUse, arguments: str) -> ToolCall:
    return ToolCall(place, use.tool_use_id, FunctionCall(arguments, use.name), "function")


def _model_of(request: InferenceRequest) -> str:
    """Give the model that was asked, which no answer repeats."""
    asked = request.chat.model if request.chat is not None else None
    return asked or str(request.endpoint.service_settings["model"])


def _reason(word: str | None) -> str | None:
    return _REASONS.get(word, word)


def _usage(usage: _Usage) -> Usage:
    return Usage(usage.input_tokens, usage.output_tokens)


def _error(event: Event, request: InferenceRequest) -> UpstreamError:
    error = stream_error(event.data, request)
    error.kind = event.name or None
    error.upstream_status = _STATUSES.get(event.name, 500)
    return error
