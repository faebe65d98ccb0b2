"""Azure AI Studio: models of many vendors, deployed behind a target URL of the customer's own.

A deployment is billed by tokens (`endpoint_type` `token`) or by the hour (`realtime`); the two have
formats of their own.

Source: https://learn.microsoft.com/rest/api/aifoundry/modelinference
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import (
    Completion,
    Endpoint,
    InferenceRequest,
    InputType,
    RankedDocument,
    Ranking,
    Settings,
    TaskType,
)
from inferry.errors import StreamingNotAllowed
from inferry.fields import Field
from inferry.service import HttpTask, Service
from inferry.services.auth import bearer, header_key, secret_for_header
from inferry.services.error_rows import UNSUCCESSFUL
from inferry.services.inputs import prompt_of, query_of, texts_of
from inferry.services.openai_compatible.chat import decode_completion, parse_completion
from inferry.services.openai_compatible.embeddings import EmbeddingsBody, parse_embeddings
from inferry.services.openai_compatible.errors import OLDER_ERRORS
from inferry.services.openai_compatible.replies import encode_body, error_message
from inferry.services.openai_compatible.task_settings import USER
from inferry.services.posting import post_json
from inferry.services.reading import decoded
from inferry.services.settings import (
    API_KEY,
    DIMENSIONS,
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
    MAX_NEW_TOKENS,
    RETURN_DOCUMENTS,
    SIMILARITY,
    TEMPERATURE,
    TOP_N,
    TOP_P,
    digest,
    rate_limit,
)

_OFFERED: Mapping[TaskType, Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        TaskType.TEXT_EMBEDDING: {"token": frozenset({"openai", "cohere"})},
        TaskType.COMPLETION: {
            "token": frozenset({"openai", "meta", "cohere"}),
            "realtime": frozenset({"mistral", "meta", "microsoft_phi", "databricks"}),
        },
        TaskType.RERANK: {"token": frozenset({"cohere"})},
    }
)
"""The providers of a task, by `endpoint_type`."""

# Cohere's models tell queries and documents apart.
_INPUT_WORDS: Mapping[InputType, str] = MappingProxyType(
    {
        InputType.INGEST: "document",
        InputType.INTERNAL_INGEST: "document",
        InputType.SEARCH: "query",
        InputType.INTERNAL_SEARCH: "query",
    }
)

_SETTINGS = (
    replace(API_KEY, help="Key of the model deployment."),
    Field(
        "target",
        "url",
        label="Target",
        help="Target URL of the model deployment.",
        required=True,
    ),
    Field(
        "provider",
        "str",
        label="Provider",
        help="Vendor of the deployed model.",
        required=True,
        choices=("cohere", "databricks", "meta", "microsoft_phi", "mistral", "openai"),
    ),
    Field(
        "endpoint_type",
        "str",
        label="Endpoint Type",
        help="How the deployment is billed: token (pay per token) or realtime (per hour).",
        required=True,
        choices=("token", "realtime"),
    ),
    rate_limit(240),
)
_EMBEDDING_SETTINGS = (
    *_SETTINGS,
    DIMENSIONS,
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
    SIMILARITY,
)
_COMPLETION_TASK_SETTINGS = (
    replace(TEMPERATURE, at_most=2),
    replace(TOP_P, at_most=2),
    Field(
        "do_sample",
        "bool",
        help="Whether tokens are drawn at all; sent to realtime deployments.",
        updatable=True,
        listed=False,
    ),
    MAX_NEW_TOKENS,
)


class _ServiceSettings(msgspec.Struct, frozen=True, gc=False):
    target: str
    provider: str
    endpoint_type: str
    dimensions: int | None = None

    @property
    def is_realtime(self) -> bool:
        return self.endpoint_type == "realtime"

    def url(self, route: str) -> str:
        if self.provider == "openai" or self.is_realtime:
            return self.target
        return f"{self.target.rstrip('/')}/v1/{route}"


class _EmbeddingsBody(EmbeddingsBody, frozen=True):
    input_type: str | None = None


# --- requests ----------------------------------------------------------------------------------


def build_embeddings(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts."""
    endpoint = request.endpoint
    settings = _settings_of(endpoint)
    user = request.task_settings.get("user")
    is_cohere = settings.provider == "cohere"
    body = _EmbeddingsBody(
        input=texts_of(request.inputs, service=endpoint.service),
        user=user if isinstance(user, str) else None,
        dimensions=settings.dimensions if endpoint.dimensions_set_by_user else None,
        input_type=_INPUT_WORDS.get(request.input_type) if is_cohere else None,
    )
    headers = {"Content-Type": "application/json"}
    return HttpCall("POST", settings.url("embeddings"), headers, encode_body(body, request.extra))


def build_rerank(request: InferenceRequest) -> HttpCall:
    """Ask for the places of documents."""
    body = {
        "documents": texts_of(request.inputs, service="azureaistudio"),
        "query": query_of(request),
        "return_documents": request.return_documents,
        "top_n": request.top_n,
    }
    return post_json(_settings_of(request.endpoint).url("rerank"), body)


