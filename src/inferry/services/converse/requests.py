"""A conversation in the form of Amazon Bedrock's Converse, the same for the models of all vendors.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inferry.domain import Chat, ContentPart, Message, Tool, ToolChoice
from inferry.errors import BadRequest
from inferry.services.conversation import arguments_of, data_url, parts_of

_SYSTEM = ("system", "developer")
_TOOL_CHOICES: Mapping[str, str] = MappingProxyType({"auto": "auto", "required": "any"})


def conversation_body(chat: Chat) -> dict[str, Any]:
    """Give the messages, the system's texts and the tools; None where there are none.

    Raises `BadRequest` for what the format has no place for.
    """
    system = [one for one in chat.messages if one.role in _SYSTEM]
    return {
        "messages": _turns([one for one in chat.messages if one.role not in _SYSTEM]),
        "system": [_block(part) for message in system for part in parts_of(message)] or None,
        "toolConfig": _tool_config(chat),
    }


def _turns(messages: list[Message]) -> list[dict[str, Any]]:
    """Give the turns, which must alternate: what one side says in a row is one turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        if not turns or turns[-1]["role"] != role:
            turns.append({"role": role, "content": []})
        turns[-1]["content"] += _content(message)
    return turns


def _content(message: Message) -> list[dict[str, Any]]:
    blocks = [_block(part) for part in parts_of(message)]
    if message.role == "tool":
        return [{"toolResult": {"toolUseId": message.tool_call_id, "content": blocks}}]
    for call in message.tool_calls or ():
        name = call.function.name if call.function is not None else None
        blocks.append(
            {"toolUse": {"toolUseId": call.id, "name": name, "input": arguments_of(call)}}
        )
    return blocks


def _block(part: ContentPart) -> dict[str, Any]:
    if part.type == "text":
        return {"text": part.text}
    if part.type == "image_url" and part.image_url is not None:
        return {"image": _image(str(part.image_url.get("url")))}
    raise BadRequest(
        f"Type [{part.type}] not supported by Amazon Bedrock chat completion."
        " Supported types: [text, image_url]"
    )


def _image(url: str) -> dict[str, Any]:
    given = data_url(url)
    if given is None:
        raise BadRequest("Amazon Bedrock chat completion takes images as data URLs only")
    media_type, text = given
    return {"format": media_type.removeprefix("image/"), "source": {"bytes": text}}


def _tool_config(chat: Chat) -> dict[str, Any] | None:
    """Give the tools and which of them is to be used; none at all where none may be used."""
    choice = chat.tool_choice
    if not chat.tools or choice == "none":
        return None
    config: dict[str, Any] = {"tools": [{"toolSpec": _tool(tool)} for tool in chat.tools]}
    if isinstance(choice, ToolChoice):
        return {**config, "toolChoice": {"tool": {"name": choice.function.name}}}
    if choice is None:
        return config
    if choice not in _TOOL_CHOICES:
        raise BadRequest(
            f"Unsupported tool_choice value [{choice}] for the Amazon Bedrock chat completion API."
        )
    return {**config, "toolChoice": {_TOOL_CHOICES[choice]: {}}}


def _tool(tool: Tool) -> dict[str, Any]:
    function = tool.function
    described = {"description": function.description} if function.description else {}
    schema = function.parameters or {"type": "object", "properties": {}}
    return {"name": function.name, **described, "inputSchema": {"json": schema}}
