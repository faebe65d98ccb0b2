"""From the body of a POST `_inference` to what is asked, whatever endpoint it is for.

Parsers and their refusals are those of upstream: one per kind of task, all problems of a body
together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

from inferry.api.elastic.bodies import (
    CHAT,
    EMBEDDING,
    GENERAL,
    GENERAL_PARSER,
    RERANK,
    ChatBody,
    ContentObject,
    EmbeddingBody,
    GeneralBody,
    InferenceString,
    RerankBody,
)
from inferry.api.exchange import Request
from inferry.api.parameters import parse_timeout
from inferry.api.strict_json import position_of
from inferry.core.inference import Ask
from inferry.domain import NO_SETTINGS, ContentItem, Input, InputType, TaskType
from inferry.errors import IllegalArgument, InvalidRequest, UnreadableBody

_CALLERS_INPUT_TYPES: Final = {
    value.value: value for value in InputType if not value.value.startswith("internal_")
}
_FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text",),
    "image": ("base64",),
    "audio": ("base64",),
    "video": ("base64",),
    "pdf": ("base64",),
}
_RANKED_TYPES: Final = ("text", "image")
_DATA_URI: Final = re.compile(r"data:[^/,;]+/[^,;]+;base64")
_LONGEST_URI_HEAD: Final = 256
_NULL, _EMPTY = "Field [{}] cannot be null", "Field [{}] cannot be an empty array"
_NOT_FOR_TASK: Final = "Field [{}] cannot be specified for task type [{}]"


async def read_ask(
    request: Request,
    task_type: TaskType,
    asked: TaskType | None,
    time_limit: tuple[float, str] | None,
) -> Ask:
    """Read a body with the parser of `task_type`.

    asked: the type in the URL, if any; some fields are refused only then. time_limit: of the URL,
    which wins over the body's. Raises `MissingBody`, `UnreadableBody`, `IllegalArgument` and
    `InvalidRequest`.
    """
    match task_type:
        case TaskType.RERANK:
            return _rerank_ask(await RERANK.decode(request), time_limit)
        case TaskType.EMBEDDING:
            content = await EMBEDDING.decode(request)
            input_type = await _input_type(content.input_type, request, "EmbeddingRequest")
            return _embedding_ask(content, input_type, time_limit)
        case TaskType.CHAT_COMPLETION:
            return _chat_ask(await CHAT.decode(request), time_limit)
    given = await GENERAL.decode(request)
    input_type = await _input_type(given.input_type, request, GENERAL_PARSER)
    return _general_ask(given, input_type, (task_type, asked), time_limit)


def _general_ask(
    given: GeneralBody,
    input_type: InputType | None,
    task_types: tuple[TaskType, TaskType | None],
    time_limit: tuple[float, str] | None,
) -> Ask:
    task_type, asked = task_types
    problems = []
    if given.input is None:
        problems.append(_NULL.format("input"))
    elif not given.input and isinstance(given.input, list):
        problems.append(_EMPTY.format("input"))
    if given.query is not None and task_type.is_chunkable:
        problems.append(_NOT_FOR_TASK.format("query", task_type))
    if given.return_documents is not None:
        problems.append(_NOT_FOR_TASK.format("return_documents", task_type))
    if given.top_n is not None:
        problems.append(_NOT_FOR_TASK.format("top_n", task_type))
    if input_type not in (None, InputType.UNSPECIFIED) and asked not in (
        None,
        TaskType.TEXT_EMBEDDING,
    ):
        problems.append(_NOT_FOR_TASK.format("input_type", asked))
    if problems or given.input is None:
        raise InvalidRequest.of(problems)
    if time_limit is None and given.timeout is not None:
        time_limit = parse_timeout(given.timeout)
    inputs = (given.input,) if isinstance(given.input, str) else tuple(given.input)
    return Ask(
        inputs=inputs,
        query=given.query,
        input_type=input_type,
        task_settings=given.task_settings or NO_SETTINGS,
        timeout=time_limit,
    )


def _rerank_ask(given: RerankBody, time_limit: tuple[float, str] | None) -> Ask:
    problems = []
    inputs = given.input if isinstance(given.input, list) else [given.input]
    if given.input is None:
        problems.append(_NULL.format("input"))
    elif not inputs:
        problems.append(_EMPTY.format("input"))
    for index, item in enumerate(inputs):
        if isinstance(item, InferenceString) and item.type not in _RANKED_TYPES:
            problems.append(
                f"Field [input] contains unsupported [type] value {item.type} at index {index}"
            )
    if given.query is None:
        problems.append(_NULL.format("query"))
    elif isinstance(given.query, InferenceString) and given.query.type not in _RANKED_TYPES:
        problems.append(f"Field [query] contains unsupported [type] value {given.query.type}")
    elif not (given.query if isinstance(given.query, str) else given.query.value):
        problems.append("Field [query] cannot be empty")
    if given.top_n is not None and given.top_n < 1:
        problems.append("Field [top_n] must be greater than or equal to 1")
    if problems or given.query is None:
        raise InvalidRequest.of(problems)
    return Ask(
        inputs=tuple([_content((item,)) for item in inputs if item is not None]),
        query=_content((given.query,)),
        top_n=given.top_n,
        return_documents=given.return_documents,
        task_settings=given.task_settings or NO_SETTINGS,
        timeout=time_limit,
    )


def _embedding_ask(
    given: EmbeddingBody, input_type: InputType | None, time_limit: tuple[float, str] | None
) -> Ask:
    inputs = given.input if isinstance(given.input, list) else [given.input]
    if given.input is None:
        raise InvalidRequest.of([_NULL.format("inputs")])
    contents = [_parts_of(item) for item in inputs if item is not None]
    if not contents or not all(contents):
        raise InvalidRequest.of([_EMPTY.format("inputs")])
    return Ask(
        inputs=tuple([_content(parts) for parts in contents]),
        input_type=input_type,
        task_settings=given.task_settings or NO_SETTINGS,
        timeout=time_limit,
    )


def _chat_ask(given: ChatBody, time_limit: tuple[float, str] | None) -> Ask:
    if given.messages is None:
        raise InvalidRequest.of([_NULL.format("messages")])
    if not given.messages:
        raise InvalidRequest.of([_EMPTY.format("messages")])
    return Ask(chat=given, timeout=time_limit)


async def _input_type(given: str | None, request: Request, parser: str) -> InputType | None:
    if given is None:
        return None
    found = _CALLERS_INPUT_TYPES.get(given.lower())
    if found is None:
        where = await request.read(partial(position_of, path=("input_type",)))
        text = f"{where} [{parser}] failed to parse field [input_type]"
        raise UnreadableBody(text) from IllegalArgument(f"Unrecognized input_type [{given}]")
    return found


def _parts_of(item: str | ContentObject) -> tuple[str | InferenceString, ...]:
    """List what together gives one vector."""
    if isinstance(item, str):
        return (item,)
    content = item.content
    return (content,) if isinstance(content, InferenceString) else tuple(content)


def _content(parts: tuple[str | InferenceString, ...]) -> Input:
    """Give an input in its simplest form: a single text is a string."""
    items = [part if isinstance(part, str) else _item(part) for part in parts]
    if len(items) == 1:
        only = items[0]
        if isinstance(only, str):
            return only
        return only.value if only.type == "text" else (only,)
    return tuple(ContentItem("text", "text", it) if isinstance(it, str) else it for it in items)


def _item(given: InferenceString) -> ContentItem:
    """Check type, format and value against each other, and fill in the format."""
    name = given.type.lower()
    formats = _FORMATS.get(name)
    if formats is None:
        known = ", ".join(_FORMATS)
        raise IllegalArgument(f"Unrecognized type [{given.type}], must be one of [{known}]")
    data_format = (given.format or formats[0]).lower()
    if data_format not in formats:
        raise IllegalArgument(
            f"Data type [{name}] does not support data format [{data_format}], "
            f"supported formats are [{', '.join(formats)}]"
        )
    if data_format == "base64":
        head, comma, _ = given.value[:_LONGEST_URI_HEAD].partition(",")
        if not comma or not _DATA_URI.fullmatch(head):
            raise IllegalArgument(
                "base64 inputs must be specified as data URIs with the format "
                "[data:{MIME-type};base64,...]"
            )
    return ContentItem(name, data_format, given.value)
