"""Google Vertex AI: embeddings, the ranking API, and chat with Gemini and the Model Garden.

Source: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference and
https://cloud.google.com/generative-ai-app-builder/docs/ranking
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import msgspec

from inferry.calls import HttpCall, HttpReply
from inferry.domain import (
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    RankedDocument,
    Ranking,
    TaskType,
    Usage,
)
from inferry.fields import Field
from inferry.service import HttpTask, ProviderError, Service
from inferry.services.auth import google_service_account, service_account_problem
from inferry.services.google_errors import google_errors
from inferry.services.inputs import input_words, query_of, texts_of
from inferry.services.openai_compatible import replies
from inferry.services.posting import post_json
from inferry.services.reading import decoded, unreadable_vectors
from inferry.services.settings import (
    DIMENSIONS,
    DIMENSIONS_SET_BY_USER,
    INPUT_TYPE,
    MAX_INPUT_TOKENS,
    MODEL_ID,
    SIMILARITY,
    TOP_N,
    rate_limit,
    segment_problems,
    step_problems,
)
from inferry.services.vertex_chat import (
    PROVIDERS,
    build_chat,
    decode_chat,
    decode_completion,
    model_url,
    parse_chat,
    parse_completion,
)
from inferry.vectors import vector_from_json

_RANKING = "https://discoveryengine.googleapis.com/v1"
_TASK_TYPES = input_words("RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY", "CLASSIFICATION", "CLUSTERING")
_MAX_BATCH = 250

_PROJECT_ID = Field(
    "project_id",
    "str",
    label="GCP Project",
    help="Google Cloud project that has the API enabled.",
    required=True,
    shown_required=False,
)
_LOCATION = Field(
    "location",
    "str",
    label="GCP Region",
    help="Google Cloud region; without it the global endpoint is used.",
)
_MODEL_ID = replace(
    MODEL_ID,
    help="Model to use; optional for rerank and for third-party models.",
    shown_required=False,
)
_KEY = Field(
    "service_account_json",
    "str",
    label="Credentials JSON",
    help="Service account key, as JSON text.",
    required=True,
    secret=True,
    updatable=True,
)
_EMBEDDING_SETTINGS = (
    _PROJECT_ID,
    _LOCATION,
    _MODEL_ID,
    DIMENSIONS,
    Field(
        "max_batch_size",
        "int",
        label="Max Batch Size",
        help="Most inputs sent in one call when text is chunked.",
        at_least=1,
        at_most=_MAX_BATCH,
        updatable=True,
    ),
    SIMILARITY,
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
    _KEY,
    rate_limit(30000),
)
_RERANK_SETTINGS = (_PROJECT_ID, replace(_MODEL_ID, required=False), _KEY, rate_limit(300))
_CHAT_SETTINGS = (
    # `check` tells which of these go together.
    replace(_PROJECT_ID, required=False),
    _LOCATION,
    replace(_MODEL_ID, required=False),
    Field(
        "provider",
        "str",
        label="Model Garden Provider",
        help="Vendor of a Model Garden model: google, anthropic, meta, hugging_face, mistral or"
        " ai21.",
        choices=PROVIDERS,
    ),
    Field("url", "url", label="URL", help="Non-streaming URL of a Model Garden endpoint."),
    Field(
        "streaming_url",
        "url",
        label="Streaming URL",
        help="Streaming URL of a Model Garden endpoint.",
    ),
    _KEY,
    rate_limit(1000),
)
_CHAT_TASK_SETTINGS = (
    Field(
        "thinking_config.thinking_budget",
        "int",
        help="Tokens that Gemini may spend on thoughts.",
        listed=False,
    ),
    Field(
        "max_tokens",
        "int",
        help="Most tokens to generate for one answer, where a request does not say.",
        at_least=1,
        listed=False,
    ),
)


# --- requests ----------------------------------------------------------------------------------


def build_embeddings(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts."""
    endpoint = request.endpoint
    settings = endpoint.service_settings
    task_type = _TASK_TYPES.get(request.input_type)
    kind = {} if task_type is None else {"task_type": task_type}
    parameters = {
        "autoTruncate": request.task_settings.get("auto_truncate"),
        "outputDimensionality": settings["dimensions"] if endpoint.dimensions_set_by_user else None,
    }
    body = {
        "instances": [
            {"content": text, **kind} for text in texts_of(request.inputs, service="googlevertexai")
        ],
        "parameters": {name: value for name, value in parameters.items() if value is not None}
        or None,
    }
    return post_json(model_url(settings, str(settings["model_id"]), "predict"), body)


def build_rerank(request: InferenceRequest) -> HttpCall:
    """Ask for the places of documents; their ids are their places in the request."""
    settings = request.endpoint.service_settings
    wants_text = request.return_documents
    texts = texts_of(request.inputs, service="googlevertexai")
    body = {
        "model": settings.get("model_id"),
        "query": query_of(request),
        "records": [{"id": str(index), "content": text} for index, text in enumerate(texts)],
        "topN": request.top_n,
        "ignoreRecordDetailsInResponse": None if wants_text is None else not wants_text,
    }
    project = quote(str(settings["project_id"]), safe=":")
    config = f"projects/{project}/locations/global/rankingConfigs/default_ranking_config"
    return post_json(f"{_RANKING}/{config}:rank", body)


# --- replies -----------------------------------------------------------------------------------


class _Statistics(msgspec.Struct, frozen=True):
    truncated: bool = False
    token_count: float = 0


