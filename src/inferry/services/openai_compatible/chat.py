"""OpenAI's chat completions on the wire, whole and streamed, which many providers speak.

Source: the public OpenAPI description of the API. Readers are lenient where servers that copy the
format leave things out, but for what no answer can be without.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from inferry.calls import Event, HttpReply
from inferry.domain import (
    Chat,
    ChatChoice,
    ChatChunk,
    ChatDelta,
    Completion,
    InferenceRequest,
    Message,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
)
from inferry.errors import BadRequest
from inferry.service import Reduce
from inferry.services.completions import text_only
from inferry.services.inputs import prompt_of
from inferry.services.openai_compatible.replies import decode_reply, missing_field, stream_error


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool


class ChatBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a chat call; None is left out, the first three are always sent."""

    messages: list[Message]
    n: int
    stream: bool
    model: str | None = None
    stop: list[str] | None = None
    temperature: float | None = None
    tool_choice: str | ToolChoice | None = None
    tools: list[Tool] | None = None
    top_p: float | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    stream_options: _StreamOptions | None = None


def chat_of(request: InferenceRequest, *, title: str) -> Chat:
    """Give the conversation of `request`; a completion's text is its one message.

    Raises as `prompt_of`.
    """
    if request.chat is not None:
        return request.chat
    return Chat([Message("user", prompt_of(request, title=title))])


def chat_body(
    chat: Chat, *, model: str | None, stream: bool, user: str | None, title: str
) -> ChatBody:
    """Give the body of a chat call. Raises `BadRequest` for reasoning without an effort."""
    effort = None
    if chat.reasoning is not None:
        effort = chat.reasoning.effort
        if effort is None:
            raise BadRequest(
                f"{title} chat completion requires [reasoning.effort] to map to [reasoning_effort]"
            )
    return ChatBody(
        messages=[_plain(message) for message in chat.messages],
        n=1,
        stream=stream,
        model=chat.model or model,
        stop=chat.stop,
        temperature=chat.temperature,
        tool_choice=chat.tool_choice,
        tools=chat.tools,
        top_p=chat.top_p,
        max_completion_tokens=chat.max_completion_tokens,
        reasoning_effort=effort,
        user=user,
        stream_options=_StreamOptions(include_usage=True) if stream else None,
    )


def with_max_tokens(body: ChatBody) -> ChatBody:
    """Limit the answer by `max_tokens`, as servers do that know only OpenAI's older word."""
    return msgspec.structs.replace(
        body, max_tokens=body.max_completion_tokens, max_completion_tokens=None
    )


def _plain(message: Message) -> Message:
    """Leave out what the format has no place for."""
    if message.reasoning is None and message.reasoning_details is None:
        return message
    return msgspec.structs.replace(message, reasoning=None, reasoning_details=None)


# --- chat replies and chunks -------------------------------------------------------------------


class _PromptDetails(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    reasoning_tokens: int | None = None


class _ChatUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Part(msgspec.Struct, frozen=True):
    """A part of a content: a text, or thoughts, which are parts again."""

    text: str = ""
    thinking: list[_Part] = []


class _Said(msgspec.Struct, frozen=True):
    """A message or a piece of one; models of Mistral that reason give its content in parts."""

    content: str | list[_Part] | None = None
    refusal: str | None = None
    role: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning_details: list[dict[str, Any]] | None = None

    def plain(self) -> ChatDelta:
        """Give it with texts in place of parts."""
        content, reasoning = self.content, self.reasoning
        if isinstance(content, list):
            thoughts = [thought.text for part in content for thought in part.thinking]
            reasoning = "".join(thoughts) or reasoning
            content = "".join(part.text for part in content) or None
        return ChatDelta(
            content, self.refusal, self.role, reasoning, self.tool_calls, self.reasoning_details
        )


class _Choice(msgspec.Struct, frozen=True):
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    index: int = 0


class _ChatReply(msgspec.Struct, frozen=True):
    """A whole answer, or a chunk of a stream."""

    id: str | None = None
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _ChatUsage | None = None
    created: int | None = None
    error: Any = None


_CHAT = msgspec.json.Decoder(_ChatReply)
# Words of servers that copy the format for what OpenAI calls otherwise.
_REASONS: Mapping[str | None, str] = MappingProxyType(
    {"eos_token": "stop", "stop_sequence": "stop", "model_length": "length"}
)


def parse_chat(reply: HttpReply, request: InferenceRequest) -> ChatChunk:
    """Read a chat completion."""
    parsed = decode_reply(_CHAT, reply, request)
    for field, value in (("id", parsed.id), ("choices", parsed.choices)):
        if value is None:
            raise missing_field(field, "chat completions", reply)
    for choice in parsed.choices or ():
        if choice.message is None:
            raise missing_field("message", "chat completions", reply)
    return _chunk(parsed)


def parse_completion(reply: HttpReply, request: InferenceRequest) -> Completion:
    """Read a chat completion as the texts that answer a completion call."""
    parsed = decode_reply(_CHAT, reply, request)
    if parsed.choices is None:
        raise missing_field("choices", "chat completions", reply)
    texts = []
    for choice in parsed.choices:
        if choice.message is None:
            raise missing_field("message", "chat completions", reply)
        said = choice.message.plain()
        # A model that declines says so in `refusal`.
        text = said.refusal if said.content is None else said.content
        if text is None:
            raise missing_field("content", "chat completions", reply)
        texts.append(text)
    return Completion(tuple(texts), usage=_usage(parsed.usage))


def decode_chat(request: InferenceRequest) -> Reduce:
    """Give the reducer of a chat stream; it keeps no state."""

    def reduce(event: Event) -> tuple[ChatChunk, ...] | None:
        text = event.data
        if text[:6].upper() == "[DONE]":
            return None
        if event.name == "error":
            raise stream_error(text, request)
        try:
            parsed = _CHAT.decode(text)
        except msgspec.MsgspecError as error:
            raise stream_error(text, request) from error
        if parsed.choices is None or parsed.id is None or parsed.error:
            raise stream_error(text, request)
        # Azure's first chunk says only what it found in the prompt.
        return (_chunk(parsed),) if parsed.choices or parsed.usage else ()

    return reduce


decode_completion = text_only(decode_chat)


def _chunk(parsed: _ChatReply) -> ChatChunk:
    choices = [
        ChatChoice(
            (choice.delta or choice.message or _Said()).plain(),
            _REASONS.get(choice.finish_reason, choice.finish_reason),
            choice.index,
        )
        for choice in parsed.choices or ()
    ]
    return ChatChunk(parsed.id or "", choices, parsed.model, _usage(parsed.usage), parsed.created)


def _usage(usage: _ChatUsage | None) -> Usage | None:
    if usage is None:
        return None
    prompt, written = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cached_tokens=None if prompt is None else prompt.cached_tokens,
        reasoning_tokens=None if written is None else written.reasoning_tokens,
    )
