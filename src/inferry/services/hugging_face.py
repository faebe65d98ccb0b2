"""Hugging Face: an endpoint of its own per model, reached at its URL.

Text Embeddings Inference serves vectors and rerank, Text Generation Inference chats in OpenAI's
format.

Sources: https://huggingface.github.io/text-embeddings-inference,
https://huggingface.github.io/text-generation-inference
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import msgspec

from inferry.calls import HttpCall, HttpReply
from inferry.domain import (
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    RankedDocument,
    Ranking,
    SparseEmbeddings,
    TaskType,
)
from inferry.errors import UpstreamError
from inferry.fields import Field
from inferry.service import HttpTask, Service
from inferry.services.auth import bearer
from inferry.services.error_rows import (
    CONTENT_TOO_LARGE,
    NOT_AUTHENTICATED,
    OTHER_SERVER_ERROR,
    RATE_LIMITED,
    REDIRECTION,
    UNSUCCESSFUL,
)
from inferry.services.inputs import query_of, texts_of
from inferry.services.openai_compatible.chat import (
    chat_body,
    chat_of,
    decode_chat,
    decode_completion,
    parse_chat,
    parse_completion,
    with_max_tokens,
)
from inferry.services.openai_compatible.replies import encode_body, error_message
from inferry.services.posting import post_json
from inferry.services.reading import decoded, unreadable_vectors
from inferry.services.settings import (
    API_KEY,
    EMBEDDING,
    MODEL_ID,
    RETURN_DOCUMENTS,
    TOP_N,
    digest,
    rate_limit,
)
from inferry.vectors import vector_from_json

_CHAT_ROUTE = "/v1/chat/completions"

_SETTINGS = (
    replace(API_KEY, help="Hugging Face access token."),
    Field("url", "url", label="URL", help="URL of the inference endpoint.", required=True),
    rate_limit(3000),
)
_CHAT_SETTINGS = (
    *_SETTINGS,
    replace(
        MODEL_ID,
        help="Model name; only for chat and completion routes that serve several models.",
        required=False,
    ),
)


# --- requests ----------------------------------------------------------------------------------


def build_embeddings(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts, dense or sparse as the model is."""
    return post_json(_url_of(request), {"inputs": texts_of(request.inputs, service="hugging_face")})


