"""What Gemini answers, whole and streamed.

Source: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from inferry.errors import UnreadableReply, UpstreamError
from inferry.service import Reduce
from inferry.services.completions import text_only
from inferry.services.gemini.requests import REASONING_FORMAT
from inferry.services.openai_compatible.replies import stream_error
from inferry.services.reading import decoded

_REASONS: Mapping[str | None, str] = MappingProxyType(
    {
        "STOP": "stop",
        "MAX_TOKENS": "length",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "BLOCKLIST": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "SPII": "content_filter",
        "IMAGE_SAFETY": "content_filter",
        "MODEL_ARMOR": "content_filter",
    }
)


class _FunctionCall(msgspec.Struct, frozen=True):
    name: str
    args: dict[str, Any] | None = None
    id: str | None = None


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(msgspec.Struct, frozen=True):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, frozen=True, rename="camel"):
    content: _Content = _Content()
    finish_reason: str | None = None
    index: int = 0


class _UsageMetadata(msgspec.Struct, frozen=True, rename="camel"):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int | None = None


class _PromptFeedback(msgspec.Struct, frozen=True, rename="camel"):
    block_reason: str | None = None


class _Reply(msgspec.Struct, frozen=True, rename="camel"):
    """A whole answer, or a chunk of a stream."""

    candidates: list[_Candidate] | None = None
    usage_metadata: _UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    prompt_feedback: _PromptFeedback = _PromptFeedback()


_REPLY = msgspec.json.Decoder(_Reply)


def parse_chat(reply: HttpReply, request: InferenceRequest) -> ChatChunk:
    """Read an answer."""
    return _Reader(request).chunk(_whole(reply, request), is_whole=True)


def parse_completion(reply: HttpReply, request: InferenceRequest) -> Completion:
    """Read the text of an answer, without thoughts."""
    chunk = parse_chat(reply, request)
    choice = chunk.choices[0]
    if choice.delta.content is None and choice.finish_reason == "content_filter":
        raise _blocked("an answer", choice.finish_reason, request)
    return Completion((choice.delta.content or "",), chunk.usage)


def decode_chat(request: InferenceRequest) -> Reduce:
    """Give the reducer of a stream, which ends with the body."""
    reader = _Reader(request)

    def reduce(event: Event) -> tuple[ChatChunk, ...]:
        try:
            parsed = _REPLY.decode(event.data)
        except msgspec.MsgspecError as error:
            raise stream_error(event.data, request) from error
        _check_feedback(parsed, request)
        if parsed.candidates is None and parsed.usage_metadata is None:
            raise stream_error(event.data, request)
        return (reader.chunk(parsed),)

    return reduce


decode_completion = text_only(decode_chat)


def _whole(reply: HttpReply, request: InferenceRequest) -> _Reply:
    parsed = decoded(_REPLY, reply, request)
    _check_feedback(parsed, request)
    if not parsed.candidates:
        raise UnreadableReply(
            f"Failed to find required field [candidates] in {request.endpoint.service} response"
        )
    return parsed


def _check_feedback(parsed: _Reply, request: InferenceRequest) -> None:
    reason = parsed.prompt_feedback.block_reason
    if reason is not None:
        raise _blocked("the prompt", reason, request)


def _blocked(what: str, reason: str, request: InferenceRequest) -> UpstreamError:
    endpoint = request.endpoint
    return UpstreamError(
        f"The [{endpoint.service}] service blocked {what} for request from inference entity id"
        f" [{endpoint.inference_id}]. Reason: [{reason}]",
        upstream_status=400,
    )


class _Reader:
    """Counts function calls and blocks of thoughts through the chunks of one answer."""

    def __init__(self, request: InferenceRequest) -> None:
        reasoning = request.chat.reasoning if request.chat is not None else None
        self._is_excluded = reasoning is not None and reasoning.exclude is True
        self._has_begun = False
        self._calls = 0
        self._thoughts = 0
        self._is_thinking = False

    def chunk(self, parsed: _Reply, *, is_whole: bool = False) -> ChatChunk:
        """Give what Gemini said. is_whole: function calls need no number then."""
        choices = [self._choice(one, is_whole=is_whole) for one in parsed.candidates or ()]
        usage = _usage(parsed.usage_metadata)
        return ChatChunk(parsed.response_id or "", choices, parsed.model_version, usage)

    def _choice(self, candidate: _Candidate, *, is_whole: bool) -> ChatChoice:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCall] = []
        details: list[dict[str, Any]] = []
        for part in candidate.content.parts:
            if part.function_call is not None:
                calls.append(self._tool_call(part.function_call, is_whole=is_whole))
            elif not part.thought:
                texts.append(part.text or "")
            elif not self._is_excluded:
                thoughts.append(part.text or "")
            details += self._details(part)
        role = None if self._has_begun else "assistant"
        self._has_begun = True
        delta = ChatDelta(
            content="".join(texts) or None,
            role=role,
            reasoning="".join(thoughts) or None,
            tool_calls=calls or None,
            reasoning_details=details or None,
        )
        return ChatChoice(delta, self._reason(candidate.finish_reason), candidate.index)

    def _tool_call(self, call: _FunctionCall, *, is_whole: bool) -> ToolCall:
        index = self._calls
        self._calls += 1
        arguments = msgspec.json.encode(call.args or {}).decode()
        return ToolCall(
            None if is_whole else index,
            call.id or call.name,
            FunctionCall(arguments, call.name),
            "function",
        )

    def _details(self, part: _Part) -> Iterator[dict[str, Any]]:
        """Give what a caller has to send back: thoughts and signatures.

        Pieces of one block of thoughts share an index; a signature or anything else ends it. The
        signature of a function call goes by the call's id, and goes out even if thoughts do not.
        """
        call, signature = part.function_call, part.thought_signature
        if self._is_thinking and not part.thought:
            self._end_block()
        if call is not None:
            if signature is not None:
                yield _detail(id=call.id or call.name, signature=signature)
            return
        if not self._is_excluded and (part.thought or signature is not None):
            text = part.text if part.thought else None
            yield _detail(index=self._thoughts, text=text, signature=signature)
            self._is_thinking = part.thought
        if signature is not None:
            self._end_block()

    def _end_block(self) -> None:
        self._thoughts += 1
        self._is_thinking = False

    def _reason(self, word: str | None) -> str | None:
        reason = _REASONS.get(word, word)
        return "tool_calls" if reason == "stop" and self._calls else reason


def _detail(**members: str | int | None) -> dict[str, Any]:
    present = {name: value for name, value in members.items() if value is not None}
    return {"type": "reasoning.text", "format": REASONING_FORMAT, **present}


def _usage(usage: _UsageMetadata | None) -> Usage | None:
    """Count thoughts among what was written, as OpenAI does."""
    if usage is None:
        return None
    return Usage(
        usage.prompt_token_count,
        usage.candidates_token_count + (usage.thoughts_token_count or 0),
        reasoning_tokens=usage.thoughts_token_count,
    )