class _Embedding(msgspec.Struct, frozen=True):
    values: msgspec.Raw
    statistics: _Statistics = _Statistics()


class _Prediction(msgspec.Struct, frozen=True):
    embeddings: _Embedding


class _PredictReply(msgspec.Struct, frozen=True):
    predictions: list[_Prediction]


class _Record(msgspec.Struct, frozen=True):
    id: int
    score: float
    content: str | None = None


class _RankReply(msgspec.Struct, frozen=True):
    records: list[_Record]


_PREDICT = msgspec.json.Decoder(_PredictReply)
_RANK = msgspec.json.Decoder(_RankReply, strict=False)  # an id is a number in a string


def parse_embeddings(reply: HttpReply, request: InferenceRequest) -> DenseEmbeddings:
    """Read vectors, with the inputs that the provider has cut."""
    found = [one.embeddings for one in decoded(_PREDICT, reply, request).predictions]
    with unreadable_vectors(reply, request):
        vectors = tuple(vector_from_json(bytes(one.values)) for one in found)
    cut = tuple(index for index, one in enumerate(found) if one.statistics.truncated)
    tokens = int(sum(one.statistics.token_count for one in found))
    return DenseEmbeddings(vectors, usage=Usage(tokens), truncated=cut)


def parse_rerank(reply: HttpReply, request: InferenceRequest) -> Ranking:
    """Read the places of documents."""
    records = decoded(_RANK, reply, request).records
    return Ranking(tuple(RankedDocument(one.id, one.score, one.content) for one in records))


def error_message(reply: HttpReply) -> ProviderError:
    """Read what an error body says, Google's or that of a vendor in the Model Garden."""
    said = replies.error_message(reply)
    return said if said.kind else replace(said, kind="google_vertex_ai_error")


# --- settings ----------------------------------------------------------------------------------


def check(endpoint: Endpoint) -> list[str]:
    """Find what does not name a model, cannot stand in a URL, or is no key file."""
    problems = _model_problems(endpoint) if endpoint.task_type.is_generative else []
    problems += segment_problems(endpoint, ["location"])
    problems += step_problems(endpoint, ["project_id", "model_id"])
    secret = endpoint.secrets.get("service_account_json", "")
    is_here = secret and not secret.startswith("${")  # a reference is resolved later
    problem = service_account_problem(secret) if is_here else None
    return [*problems, problem] if problem else problems


def group(endpoint: Endpoint) -> str:
    """Endpoints of one model in one project share a rate limit, whatever the key."""
    settings, task_type = endpoint.service_settings, endpoint.task_type
    names = ["project_id"]
    if task_type is not TaskType.RERANK:
        names += ["location", "model_id", "url", "streaming_url"]
    kind = "chat" if task_type.is_generative else str(task_type)
    return ":".join(["googlevertexai", kind, *(str(settings.get(name, "")) for name in names)])


def batch_of(endpoint: Endpoint) -> int:
    """Give the inputs per call that the endpoint allows."""
    size = endpoint.service_settings.get("max_batch_size")
    return size if isinstance(size, int) else _MAX_BATCH


def _model_problems(endpoint: Endpoint) -> list[str]:
    settings = endpoint.service_settings
    provider = settings.get("provider")
    urls = [name for name in ("url", "streaming_url") if name in settings]
    if provider == "google" and urls:
        return [
            f"[service_settings] does not allow the setting [{name}] for the provider [google]"
            for name in urls
        ]
    if provider not in (None, "google"):
        is_complete = bool(urls)
    else:
        is_complete = not urls and {"project_id", "model_id"} <= settings.keys()
    if is_complete:
        return []
    given = ", ".join(
        f"{name} [{settings.get(name, 'null')}]" for name in ("location", "project_id", "model_id")
    )
    return [
        "For Google Model Garden, you must provide either provider with url and/or streaming_url."
        " For models of Google, you must provide project_id and model_id, and location unless the"
        f" global endpoint shall be used. Got {given}"
    ]


# --- the service -------------------------------------------------------------------------------

_CHAT = HttpTask(
    build=build_chat,
    parse=parse_chat,
    decode=decode_chat,
    service_settings=_CHAT_SETTINGS,
    task_settings=_CHAT_TASK_SETTINGS,
    requests_per_minute=1000,
)

SERVICE = Service(
    name="googlevertexai",
    title="Google Vertex AI",
    auth=google_service_account,
    errors=google_errors("Google Vertex AI"),
    error_message=error_message,
    group=group,
    check=check,
    tasks={
        TaskType.TEXT_EMBEDDING: HttpTask(
            build=build_embeddings,
            parse=parse_embeddings,
            service_settings=_EMBEDDING_SETTINGS,
            task_settings=(
                Field(
                    "auto_truncate",
                    "bool",
                    help="Whether the provider cuts texts that are too long.",
                    listed=False,
                ),
                INPUT_TYPE,
            ),
            max_batch=_MAX_BATCH,
            batch_of=batch_of,
            requests_per_minute=30000,
            default_similarity="dot_product",
            input_types=frozenset(_TASK_TYPES),
        ),
        TaskType.RERANK: HttpTask(
            build=build_rerank,
            parse=parse_rerank,
            service_settings=_RERANK_SETTINGS,
            task_settings=(TOP_N,),
            max_batch=200,
            requests_per_minute=300,
        ),
        TaskType.COMPLETION: replace(_CHAT, parse=parse_completion, decode=decode_completion),
        TaskType.CHAT_COMPLETION: _CHAT,
    },
)