def build_rerank(request: InferenceRequest) -> HttpCall:
    """Ask for the scores of documents."""
    body = {
        "texts": texts_of(request.inputs, service="hugging_face"),
        "query": query_of(request),
        "return_text": request.return_documents,
        "top_n": request.top_n,
    }
    return post_json(_url_of(request), body)


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for a chat completion; servers of one model need no name of it."""
    model = request.endpoint.service_settings.get("model_id")
    body = chat_body(
        chat_of(request, title="Hugging Face"),
        model=model if isinstance(model, str) else None,
        stream=request.stream,
        user=None,
        title="Hugging Face",
    )
    return HttpCall(
        "POST",
        _url_of(request),
        {"Content-Type": "application/json"},
        encode_body(with_max_tokens(body), request.extra),
    )


def _url_of(request: InferenceRequest) -> str:
    return str(request.endpoint.service_settings["url"])


# --- replies -----------------------------------------------------------------------------------

_AtLeastOne = msgspec.Meta(min_length=1)


class _Dense(msgspec.Struct, frozen=True):
    embeddings: Annotated[list[msgspec.Raw], _AtLeastOne]


class _Weight(msgspec.Struct, frozen=True):
    """The weight of a token that is known by its number."""

    index: int
    value: float


class _Rank(msgspec.Struct, frozen=True):
    index: int
    score: float
    text: str | None = None


_DENSE = msgspec.json.Decoder(Annotated[list[msgspec.Raw], _AtLeastOne] | _Dense)
_SPARSE = msgspec.json.Decoder(Annotated[list[dict[str, float] | list[_Weight]], _AtLeastOne])
_RANKING = msgspec.json.Decoder(Annotated[list[_Rank], _AtLeastOne])


def parse_dense(reply: HttpReply, request: InferenceRequest) -> DenseEmbeddings:
    """Read vectors, bare or under `embeddings`.

    Raises `UpstreamError` when there is a vector for every token instead of every text.
    """
    parsed = decoded(_DENSE, reply, request)
    rows = [bytes(row) for row in (parsed.embeddings if isinstance(parsed, _Dense) else parsed)]
    if rows[0].count(b"[") > 1:
        raise UpstreamError(
            "The endpoint at [url] of [service_settings] must pool: it gave a vector for every"
            " token instead of one for every text"
        )
    with unreadable_vectors(reply, request):
        return DenseEmbeddings(tuple(vector_from_json(row) for row in rows))


def parse_sparse(reply: HttpReply, request: InferenceRequest) -> SparseEmbeddings:
    """Read the weights of tokens, by name or, as Text Embeddings Inference says them, by number."""
    items = decoded(_SPARSE, reply, request)
    return SparseEmbeddings(tuple(_descending(item) for item in items))


def parse_rerank(reply: HttpReply, request: InferenceRequest) -> Ranking:
    """Read the scores of documents."""
    ranks = decoded(_RANKING, reply, request)
    return Ranking(tuple(RankedDocument(one.index, one.score, one.text) for one in ranks))


def _descending(item: dict[str, float] | list[_Weight]) -> dict[str, float]:
    if isinstance(item, list):
        item = {str(one.index): one.value for one in item}
    positive = [(token, weight) for token, weight in item.items() if weight > 0]
    return dict(sorted(positive, key=lambda one: -one[1]))


# --- settings ----------------------------------------------------------------------------------


def check(endpoint: Endpoint) -> list[str]:
    """Find the URL of a chat that is not one of a chat."""
    url = endpoint.service_settings.get("url")
    if not endpoint.task_type.is_generative or not isinstance(url, str) or _CHAT_ROUTE in url:
        return []
    return [
        f"[service_settings] Invalid value [{url}]. [url] must contain [{_CHAT_ROUTE}] for task"
        f" type [{endpoint.task_type}]"
    ]


def group(endpoint: Endpoint) -> str:
    """Endpoints of one URL and one key share a rate limit."""
    key = digest(endpoint.secrets.get("api_key", ""))
    return f"hugging_face:{endpoint.service_settings.get('url')}:{key}"


# --- the service -------------------------------------------------------------------------------

_ERRORS = (
    RATE_LIMITED,
    # A model that is being loaded, or has no room yet.
    replace(RATE_LIMITED, first=502, last=503),
    replace(OTHER_SERVER_ERROR, first=500),
    CONTENT_TOO_LARGE,
    NOT_AUTHENTICATED,
    REDIRECTION,
    UNSUCCESSFUL,
)
_CHAT = HttpTask(
    build=build_chat,
    parse=parse_chat,
    decode=decode_chat,
    service_settings=_CHAT_SETTINGS,
    forwards_extra=True,
)

SERVICE = Service(
    name="hugging_face",
    title="Hugging Face",
    auth=bearer,
    errors=_ERRORS,
    error_message=error_message,
    group=group,
    check=check,
    requests_per_minute=3000,
    tasks={
        TaskType.TEXT_EMBEDDING: HttpTask(
            build=build_embeddings,
            parse=parse_dense,
            service_settings=(*_SETTINGS, *EMBEDDING),
            max_batch=20,
            default_similarity="cosine",
        ),
        TaskType.SPARSE_EMBEDDING: HttpTask(
            build=build_embeddings,
            parse=parse_sparse,
            service_settings=(*_SETTINGS, *EMBEDDING),
            max_batch=1,
        ),
        TaskType.RERANK: HttpTask(
            build=build_rerank,
            parse=parse_rerank,
            service_settings=_SETTINGS,
            task_settings=(RETURN_DOCUMENTS, TOP_N),
        ),
        TaskType.COMPLETION: replace(_CHAT, parse=parse_completion, decode=decode_completion),
        TaskType.CHAT_COMPLETION: _CHAT,
    },
)
