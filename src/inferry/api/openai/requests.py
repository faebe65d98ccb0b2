"""Bodies of OpenAI's calls, read into what the middle understands.

Specified by OpenAI's API reference for embeddings and chat completions. A parameter that the
unified schema knows becomes a field of the `Ask`; every other one goes on unchanged in `Ask.extra`,
so that new parameters of a provider need no release of ours. A member that is null was not sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from inferry.api.exchange import Request
from inferry.api.fast_json import decode_json
from inferry.api.strict_json import parse_object
from inferry.core.asking import Ask
from inferry.domain import Chat, InputType, Json, Message, Reasoning, Tool, ToolChoice
from inferry.errors import InvalidRequest

T = TypeVar("T")

DIALECT = "openai"

_AT_FIELD = re.compile(r"at `\$\.([a-z_]+)|missing required field `([a-z_]+)`$")
_NOT_TEXT = (
    "field [input] holds token ids, whose meaning only the tokenizer knows; send strings. "
    "In langchain-openai that is check_embedding_ctx_length=False"
)
# What these ask for has no place in an answer of ours; better to say so than to lose it silently.
_UNCARRIED = ("audio", "function_call", "functions", "top_logprobs")

Count = Annotated[int, Meta(ge=1)]


class EmbeddingsBody(msgspec.Struct, frozen=True):
    """Body of `POST /v1/embeddings`. `model` is an inference id."""

    model: str
    input: str | Annotated[list[str], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None
    input_type: str | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """Options of a stream."""

    include_usage: bool = False


class ChatBody(msgspec.Struct, frozen=True):
    """Body of `POST /v1/chat/completions`. `model` is an inference id."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: str | None = None
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    n: Count = 1
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingsCall:
    """What is asked, of which endpoint, and how the vectors go back."""

    model: str
    ask: Ask
    is_base64: bool
    dimensions: int | None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """What is asked, of which endpoint, and how the answer goes back.

    model: None where the path names the endpoint and the body does not.
    """

    model: str | None
    chat: Chat
    extra: Mapping[str, Json]
    is_stream: bool
    includes_usage: bool


async def read_members(request: Request) -> dict[str, Json]:
    """Decode the object in a body without the members that are null. Raises `UnreadableBody`."""
    given = await request.read(parse_object, quickly=_decode)
    return {name: value for name, value in given.items() if value is not None}


def _decode(body: bytes) -> dict[str, Json] | None:
    try:
        given = decode_json(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return given if isinstance(given, dict) else None


def read_embeddings(given: Mapping[str, Json]) -> EmbeddingsCall:
    """Read the members of `POST /v1/embeddings`. Raises `BadRequest` in several kinds."""
    if _holds_token_ids(given.get("input")):
        raise InvalidRequest(_NOT_TEXT, param="input")
    read = _convert(given, EmbeddingsBody)
    extra = _others(given, EmbeddingsBody)
    input_type = None if read.input_type is None else _input_type(read.input_type)
    inputs = (read.input,) if isinstance(read.input, str) else tuple(read.input)
    ask = Ask(inputs=inputs, input_type=input_type, extra=extra, dialect=DIALECT)
    return EmbeddingsCall(read.model, ask, read.encoding_format == "base64", read.dimensions)


def read_chat(given: Mapping[str, Json]) -> ChatCall:
    """Read the members of `POST /v1/chat/completions`. Raises `BadRequest` in several kinds."""
    _refuse_uncarried(given)
    read = _convert(given, ChatBody)
    if read.stream_options is not None and not read.stream:
        text = "field [stream_options] is only allowed when [stream] is true"
        raise InvalidRequest(text, param="stream_options")
    extra = _others(given, ChatBody)
    if read.n > 1:
        extra["n"] = read.n
    chat = Chat(
        messages=_carry("messages", read.messages, given, extra),
        max_completion_tokens=_max_tokens(read),
        stop=[read.stop] if isinstance(read.stop, str) else read.stop,
        temperature=read.temperature,
        top_p=read.top_p,
        tools=_carry("tools", _try_convert(read.tools, list[Tool]), given, extra),
        tool_choice=_carry(
            "tool_choice", _try_convert(read.tool_choice, str | ToolChoice), given, extra
        ),
        reasoning=_reasoning(read),
    )
    options = read.stream_options
    return ChatCall(
        read.model, chat, extra, read.stream, options is not None and options.include_usage
    )


def _convert(given: Mapping[str, Json], wanted: type[T]) -> T:
    try:
        return msgspec.convert(given, wanted)
    except msgspec.ValidationError as error:
        at = _AT_FIELD.search(str(error))
        param = (at[1] or at[2]) if at else None
        raise InvalidRequest(
            f"field [{param}] is not as it should be: {error}", param=param
        ) from error


def _try_convert(value: Any, wanted: Any) -> Any:
    """Give `value` as `wanted`, None when it does not have that form."""
    try:
        return msgspec.convert(value, wanted) if value is not None else None
    except msgspec.ValidationError:
        return None


def _others(given: Mapping[str, Json], body: type[msgspec.Struct]) -> dict[str, Json]:
    known = body.__struct_fields__
    return {name: value for name, value in given.items() if name not in known}


def _holds_token_ids(value: Json) -> bool:
    """Tell a list of token ids, or of such lists, from texts; the SDKs allow all three."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | list)


def _input_type(value: str) -> InputType:
    """Read our own extension of the call, for endpoints that tell a query from a document."""
    if value.startswith("internal_") or value not in set(InputType):
        raise InvalidRequest(f"Unrecognized input_type [{value}]", param="input_type")
    return InputType(value)


def _refuse_uncarried(given: Mapping[str, Json]) -> None:
    asked = [name for name in _UNCARRIED if name in given]
    if given.get("logprobs"):
        asked.append("logprobs")
    if given.get("modalities", ["text"]) != ["text"]:
        asked.append("modalities")
    if asked:
        text = f"field [{asked[0]}] asks for an answer that this server cannot give"
        raise InvalidRequest(text, param=asked[0])


def _max_tokens(read: ChatBody) -> int | None:
    new, old = read.max_completion_tokens, read.max_tokens
    if new is not None and old is not None and new != old:
        text = "field [max_tokens] is the old name of [max_completion_tokens]; send only one"
        raise InvalidRequest(text, param="max_tokens")
    return old if new is None else new


def _reasoning(read: ChatBody) -> Reasoning | None:
    if read.reasoning is None and read.reasoning_effort is not None:
        return Reasoning(effort=read.reasoning_effort)
    return read.reasoning


def _carry(name: str, typed: T, given: Mapping[str, Json], extra: dict[str, Json]) -> T:
    """Give `typed`, and pass the original on in `extra` when `typed` does not hold all of it."""
    original = given.get(name)
    if original is not None and _filled(msgspec.to_builtins(typed)) != _filled(original):
        extra[name] = original
    return typed


def _filled(value: Json) -> Json:
    """Leave out members that are null or empty: SDKs send back whole answers, full of them."""
    if isinstance(value, dict):
        filled = {name: _filled(inner) for name, inner in value.items()}
        return {name: inner for name, inner in filled.items() if inner not in (None, [], {})}
    if isinstance(value, list):
        return [_filled(inner) for inner in value]
    return value
