"""Google AI Studio: embeddings and completions with Gemini.

The key travels in the header `x-goog-api-key`, never in the URL.

Source: https://ai.google.dev/api
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from inferry.calls import HttpCall, HttpReply
from inferry.domain import DenseEmbeddings, Endpoint, InferenceRequest, TaskType
from inferry.service import HttpTask, Service
from inferry.services.auth import header_key
from inferry.services.gemini.replies import decode_completion, parse_completion
from inferry.services.google_errors import google_errors
from inferry.services.inputs import input_words, prompt_of, texts_of
from inferry.services.openai_compatible.replies import error_message
from inferry.services.posting import post_json
from inferry.services.reading import decoded, unreadable_vectors
from inferry.services.settings import API_KEY, EMBEDDING, MODEL_ID, digest, rate_limit
from inferry.vectors import vector_from_json

_MODELS = "https://generativelanguage.googleapis.com/v1/models"
_TASK_TYPES = input_words("RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY", "CLASSIFICATION", "CLUSTERING")
_SETTINGS = (MODEL_ID, API_KEY, rate_limit(360))


class _Embedding(msgspec.Struct, frozen=True):
    values: msgspec.Raw


class _EmbeddingsReply(msgspec.Struct, frozen=True):
    embeddings: list[_Embedding]


_EMBEDDINGS = msgspec.json.Decoder(_EmbeddingsReply)


def build_embeddings(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts."""
    endpoint = request.endpoint
    settings = endpoint.service_settings
    asked = {
        "model": f"models/{settings['model_id']}",
        "taskType": _TASK_TYPES.get(request.input_type),
        "outputDimensionality": settings["dimensions"] if endpoint.dimensions_set_by_user else None,
    }
    present = {name: value for name, value in asked.items() if value is not None}
    requests = [
        {**present, "content": {"parts": [{"text": text}]}}
        for text in texts_of(request.inputs, service="googleaistudio")
    ]
    return post_json(_url(request, "batchEmbedContents"), {"requests": requests})


def build_completion(request: InferenceRequest) -> HttpCall:
    """Ask for an answer to one text."""
    prompt = prompt_of(request, title="Google AI Studio")
    body = {
        "contents": [{"role": "user", "parts": [{"text": prompt}]}],
        "generationConfig": {"candidateCount": 1},
    }
    method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    return post_json(_url(request, method), body)


def parse_embeddings(reply: HttpReply, request: InferenceRequest) -> DenseEmbeddings:
    """Read vectors; tokens are not counted."""
    parsed = decoded(_EMBEDDINGS, reply, request)
    with unreadable_vectors(reply, request):
        return DenseEmbeddings(
            tuple(vector_from_json(bytes(one.values)) for one in parsed.embeddings)
        )


def group(endpoint: Endpoint) -> str:
    """Endpoints of one model and one key share a rate limit."""
    key = digest(endpoint.secrets.get("api_key", ""))
    return f"googleaistudio:{endpoint.service_settings.get('model_id')}:{key}"


def _url(request: InferenceRequest, method: str) -> str:
    model = quote(str(request.endpoint.service_settings["model_id"]), safe="")
    return f"{_MODELS}/{model}:{method}"


SERVICE = Service(
    name="googleaistudio",
    title="Google AI Studio",
    auth=header_key("x-goog-api-key"),
    errors=google_errors("Google AI Studio"),
    error_message=error_message,
    group=group,
    requests_per_minute=360,
    tasks={
        TaskType.TEXT_EMBEDDING: HttpTask(
            build=build_embeddings,
            parse=parse_embeddings,
            service_settings=(*_SETTINGS, *EMBEDDING),
            max_batch=100,
            default_similarity="dot_product",
            input_types=frozenset(_TASK_TYPES),
        ),
        TaskType.COMPLETION: HttpTask(
            build=build_completion,
            parse=parse_completion,
            decode=decode_completion,
            service_settings=_SETTINGS,
        ),
    },
)
