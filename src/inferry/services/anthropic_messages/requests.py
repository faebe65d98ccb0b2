"""A conversation in the form of Anthropic's messages, which other clouds take too.

Source: https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inferry.domain import Chat, ContentPart, Message, Tool, ToolChoice
from inferry.errors import BadRequest
from inferry.services.conversation import arguments_of, data_url, parts_of

_SYSTEM = ("system", "developer")
_TOOL_CHOICES: Mapping[str, str] = MappingProxyType(
    {"none": "none", "auto": "auto", "required": "any"}
)


def messages_body(chat: Chat) -> dict[str, Any]:
    """Give the members of a body that a conversation determines; None where it says nothing.

    Raises `BadRequest` for what the format has no place for.
    """
    return {
        "messages": _turns([one for one in chat.messages if one.role not in _SYSTEM]),
        "system": _system([one for one in chat.messages if one.role in _SYSTEM]),
        "max_tokens": chat.max_completion_tokens,
        "stop_sequences": chat.stop,
        "temperature": chat.temperature,
        "top_p": chat.top_p,
        "tools": [_tool(tool) for tool in chat.tools] if chat.tools else None,
        "tool_choice": None if chat.tool_choice is None else _tool_choice(chat.tool_choice),
    }


def _system(messages: list[Message]) -> str | list[dict[str, Any]] | None:
    """Give the one plain text, or the texts as blocks."""
    if len(messages) == 1 and isinstance(messages[0].content, str):
        return messages[0].content
    return [_block(part) for message in messages for part in parts_of(message)] or None


def _turns(messages: list[Message]) -> list[dict[str, Any]]:
    """Give the turns; results of tools that follow each other are one turn of the user."""
    turns: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            if not results:
                turns.append({"role": "user", "content": results})
            results.append(_tool_result(message))
            continue
        results = []
        turns.append({"role": message.role, "content": _content(message)})
    return turns


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str) and not message.tool_calls:
        return message.content
    blocks = [_block(part) for part in parts_of(message)]
    for call in message.tool_calls or ():
        name = call.function.name if call.function is not None else None
        blocks.append(
            {"type": "tool_use", "id": call.id, "name": name, "input": arguments_of(call)}
        )
    return blocks


def _tool_result(message: Message) -> dict[str, Any]:
    content = message.content
    return {
        "type": "tool_result",
        "tool_use_id": message.tool_call_id,
        "content": content
        if isinstance(content, str)
        else [_block(it) for it in parts_of(message)],
    }


def _block(part: ContentPart) -> dict[str, Any]:
    if part.type == "text":
        return {"type": "text", "text": part.text}
    if part.type == "image_url" and part.image_url is not None:
        return {"type": "image", "source": _source(str(part.image_url.get("url")))}
    if part.type == "file" and part.file is not None:
        return {"type": "document", "source": _source(str(part.file.get("file_data")))}
    raise BadRequest(
        f"Type [{part.type}] not supported by Anthropic chat completion."
        " Supported types: [text, image_url, file]"
    )


def _source(url: str) -> dict[str, str]:
    given = data_url(url)
    if given is None:
        return {"type": "url", "url": url}
    media_type, text = given
    return {"type": "base64", "media_type": media_type, "data": text}


def _tool(tool: Tool) -> dict[str, Any]:
    function = tool.function
    if function.strict is not None:
        raise BadRequest(
            f"Anthropic chat completion does not support [strict], got it in tool [{function.name}]"
        )
    described = {"description": function.description} if function.description else {}
    schema = function.parameters or {"type": "object", "properties": {}}
    return {"name": function.name, **described, "input_schema": schema}


def _tool_choice(choice: str | ToolChoice) -> dict[str, str]:
    if isinstance(choice, ToolChoice):
        return {"type": "tool", "name": choice.function.name}
    if choice not in _TOOL_CHOICES:
        raise BadRequest(
            f"Unsupported tool_choice value [{choice}] for the Anthropic chat completion API."
        )
    return {"type": _TOOL_CHOICES[choice]}
