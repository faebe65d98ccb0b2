"""Cohere: embeddings as floats, bytes or bits, rerank and completions, in version 2 of its API.

Source: https://docs.cohere.com/reference
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec

from inferry.calls import Event, HttpCall, HttpReply
from inferry.domain import (
    ChatChoice,
    ChatChunk,
    ChatDelta,
    Completion,
    DenseEmbeddings,
    ElementType,
    Endpoint,
    InferenceRequest,
    RankedDocument,
    Ranking,
    Settings,
    TaskType,
    Usage,
)
from inferry.errors import UnreadableReply, UpstreamError
from inferry.fields import Field, Missing, Problem
from inferry.service import ErrorRow, HttpTask, Reduce, Service
from inferry.services.auth import bearer
from inferry.services.error_rows import (
    NOT_AUTHENTICATED,
    OTHER_SERVER_ERROR,
    RATE_LIMITED,
    REDIRECTION,
    SERVER_ERROR,
    UNSUCCESSFUL,
)
from inferry.services.inputs import input_words, prompt_of, query_of, texts_of
from inferry.services.openai_compatible.replies import error_message, stream_error
from inferry.services.posting import post_json
from inferry.services.reading import decoded, unreadable_vectors
from inferry.services.settings import (
    API_KEY,
    EMBEDDING,
    INPUT_TYPE,
    MODEL_ID,
    RETURN_DOCUMENTS,
    TOP_N,
    TRUNCATE,
    digest,
    rate_limit,
    renamed,
)
from inferry.vectors import byte_vector_from_json, vector_from_json

_INPUT_WORDS = input_words("search_document", "search_query", "classification", "clustering")
_BAD_ENDS = ("ERROR", "ERROR_LIMIT", "ERROR_TOXIC", "TIMEOUT")
_UNSPECIFIED = "search_query"  # no call is taken without an input type
_ELEMENTS: Mapping[str, tuple[str, ElementType]] = MappingProxyType(
    {
        "float": ("float", ElementType.FLOAT),
        "int8": ("int8", ElementType.BYTE),
        "byte": ("int8", ElementType.BYTE),
        "binary": ("binary", ElementType.BIT),
        "bit": ("binary", ElementType.BIT),
    }
)
"""By `embedding_type`: its name on the provider's wire, and what the elements are."""

_SETTINGS = (
    # `check` says in the provider's words that it is required.
    replace(MODEL_ID, required=False, shown_required=True),
    Field("url", "url", help="Origin of the API, in place of the provider's.", listed=False),
    API_KEY,
    rate_limit(10000),
)
_EMBEDDING_SETTINGS = (
    *_SETTINGS,
    Field(
        "embedding_type",
        "str",
        help="What the elements of the vectors are.",
        choices=tuple(_ELEMENTS),
        default="float",
        listed=False,
    ),
    *EMBEDDING,
)
_MAX_CHUNKS_PER_DOC = Field(
    "max_chunks_per_doc",
    "int",
    help="Kept for older clients; this version of the API has no place for it.",
    at_least=1,
    updatable=True,
    listed=False,
)


# --- requests ----------------------------------------------------------------------------------


