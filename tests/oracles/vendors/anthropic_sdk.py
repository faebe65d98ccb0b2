"""The SDK of Anthropic, https://github.com/anthropics/anthropic-sdk-python.

Of the line 0.x, the last one that speaks the version 2023-06-01 of the API.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from anthropic import AsyncAnthropic

from inferry.domain import InferenceRequest, TaskType
from tests.oracles.oracle import Oracle, texts_of
from tests.services.cases import Case

REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}


async def ask(case: Case, origin: str) -> Any:
    """Ask Anthropic's way; of a stream, give the message that the SDK puts together."""
    endpoint = case.request.endpoint
    settings = endpoint.service_settings
    version = settings.get("anthropic_version")
    client = AsyncAnthropic(
        base_url=origin,
        api_key=endpoint.secrets["api_key"],
        default_headers={"anthropic-version": str(version)} if version else {},
        max_retries=0,
    )
    async with client:
        return await say(client, case.request, model=settings["model_id"])


async def say(client: Any, request: InferenceRequest, *, model: Any) -> Any:
    """Say `request` in the words of the SDK, for whatever client of it."""
    arguments = {"model": model, **request.task_settings, **_chat_arguments(request)}
    if not request.stream:
        return await client.messages.create(**arguments)
    async with client.messages.stream(**arguments) as stream:
        return await stream.get_final_message()


def _chat_arguments(request: InferenceRequest) -> dict[str, Any]:
    if request.chat is None:
        return {"messages": [{"role": "user", "content": text} for text in texts_of(request)]}
    asked: dict[str, Any] = msgspec.to_builtins(request.chat)
    system = [one["content"] for one in asked["messages"] if one["role"] == "system"]
    asked["messages"] = _turns(asked["messages"])
    if len(system) == 1:
        asked["system"] = system[0]
    elif system:
        asked["system"] = [block for content in system for block in _blocks(content)]
    for ours, theirs in (("max_completion_tokens", "max_tokens"), ("stop", "stop_sequences")):
        if ours in asked:
            asked[theirs] = asked.pop(ours)
    if "tools" in asked:
        asked["tools"] = [_tool(one["function"]) for one in asked["tools"]]
    choice = asked.get("tool_choice")
    if isinstance(choice, dict):
        asked["tool_choice"] = {"type": "tool", "name": choice["function"]["name"]}
    elif choice is not None:
        asked["tool_choice"] = {"type": {"required": "any"}.get(choice, choice)}
    return asked


def _turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    before = ""
    for message in messages:
        role = message["role"]
        if role == "tool":
            content = message["content"]
            result = {
                "type": "tool_result",
                "tool_use_id": message["tool_call_id"],
                "content": content if isinstance(content, str) else _blocks(content),
            }
            if before != "tool":
                turns.append({"role": "user", "content": []})
            turns[-1]["content"].append(result)
        elif role == "assistant":
            uses = [_tool_use(one) for one in message.get("tool_calls", [])]
            turns.append({"role": role, "content": [*_blocks(message["content"]), *uses]})
        elif role == "user":
            content = message["content"]
            turns.append({"role": role, "content": _user_content(content)})
        before = role
    return turns


def _user_content(content: Any) -> Any:
    return content if isinstance(content, str) else _blocks(content)


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_block(part) for part in content]


def _block(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    kind, url = ("image", part.get("image_url", {}).get("url"))
    if part["type"] == "file":
        kind, url = "document", part["file"]["file_data"]
    if not url.startswith("data:"):
        return {"type": kind, "source": {"type": "url", "url": url}}
    media_type, data = url.removeprefix("data:").split(";base64,")
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": data}}


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    given = json.loads(function["arguments"] or "{}")
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": given}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    schema = function.pop("parameters", {"type": "object", "properties": {}})
    return {**function, "input_schema": schema}


def read(message: Any, case: Case) -> dict[str, Any]:
    """Say what the SDK read in the words of our files."""
    usage = {
        "input_tokens": message.usage.input_tokens,
        "output_tokens": message.usage.output_tokens,
    }
    texts = [block.text for block in message.content if block.type == "text"]
    if case.task_type is TaskType.COMPLETION and not case.request.stream:
        return {"texts": texts, "usage": usage}
    uses = [block for block in message.content if block.type == "tool_use"]
    thoughts = "".join(block.thinking for block in message.content if block.type == "thinking")
    reason = REASONS[message.stop_reason]
    if case.request.stream:
        calls = [{"id": it.id, "name": it.name, "arguments": _json(it.input)} for it in uses]
        folded = {"text": "".join(texts), "finish_reasons": [reason], "usage": usage}
        return {**folded, **({"tool_calls": calls} if calls else {})}
    delta: dict[str, Any] = {"role": message.role}
    delta |= {"content": "".join(texts)} if texts else {}
    delta |= {"reasoning": thoughts} if thoughts else {}
    calls = [
        {"id": it.id, "function": {"arguments": _json(it.input), "name": it.name}} for it in uses
    ]
    delta |= {"tool_calls": [{**one, "type": "function"} for one in calls]} if calls else {}
    choice = {"delta": delta, "finish_reason": reason, "index": 0}
    return {"id": message.id, "model": message.model, "choices": [choice], "usage": usage}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


ORACLES = (
    Oracle(
        "anthropic",
        "anthropic",
        (TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
        ask,
        read,
    ),
)
