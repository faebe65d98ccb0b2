"""Bodies of POST `_inference`, one type per parser of upstream, and how each is decoded.

A body is decoded at once by msgspec; on any doubt, the strict parser and the description of the
body take over, for the sake of exact words.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

import msgspec

from inferry.api.elastic.body_shapes import Kind, ListOf, OneOf, Shape, parse_body
from inferry.api.exchange import Request
from inferry.api.fast_json import decode_json
from inferry.api.strict_json import MOST_EXACT, is_blank, parse_object
from inferry.domain import (
    Chat,
    ContentPart,
    FunctionCall,
    Json,
    Message,
    Reasoning,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceFunction,
    ToolFunction,
)
from inferry.errors import MissingBody, UnreadableBody

T = TypeVar("T")
GENERAL_PARSER: Final = "cluster:internal/xpack/inference"


class GeneralBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of sparse_embedding, text_embedding and completion."""

    input: str | list[str] | None = None
    input_type: str | None = None
    query: str | None = None
    return_documents: bool | None = None
    top_n: int | None = None
    task_settings: dict[str, Any] | None = None
    timeout: str | None = None


class InferenceString(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input that may be more than text."""

    type: str
    value: str
    format: str | None = None


class RerankBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of rerank."""

    input: str | InferenceString | list[str | InferenceString] | None
    query: str | InferenceString | None
    top_n: int | None = None
    return_documents: bool | None = None
    task_settings: dict[str, Any] | None = None


class ContentObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item, or several that together give one vector."""

    content: InferenceString | list[InferenceString]


class EmbeddingBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of embedding."""

    input: str | ContentObject | list[str | ContentObject] | None
    input_type: str | None = None
    task_settings: dict[str, Any] | None = None


# --- chat: the types of the domain, with unknown fields refused --------------------------------


class _Part(ContentPart, frozen=True, forbid_unknown_fields=True):
    pass


class _FunctionCall(FunctionCall, frozen=True, forbid_unknown_fields=True):
    pass


class _ToolCall(ToolCall, frozen=True, forbid_unknown_fields=True):
    function: _FunctionCall | None = None


class _Message(Message, frozen=True, forbid_unknown_fields=True):
    content: str | list[_Part] | None = None  # type: ignore[assignment]
    tool_calls: list[_ToolCall] | None = None  # type: ignore[assignment]


class _ToolFunction(ToolFunction, frozen=True, forbid_unknown_fields=True):
    pass


class _Tool(Tool, frozen=True, forbid_unknown_fields=True):
    function: _ToolFunction


class _ToolChoice(ToolChoice, frozen=True, forbid_unknown_fields=True):
    function: ToolChoiceFunction


class _Reasoning(Reasoning, frozen=True, forbid_unknown_fields=True):
    pass


class ChatBody(Chat, frozen=True, forbid_unknown_fields=True):
    """Of chat_completion."""

    messages: list[_Message] | None  # type: ignore[assignment]
    tools: list[_Tool] | None = None  # type: ignore[assignment]
    tool_choice: str | _ToolChoice | None = None
    reasoning: _Reasoning | None = None


# --- the same, for words -----------------------------------------------------------------------

_TEXT, _FLAG, _INT, _NUMBER, _MAP = (
    Kind.STRING,
    Kind.BOOLEAN,
    Kind.INTEGER,
    Kind.NUMBER,
    Kind.OBJECT,
)
_STRING = Shape(
    "InferenceString", {"type": _TEXT, "format": _TEXT, "value": _TEXT}, required=("type", "value")
)
_CONTENT = Shape(
    "ContentObject", {"content": OneOf((_STRING, ListOf(_STRING)))}, required=("content",)
)
_CALL = Shape(
    "ToolCall",
    {
        "index": _INT,
        "id": _TEXT,
        "function": Shape("FunctionField", {"arguments": _TEXT, "name": _TEXT}),
        "type": _TEXT,
    },
)
_PART = Shape(
    "ContentObject",
    {"type": _TEXT, "text": _TEXT, "image_url": _MAP, "file": _MAP},
    required=("type",),
)
_MESSAGE = Shape(
    "Message",
    {
        "role": _TEXT,
        "content": OneOf((_TEXT, ListOf(_PART))),
        "tool_call_id": _TEXT,
        "tool_calls": ListOf(_CALL),
        "reasoning": _TEXT,
        "reasoning_details": ListOf(_MAP),
    },
    required=("role",),
)
_TOOL = Shape(
    "Tool",
    {
        "type": _TEXT,
        "function": Shape(
            "FunctionField",
            {"name": _TEXT, "description": _TEXT, "parameters": _MAP, "strict": _FLAG},
            required=("name",),
        ),
    },
    required=("type", "function"),
)
_CHOICE = Shape(
    "ToolChoice",
    {"type": _TEXT, "function": Shape("FunctionField", {"name": _TEXT}, required=("name",))},
    required=("type", "function"),
)
_TEXTS = ListOf(_TEXT)


class BodyDecoder(Generic[T]):
    """Decodes bodies of one type."""

    def __init__(self, body_type: type[T], shape: Shape) -> None:
        self._type = body_type
        self._shape = shape

    async def decode(self, request: Request) -> T:
        """Give the body. Raises `MissingBody`, `UnreadableBody` and `IllegalArgument`."""
        return await request.read(self._parse, quickly=self._decode_quickly)

    def _decode_quickly(self, body: bytes) -> T | None:
        if is_blank(body):
            raise MissingBody("request body is required")
        try:
            return msgspec.convert(decode_json(body), self._type)
        except (msgspec.MsgspecError, RecursionError):
            return None

    def _parse(self, body: bytes) -> T:
        """Find the right words; of a body that is larger than those are found for, any."""
        if len(body) > MOST_EXACT:
            return self._convert(parse_object(body))
        return self._convert(parse_body(body, self._shape))

    def _convert(self, value: dict[str, Json]) -> T:
        try:
            return msgspec.convert(value, self._type)
        except msgspec.ValidationError as error:
            raise UnreadableBody(f"[1:1] [{self._shape.parser}] {error}") from error


GENERAL: Final = BodyDecoder(
    GeneralBody,
    Shape(
        GENERAL_PARSER,
        {
            "input": OneOf((_TEXT, _TEXTS)),
            "input_type": _TEXT,
            "query": _TEXT,
            "return_documents": _FLAG,
            "top_n": _INT,
            "task_settings": _MAP,
            "timeout": _TEXT,
        },
    ),
)
RERANK: Final = BodyDecoder(
    RerankBody,
    Shape(
        "RerankRequest",
        {
            "input": OneOf((_TEXT, _STRING, ListOf(OneOf((_TEXT, _STRING))))),
            "query": OneOf((_TEXT, _STRING)),
            "top_n": _INT,
            "return_documents": _FLAG,
            "task_settings": _MAP,
        },
        required=("input", "query"),
    ),
)
EMBEDDING: Final = BodyDecoder(
    EmbeddingBody,
    Shape(
        "EmbeddingRequest",
        {
            "input": OneOf((_TEXT, _CONTENT, ListOf(OneOf((_TEXT, _CONTENT))))),
            "input_type": _TEXT,
            "task_settings": _MAP,
        },
        required=("input",),
    ),
)
CHAT: Final = BodyDecoder(
    ChatBody,
    Shape(
        "UnifiedCompletionRequest",
        {
            "messages": ListOf(_MESSAGE),
            "model": _TEXT,
            "max_completion_tokens": _INT,
            "stop": _TEXTS,
            "temperature": _NUMBER,
            "top_p": _NUMBER,
            "tools": ListOf(_TOOL),
            "tool_choice": OneOf((_TEXT, _CHOICE)),
            "reasoning": Shape(
                "Reasoning",
                {"effort": _TEXT, "enabled": _FLAG, "exclude": _FLAG, "summary": _TEXT},
            ),
        },
        required=("messages",),
    ),
)
