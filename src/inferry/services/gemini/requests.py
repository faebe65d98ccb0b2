"""A conversation in the form of Gemini's contents.

Source: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference and, for
signatures, https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from types import MappingProxyType
from typing import Any

import msgspec

from inferry.domain import Chat, Message, Reasoning, Tool, ToolCall, ToolChoice
from inferry.errors import BadRequest
from inferry.services.conversation import arguments_of, parts_of

REASONING_FORMAT = "google-vertex-ai-v1"
"""Marks details of a reasoning as Gemini's, which it wants back; those of others it refuses."""

_API = "Google VertexAI ChatCompletion"
_ROLES: Mapping[str, str] = MappingProxyType({"user": "user", "assistant": "model", "tool": "user"})
_EFFORTS = ("minimal", "low", "medium", "high")
# Google's own placeholder, where a caller does not give back the signature of a function call.
_NO_SIGNATURE = "skip_thought_signature_validator"
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def gemini_body(chat: Chat, *, thinking_budget: int | None) -> dict[str, Any]:
    """Give the members of a body; None where the conversation says nothing.

    thinking_budget: in tokens, for a request that names no effort.
    Raises `BadRequest` for what the format has no place for.
    """
    return {
        "contents": _contents([one for one in chat.messages if one.role != "system"]),
        "systemInstruction": _system([one for one in chat.messages if one.role == "system"]),
        "generationConfig": _generation_config(chat, thinking_budget),
        "tools": [{"functionDeclarations": [_tool(one) for one in chat.tools]}]
        if chat.tools
        else None,
        "toolConfig": _tool_config(chat.tool_choice),
    }


# --- turns -------------------------------------------------------------------------------------


def _system(messages: list[Message]) -> dict[str, Any] | None:
    parts = []
    for message in messages:
        texts = _texts(message)
        if not texts:
            raise BadRequest("System message cannot be empty for Google Vertex AI")
        parts += [{"text": text} for text in texts]
    return {"parts": parts} if parts else None


def _contents(messages: list[Message]) -> list[dict[str, Any]]:
    """Give turns that alternate: what one role says in a row is one turn."""
    names = {
        call.id: call.function.name
        for message in messages
        for call in message.tool_calls or ()
        if call.function is not None
    }
    turns = []
    for role, said in groupby(messages, key=_role):
        parts = [part for message in said for part in _parts(message, names)]
        turns.append({"role": role, "parts": parts})
    return turns


def _role(message: Message) -> str:
    role = _ROLES.get(message.role)
    if role is None:
        raise BadRequest(
            f"Role [{message.role}] not supported by {_API}. Supported roles: [user, assistant]"
        )
    return role


def _texts(message: Message) -> list[str]:
    parts = parts_of(message)
    for part in parts:
        if part.type != "text":
            raise BadRequest(f"Type [{part.type}] not supported by {_API}. Supported types: [text]")
    return [part.text for part in parts if part.text]


def _parts(message: Message, names: Mapping[str | None, str | None]) -> Iterator[dict[str, Any]]:
    """Give the parts of a message: thoughts, texts, function calls, or the result of one."""
    if message.role == "tool":
        yield _function_response(message, names)
        return
    signatures = _Signatures(message)
    yield from signatures.thoughts()
    texts = _texts(message)
    for text in texts[:-1]:
        yield {"text": text}
    for text in texts[-1:]:
        yield {"text": text, **signatures.of_text()}
    for index, call in enumerate(message.tool_calls or ()):
        yield {"functionCall": _function_call(call), **signatures.of_call(call, index)}


class _Signatures:
    """What a caller gives back of Gemini's reasoning in an earlier answer."""

    def __init__(self, message: Message) -> None:
        details = message.reasoning_details or []
        self._details = [one for one in details if one.get("format") == REASONING_FORMAT]
        self._loose = [
            one["signature"]
            for one in self._details
            if one.get("signature") and not one.get("id") and not one.get("text")
        ]

    def thoughts(self) -> Iterator[dict[str, Any]]:
        """Give the thoughts as parts."""
        for one in self._details:
            if one.get("text"):
                yield {"text": one["text"], "thought": True, **_signed(one.get("signature"))}

    def of_text(self) -> dict[str, str]:
        """Give the signature that belongs to the text, once."""
        return _signed(self._loose.pop(0) if self._loose else None)

    def of_call(self, call: ToolCall, index: int) -> dict[str, str]:
        """Give the signature of a function call; the first of an answer must have one."""
        own = [one.get("signature") for one in self._details if one.get("id") == call.id]
        if any(own):
            return _signed(own[0])
        return self.of_text() or _signed(_NO_SIGNATURE if index == 0 else None)


def _signed(signature: str | None) -> dict[str, str]:
    return {"thoughtSignature": signature} if signature else {}


def _function_call(call: ToolCall) -> dict[str, Any]:
    name = call.function.name if call.function is not None else None
    return {"name": name, "args": arguments_of(call), **_own_id(call.id, name)}


def _function_response(message: Message, names: Mapping[str | None, str | None]) -> dict[str, Any]:
    call_id = message.tool_call_id
    if call_id is None:
        raise BadRequest(f"Tool messages require a [tool_call_id] for {_API}")
    name = names.get(call_id) or call_id
    text = "".join(_texts(message))
    try:
        response = _OBJECT.decode(text) if text else {}
    except msgspec.MsgspecError:
        response = {"output": text}
    return {"functionResponse": {"name": name, **_own_id(call_id, name), "response": response}}


def _own_id(call_id: str | None, name: str | None) -> dict[str, str]:
    """Give the id of a call, but for one that we made of its name because Gemini gave none."""
    return {"id": call_id} if call_id is not None and call_id != name else {}


# --- parameters --------------------------------------------------------------------------------


def _generation_config(chat: Chat, thinking_budget: int | None) -> dict[str, Any] | None:
    config = {
        "stopSequences": chat.stop,
        "temperature": chat.temperature,
        "maxOutputTokens": chat.max_completion_tokens,
        "topP": chat.top_p,
        "thinkingConfig": _thinking_config(chat.reasoning, thinking_budget),
    }
    return {name: value for name, value in config.items() if value is not None} or None


def _thinking_config(
    reasoning: Reasoning | None, thinking_budget: int | None
) -> dict[str, Any] | None:
    """Give a level or a budget; both together are refused."""
    budget = {} if thinking_budget is None else {"thinkingBudget": thinking_budget}
    if reasoning is None:
        return budget or None
    is_included = {"includeThoughts": not reasoning.exclude}
    if reasoning.effort is None:
        return {**budget, **is_included}
    if reasoning.effort not in _EFFORTS:
        raise BadRequest(
            f"Reasoning effort [{reasoning.effort}] not supported by {_API}."
            f" Supported efforts: [{', '.join(_EFFORTS)}]"
        )
    return {"thinkingLevel": reasoning.effort.upper(), **is_included}


def _tool(tool: Tool) -> dict[str, Any]:
    function = tool.function
    declared = {"description": function.description, "parameters": function.parameters}
    return {"name": function.name, **{name: value for name, value in declared.items() if value}}


def _tool_config(choice: str | ToolChoice | None) -> dict[str, Any] | None:
    if choice is None or choice == "auto":
        return None
    if isinstance(choice, str):
        raise BadRequest(
            f"Tool choice value [{choice}] not supported by {_API}. Supported values: [auto]"
        )
    names = [choice.function.name]
    return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": names}}
