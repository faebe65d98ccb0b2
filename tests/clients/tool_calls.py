"""A provider's answer that calls a tool, whole and as a stream."""

import json

from tests.providers import Connection, Received, answer, send_events, send_json

ARGUMENTS = '{"city":"Rome"}'
HEAD = {"id": "chatcmpl-2", "created": 1_700_000_000, "model": "model-1"}
CALL = {"id": "call_1", "type": "function"}


async def answer_with_tools(connection: Connection, received: Received) -> None:
    """Call the first tool that is offered; without one answer as usual."""
    body = received.json if received.body else {}
    if not body.get("tools"):
        await answer(connection, received)
    elif body.get("stream"):
        await send_events(connection, _events(body["tools"][0]["function"]["name"]))
    else:
        await send_json(connection, _whole(body["tools"][0]["function"]["name"]))


def _whole(name: str) -> dict[str, object]:
    call = CALL | {"function": {"name": name, "arguments": ARGUMENTS}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    return HEAD | {"object": "chat.completion", "choices": [choice], "usage": usage}


def _events(name: str) -> list[str]:
    begun = CALL | {"index": 0, "function": {"name": name, "arguments": ""}}
    halves = ARGUMENTS[:6], ARGUMENTS[6:]
    deltas: list[dict[str, object]] = [{"role": "assistant", "tool_calls": [begun]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": half}}]} for half in halves]
    choices: list[dict[str, object]] = [
        {"index": 0, "delta": delta, "finish_reason": None} for delta in deltas
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    chunks = [HEAD | {"object": "chat.completion.chunk", "choices": [one]} for one in choices]
    return [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
