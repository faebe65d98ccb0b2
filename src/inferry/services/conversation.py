"""Pieces of a conversation, for providers whose messages are not OpenAI's."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from inferry.domain import ContentPart, Message, ToolCall
from inferry.errors import BadRequest

_DATA_URL = re.compile(r"data:(?P<type>[^;,]+)[^,]*;base64,(?P<data>.*)", re.DOTALL)
_ARGUMENTS = msgspec.json.Decoder(dict[str, Any])


def parts_of(message: Message) -> list[ContentPart]:
    """Give the content in parts, empty texts left out."""
    content = message.content
    parts = [ContentPart("text", content)] if isinstance(content, str) else content or []
    return [part for part in parts if part.type != "text" or part.text]


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Give the arguments of a tool call. Raises `BadRequest` when they are no JSON object."""
    text = call.function.arguments if call.function is not None else None
    try:
        return _ARGUMENTS.decode(text) if text else {}
    except msgspec.MsgspecError as error:
        raise BadRequest(
            f"The arguments of the tool call [{call.id}] must be a JSON object in a string"
        ) from error


def data_url(url: str) -> tuple[str, str] | None:
    """Give the media type and the base64 text of a data URL, None for another one."""
    found = _DATA_URL.fullmatch(url)
    return (found["type"], found["data"]) if found else None
