"""Mistral: embeddings and chat in OpenAI's format, with a few words of its own.

Source: https://docs.mistral.ai/api
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from inferry.calls import HttpCall, HttpReply
from inferry.domain import Endpoint, InferenceRequest, Settings, TaskType
from inferry.service import HttpTask, ProviderError, Service
from inferry.services.auth import bearer
from inferry.services.inputs import texts_of
from inferry.services.openai_compatible import replies
from inferry.services.openai_compatible.chat import (
    chat_body,
    chat_of,
    decode_chat,
    decode_completion,
    parse_chat,
    parse_completion,
    with_max_tokens,
)
from inferry.services.openai_compatible.embeddings import EmbeddingsBody, parse_embeddings
from inferry.services.openai_compatible.errors import ERRORS
from inferry.services.settings import (
    API_KEY,
    DIMENSIONS,
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
    MODEL_ID,
    SIMILARITY,
    digest,
    rate_limit,
    renamed,
)

_ORIGIN = "https://api.mistral.ai"

_SETTINGS = (
    replace(MODEL_ID, name="model", label="Model", help="Mistral model to use."),
    API_KEY,
    rate_limit(240),
)
_EMBEDDING_SETTINGS = (
    *_SETTINGS,
    SIMILARITY,
    replace(DIMENSIONS, listed=False),
    DIMENSIONS_SET_BY_USER,
    replace(MAX_INPUT_TOKENS, listed=True),
)


def build_embeddings(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts."""
    body = EmbeddingsBody(
        input=texts_of(request.inputs, service="mistral"),
        model=_model_of(request),
        encoding_format="float",
    )
    return _post("embeddings", body, request)


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for a chat completion; the usage of a stream comes unasked."""
    body = chat_body(
        chat_of(request, title="Mistral"),
        model=_model_of(request),
        stream=request.stream,
        user=None,
        title="Mistral",
    )
    body = msgspec.structs.replace(with_max_tokens(body), stream_options=None)
    return _post("chat/completions", body, request)


def error_message(reply: HttpReply) -> ProviderError:
    """Read what an error body says; one in a form that we do not know speaks for itself."""
    said = replies.error_message(reply)
    if said.message is not None or reply.status < 300:
        return said
    return replace(said, message=reply.body.decode("utf-8", "replace").strip() or None)


def group(endpoint: Endpoint) -> str:
    """Endpoints of one model and one key share a rate limit."""
    key = digest(endpoint.secrets.get("api_key", ""))
    return f"mistral:{endpoint.service_settings.get('model')}:{key}"


def adopt(service_settings: Settings, task_settings: Settings) -> tuple[Settings, Settings]:
    """Take the model under the name that it has in other services, too."""
    return renamed(service_settings, "model_id", "model"), task_settings


def _model_of(request: InferenceRequest) -> str:
    return str(request.endpoint.service_settings["model"])


def _post(route: str, body: msgspec.Struct, request: InferenceRequest) -> HttpCall:
    return HttpCall(
        "POST",
        f"{_ORIGIN}/v1/{route}",
        {"Content-Type": "application/json"},
        replies.encode_body(body, request.extra),
    )


_CHAT = HttpTask(
    build=build_chat,
    parse=parse_chat,
    decode=decode_chat,
    service_settings=_SETTINGS,
    forwards_extra=True,
)

SERVICE = Service(
    name="mistral",
    title="Mistral",
    auth=bearer,
    errors=ERRORS,
    error_message=error_message,
    group=group,
    adopt=adopt,
    requests_per_minute=240,
    tasks={
        TaskType.TEXT_EMBEDDING: HttpTask(
            build=build_embeddings,
            parse=parse_embeddings,
            service_settings=_EMBEDDING_SETTINGS,
            max_batch=512,
            max_tokens=16_000,
            default_similarity="dot_product",
            forwards_extra=True,
        ),
        TaskType.COMPLETION: replace(_CHAT, parse=parse_completion, decode=decode_completion),
        TaskType.CHAT_COMPLETION: _CHAT,
    },
)
