"""Inputs of a request as the texts that most providers take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from inferry.domain import ContentItem, InferenceRequest, Input, InputType
from inferry.errors import BadRequest


def texts_of(inputs: Iterable[Input], *, service: str) -> list[str]:
    """Give `inputs` as texts. Raises `BadRequest` for what is not one text."""
    return [
        given if isinstance(given, str) else _text_of(given, f"input [{index}]", service)
        for index, given in enumerate(inputs)
    ]


def prompt_of(request: InferenceRequest, *, title: str) -> str:
    """Give the text of a completion.

    Raises `BadRequest` when it has other than one text; `title` goes into the message.
    """
    if len(request.inputs) != 1:
        raise BadRequest(f"{title} completions only accepts 1 input")
    (text,) = texts_of(request.inputs, service=request.endpoint.service)
    return text


def query_of(request: InferenceRequest) -> str:
    """Give the query of a rerank. Raises `BadRequest` when it is not one text."""
    query = request.query or ""
    return query if isinstance(query, str) else _text_of(query, "query", request.endpoint.service)


def input_words(
    ingest: str, search: str, classification: str, clustering: str
) -> Mapping[InputType, str]:
    """Give a provider's words for the types of input; what is unspecified has none."""
    return MappingProxyType(
        {
            InputType.INGEST: ingest,
            InputType.INTERNAL_INGEST: ingest,
            InputType.SEARCH: search,
            InputType.INTERNAL_SEARCH: search,
            InputType.CLASSIFICATION: classification,
            InputType.CLUSTERING: clustering,
        }
    )


def _text_of(items: tuple[ContentItem, ...], place: str, service: str) -> str:
    for item in items:
        if item.type != "text" or item.format != "text":
            raise BadRequest(
                f"The [{service}] service takes text only,"
                f" got type [{item.type}] and format [{item.format}] in {place}"
            )
    if len(items) != 1:
        raise BadRequest(
            f"The [{service}] service takes one text at a time, got [{len(items)}] items in {place}"
        )
    return items[0].value