def build_embed(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts."""
    wire_name, _ = _element(request)
    body = {
        "texts": texts_of(request.inputs, service="cohere"),
        "input_type": _INPUT_WORDS.get(request.input_type, _UNSPECIFIED),
        "embedding_types": [wire_name],
        "truncate": request.task_settings.get("truncate"),
    }
    return _post("embed", request, body)


def build_rerank(request: InferenceRequest) -> HttpCall:
    """Ask for the places of documents; their texts never come back, so we add them."""
    body = {
        "query": query_of(request),
        "documents": texts_of(request.inputs, service="cohere"),
        "top_n": request.top_n,
    }
    return _post("rerank", request, body)


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for an answer to one text."""
    prompt = prompt_of(request, title="Cohere")
    body = {"messages": [{"role": "user", "content": prompt}], "stream": request.stream}
    return _post("chat", request, body)


def _element(request: InferenceRequest) -> tuple[str, ElementType]:
    return _ELEMENTS[str(request.endpoint.service_settings.get("embedding_type", "float"))]


def _post(route: str, request: InferenceRequest, body: dict[str, Any]) -> HttpCall:
    settings = request.endpoint.service_settings
    origin = str(settings.get("url", "https://api.cohere.ai")).rstrip("/")
    return post_json(
        f"{origin}/v2/{route}",
        {"model": settings["model_id"], **body},
        headers={"Request-Source": "unspecified:inferry"},
    )


# --- replies -----------------------------------------------------------------------------------


class _Tokens(msgspec.Struct, frozen=True):
    """Counts; they are written as floats."""

    input_tokens: float = 0
    output_tokens: float = 0


class _Usage(msgspec.Struct, frozen=True):
    """Tokens of a chat; of embeddings those that are paid for, which is all of them."""

    tokens: _Tokens | None = None
    billed_units: _Tokens | None = None


class _EmbedReply(msgspec.Struct, frozen=True):
    embeddings: dict[str, list[msgspec.Raw] | None]
    meta: _Usage | None = None


class _RerankReply(msgspec.Struct, frozen=True):
    results: list[RankedDocument]


class _Content(msgspec.Struct, frozen=True):
    text: str | None = None


class _Message(msgspec.Struct, frozen=True):
    """Of a whole answer with all contents, of a delta with a piece of one."""

    content: list[_Content] | _Content | None = None

    @property
    def text(self) -> str | None:
        """The first text; thoughts may stand before it."""
        contents = self.content if isinstance(self.content, list) else [self.content]
        return next((one.text for one in contents if one and one.text is not None), None)


class _ChatReply(msgspec.Struct, frozen=True):
    message: _Message
    usage: _Usage | None = None


class _Delta(msgspec.Struct, frozen=True):
    message: _Message = _Message()
    finish_reason: str | None = None
    error: str | None = None
    usage: _Usage | None = None


class _StreamEvent(msgspec.Struct, frozen=True):
    type: str
    delta: _Delta = _Delta()


_EMBED = msgspec.json.Decoder(_EmbedReply)
_RERANK = msgspec.json.Decoder(_RerankReply)
_CHAT = msgspec.json.Decoder(_ChatReply)
_EVENT = msgspec.json.Decoder(_StreamEvent)


def parse_embed(reply: HttpReply, request: InferenceRequest) -> DenseEmbeddings:
    """Read vectors of the element type that was asked for."""
    parsed = decoded(_EMBED, reply, request)
    wire_name, element_type = _element(request)
    rows = parsed.embeddings.get(wire_name)
    if rows is None:
        raise UnreadableReply(
            "Failed to find a supported embedding type in the Cohere embeddings response."
            " Supported types are [binary, float, int8]"
        )
    read = vector_from_json if element_type is ElementType.FLOAT else byte_vector_from_json
    with unreadable_vectors(reply, request):
        vectors = tuple(read(bytes(row)) for row in rows)
    return DenseEmbeddings(vectors, element_type, _usage(parsed.meta))


def parse_rerank(reply: HttpReply, request: InferenceRequest) -> Ranking:
    """Read the places of documents."""
    return Ranking(tuple(decoded(_RERANK, reply, request).results))


def parse_chat(reply: HttpReply, request: InferenceRequest) -> Completion:
    """Read the text of an answer."""
    parsed = decoded(_CHAT, reply, request)
    text = parsed.message.text
    if text is None:
        raise UnreadableReply("Failed to find required field [text] in Cohere chat response")
    return Completion((text,), _usage(parsed.usage))


def decode_chat(request: InferenceRequest) -> Reduce:
    """Give the reducer of a stream; it keeps no state."""

    def reduce(event: Event) -> tuple[ChatChunk, ...] | None:
        if event.data == "[DONE]":
            return None
        try:
            parsed = _EVENT.decode(event.data)
        except msgspec.MsgspecError as error:
            raise stream_error(event.data, request) from error
        delta = parsed.delta
        if parsed.type == "message-end":
            if delta.finish_reason in _BAD_ENDS:
                reason = delta.error or delta.finish_reason
                raise UpstreamError(f"Cohere stopped the stream due to an error: {reason}")
            return (ChatChunk("", [], usage=_usage(delta.usage)),)
        if parsed.type != "content-delta" or not delta.message.text:
            return ()
        return (ChatChunk("", [ChatChoice(ChatDelta(content=delta.message.text))]),)

    return reduce


def _usage(usage: _Usage | None) -> Usage | None:
    counted = (usage.tokens or usage.billed_units) if usage else None
    return Usage(int(counted.input_tokens), int(counted.output_tokens)) if counted else None


# --- settings ----------------------------------------------------------------------------------


def check(endpoint: Endpoint) -> list[Problem]:
    """Find a missing model."""
    if "model_id" in endpoint.service_settings:
        return []
    text = "The [service_settings.model_id] field is required for the Cohere V2 API."
    return [Missing(("model_id",), text)]


def group(endpoint: Endpoint) -> str:
    """Endpoints of one key share a rate limit."""
    return f"cohere:{digest(endpoint.secrets.get('api_key', ''))}"


def adopt(service_settings: Settings, task_settings: Settings) -> tuple[Settings, Settings]:
    """Take the model under its older name, and compare bits by their distance."""
    settings = renamed(service_settings, "model", "model_id")
    embedding_type = settings.get("embedding_type")
    if isinstance(embedding_type, str) and embedding_type.strip().lower() in ("binary", "bit"):
        settings = {"similarity": "l2_norm", **settings}
    return settings, task_settings


# --- the service -------------------------------------------------------------------------------

_ERRORS = (
    SERVER_ERROR,
    OTHER_SERVER_ERROR,
    RATE_LIMITED,
    ErrorRow(
        400,
        400,
        "Received a texts array too large response",
        contains="invalid request: total number of texts must be at most",
    ),
    NOT_AUTHENTICATED,
    REDIRECTION,
    UNSUCCESSFUL,
)

SERVICE = Service(
    name="cohere",
    title="Cohere",
    auth=bearer,
    errors=_ERRORS,
    error_message=error_message,
    group=group,
    check=check,
    adopt=adopt,
    requests_per_minute=10000,
    tasks={
        TaskType.TEXT_EMBEDDING: HttpTask(
            build=build_embed,
            parse=parse_embed,
            service_settings=_EMBEDDING_SETTINGS,
            task_settings=(INPUT_TYPE, TRUNCATE),
            max_batch=96,
            default_similarity="dot_product",
            input_types=frozenset(_INPUT_WORDS),
        ),
        TaskType.RERANK: HttpTask(
            build=build_rerank,
            parse=parse_rerank,
            service_settings=_SETTINGS,
            task_settings=(RETURN_DOCUMENTS, TOP_N, _MAX_CHUNKS_PER_DOC),
        ),
        TaskType.COMPLETION: HttpTask(
            build=build_chat, parse=parse_chat, decode=decode_chat, service_settings=_SETTINGS
        ),
    },
)