def build_completion(request: InferenceRequest) -> HttpCall:
    """Ask for an answer to one text.

    Raises `StreamingNotAllowed` for a stream of a realtime deployment, which gives whole answers.
    """
    settings = _settings_of(request.endpoint)
    messages = [{"content": prompt_of(request, title="Azure AI Studio"), "role": "user"}]
    task = request.task_settings
    if not settings.is_realtime:
        body: dict[str, Any] = {
            "messages": messages,
            "temperature": task.get("temperature"),
            "top_p": task.get("top_p"),
            "max_tokens": task.get("max_new_tokens"),
            "stream": request.stream or None,
        }
        return post_json(settings.url("chat/completions"), body)
    if request.stream:
        raise StreamingNotAllowed(
            "Streaming is not allowed for service [azureaistudio] and endpoint type [realtime]"
        )
    names = ("temperature", "top_p", "do_sample", "max_new_tokens")
    parameters = {name: task[name] for name in names if name in task}
    asked = {"input_string": messages} | ({"parameters": parameters} if parameters else {})
    return post_json(settings.target, {"input_data": asked})


def _settings_of(endpoint: Endpoint) -> _ServiceSettings:
    return msgspec.convert(endpoint.service_settings, _ServiceSettings)


# --- replies -----------------------------------------------------------------------------------


class _RealtimeReply(msgspec.Struct, frozen=True):
    output: str


class _Document(msgspec.Struct, frozen=True):
    text: str | None = None


class _Place(msgspec.Struct, frozen=True):
    index: int
    relevance_score: float
    document: _Document = _Document()


class _RerankReply(msgspec.Struct, frozen=True):
    results: list[_Place]


_REALTIME = msgspec.json.Decoder(_RealtimeReply)
_RERANK = msgspec.json.Decoder(_RerankReply)


def parse_answer(reply: HttpReply, request: InferenceRequest) -> Completion:
    """Read the text of an answer, in the format of the endpoint's type."""
    if not _settings_of(request.endpoint).is_realtime:
        return parse_completion(reply, request)
    return Completion((decoded(_REALTIME, reply, request).output,))


def parse_rerank(reply: HttpReply, request: InferenceRequest) -> Ranking:
    """Read the places of documents."""
    places = decoded(_RERANK, reply, request).results
    return Ranking(
        tuple(RankedDocument(one.index, one.relevance_score, one.document.text) for one in places)
    )


# --- settings ----------------------------------------------------------------------------------


def sign(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    """Sign with the key in the header, and the form, that the deployment takes."""
    settings = endpoint.service_settings
    if settings["provider"] == "openai":
        return header_key("api-key")(call, endpoint, now)
    if settings["endpoint_type"] == "realtime":
        return bearer(call, endpoint, now)
    return _bare_key(call, endpoint, now)


def _bare_key(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    """Send the key alone; as a bearer token where that is refused."""
    yield from ()
    key = secret_for_header(endpoint)
    has_scheme = " " in key
    otherwise = None if has_scheme else {"Authorization": f"Bearer {key}"}
    return Credential({"Authorization": key}, math.inf, otherwise)


def check(endpoint: Endpoint) -> list[str]:
    """Find a provider that does not offer the task, or not with this type of endpoint."""
    task_type, settings = endpoint.task_type, endpoint.service_settings
    provider, endpoint_type = settings.get("provider"), settings.get("endpoint_type")
    if provider is None or endpoint_type is None:
        return []
    offered = _OFFERED[task_type]
    if not any(provider in providers for providers in offered.values()):
        return [f"The [{task_type}] task type for provider [{provider}] is not available"]
    if provider not in offered.get(str(endpoint_type), ()):
        return [
            f"The [{endpoint_type}] endpoint type with [{task_type}] task type for provider"
            f" [{provider}] is not available"
        ]
    return []


def group(endpoint: Endpoint) -> str:
    """Endpoints of one deployment and one key share a rate limit."""
    settings = endpoint.service_settings
    names = (settings.get(name) for name in ("target", "provider", "endpoint_type"))
    return (
        f"azureaistudio:{':'.join(map(str, names))}:{digest(endpoint.secrets.get('api_key', ''))}"
    )


def adopt(service_settings: Settings, task_settings: Settings) -> tuple[Settings, Settings]:
    """Take `do_sample` as a number, too, as some clients send it."""
    do_sample = task_settings.get("do_sample")
    if isinstance(do_sample, int | float):
        task_settings = {**task_settings, "do_sample": bool(do_sample)}
    return service_settings, task_settings


# --- the service -------------------------------------------------------------------------------

SERVICE = Service(
    name="azureaistudio",
    title="Azure AI Studio",
    auth=sign,
    errors=(*OLDER_ERRORS, UNSUCCESSFUL),
    error_message=error_message,
    group=group,
    check=check,
    adopt=adopt,
    requests_per_minute=240,
    tasks={
        TaskType.TEXT_EMBEDDING: HttpTask(
            build=build_embeddings,
            parse=parse_embeddings,
            service_settings=_EMBEDDING_SETTINGS,
            task_settings=(USER,),
            max_batch=16,
            default_similarity="dot_product",
            forwards_extra=True,
        ),
        TaskType.RERANK: HttpTask(
            build=build_rerank,
            parse=parse_rerank,
            service_settings=_SETTINGS,
            task_settings=(RETURN_DOCUMENTS, TOP_N),
        ),
        TaskType.COMPLETION: HttpTask(
            build=build_completion,
            parse=parse_answer,
            decode=decode_completion,
            service_settings=_SETTINGS,
            task_settings=_COMPLETION_TASK_SETTINGS,
        ),
    },
)
