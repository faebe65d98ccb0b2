"""Amazon Bedrock: embeddings of Amazon Titan and Cohere, completions and chat of six vendors.

Calls are signed with the keys of the endpoint only: no environment, profile file or instance role
is read. Signing needs the extra `aws`.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec

from inferry.calls import HttpCall, HttpReply
from inferry.domain import (
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    InputType,
    Json,
    Settings,
    TaskType,
    Usage,
)
from inferry.errors import InvalidRequest, InvalidSettings
from inferry.fields import Field
from inferry.service import HttpTask, ProviderError, Service
from inferry.services.auth import aws_signature
from inferry.services.converse.replies import (
    decode_chat,
    decode_completion,
    parse_chat,
    parse_completion,
)
from inferry.services.converse.requests import conversation_body
from inferry.services.error_rows import (
    NOT_AUTHENTICATED,
    NOT_FOUND,
    OTHER_SERVER_ERROR,
    PERMISSION_DENIED,
    RATE_LIMITED,
    REDIRECTION,
    SERVER_ERROR,
    UNAVAILABLE,
    UNSUCCESSFUL,
)
from inferry.services.inputs import input_words, texts_of
from inferry.services.openai_compatible.chat import chat_of
from inferry.services.posting import post_json
from inferry.services.reading import decoded, unreadable_vectors
from inferry.services.settings import (
    DIMENSIONS,
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
    MAX_NEW_TOKENS,
    SIMILARITY,
    TEMPERATURE,
    TOP_P,
    TRUNCATE,
    digest,
    rate_limit,
    segment_problems,
    step_problems,
)
from inferry.vectors import vector_from_json

_TITAN, _COHERE = "amazontitan", "cohere"
_EMBEDDING_PROVIDERS = (_TITAN, _COHERE)
# Where a model takes `top_k`, which Converse has no common name for.
_TOP_K_NAMES: Mapping[Json, str] = MappingProxyType(
    {"anthropic": "top_k", "mistral": "top_k", _COHERE: "k"}
)
_RESIZABLE = "amazon.titan-embed-text-v2"
_MAX_NEW_TOKENS = 64
_INPUT_WORDS = input_words("search_document", "search_query", "classification", "clustering")
_UNSPECIFIED = "search_document"  # no call is taken without an input type

_SETTINGS = (
    Field(
        "access_key",
        "str",
        label="Access Key",
        help="AWS access key with permission to call the service.",
        required=True,
        secret=True,
        updatable=True,
    ),
    Field(
        "secret_key",
        "str",
        label="Secret Key",
        help="AWS secret key that belongs to the access key.",
        required=True,
        secret=True,
        updatable=True,
    ),
    Field(
        "region",
        "str",
        label="Region",
        help="AWS region where the model or ARN is available.",
        required=True,
    ),
    Field(
        "model",
        "str",
        label="Model",
        help="Base model id, or the ARN of a custom model.",
        required=True,
    ),
    Field(
        "provider",
        "str",
        label="Provider",
        help="Vendor of the model, for example amazontitan, anthropic, cohere, meta, mistral or"
        " ai21labs.",
        required=True,
        choices=(_TITAN, "anthropic", "ai21labs", _COHERE, "meta", "mistral"),
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
_CHAT_TASK_SETTINGS = (
    replace(MAX_NEW_TOKENS, help=f"Most tokens to generate, {_MAX_NEW_TOKENS} when not set."),
    replace(TEMPERATURE, at_most=1),
    replace(TOP_P, at_most=1),
    Field(
        "top_k",
        "float",
        help="How many of the likeliest tokens are drawn from; models of Anthropic, Cohere and"
        " Mistral.",
        at_least=0,
        updatable=True,
        listed=False,
    ),
)


# --- requests ----------------------------------------------------------------------------------


def build_embeddings(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts, Titan for one at a time.

    Raises `InvalidSettings` and `InvalidRequest` for what the provider has no place for.
    """
    endpoint = request.endpoint
    settings = endpoint.service_settings
    _refuse_task_settings(request)
    texts = texts_of(request.inputs, service="amazonbedrock")
    if settings["provider"] == _COHERE:
        body = {
            "texts": texts,
            "input_type": _INPUT_WORDS.get(request.input_type, _UNSPECIFIED),
            "truncate": request.task_settings.get("truncate"),
        }
        return _post("invoke", request, body)
    if request.input_type in (InputType.CLASSIFICATION, InputType.CLUSTERING):
        raise InvalidRequest.of(
            [f"Input type [{request.input_type}] is not supported for [amazonbedrock]"]
        )
    (text,) = texts
    asked = settings.get("dimensions") if endpoint.dimensions_set_by_user else None
    return _post("invoke", request, {"inputText": text, "dimensions": asked})


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for an answer; what the request leaves out is taken from the task settings."""
    _refuse_task_settings(request)
    chat = chat_of(request, title="Amazon Bedrock")
    task = request.task_settings
    inference = {
        "maxTokens": task.get("max_new_tokens", _MAX_NEW_TOKENS),
        "temperature": task.get("temperature"),
        "topP": task.get("top_p"),
    }
    asked = {
        "maxTokens": chat.max_completion_tokens,
        "temperature": chat.temperature,
        "topP": chat.top_p,
        "stopSequences": chat.stop,
    }
    body = {
        **conversation_body(chat),
        "inferenceConfig": _present(inference) | _present(asked),
        "additionalModelRequestFields": _top_k(request) or None,
    }
    return _post("converse-stream" if request.stream else "converse", request, body)


def _top_k(request: InferenceRequest) -> dict[str, int]:
    top_k = request.task_settings.get("top_k")
    if not isinstance(top_k, int | float):
        return {}
    return {_TOP_K_NAMES[request.endpoint.service_settings["provider"]]: int(top_k)}


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _post(operation: str, request: InferenceRequest, body: Mapping[str, Any]) -> HttpCall:
    settings = request.endpoint.service_settings
    model = (request.chat.model if request.chat is not None else None) or settings["model"]
    origin = f"https://bedrock-runtime.{settings['region']}.amazonaws.com"
    return post_json(f"{origin}/model/{quote(str(model), safe='')}/{operation}", body)


# --- replies -----------------------------------------------------------------------------------


class _TitanReply(msgspec.Struct, frozen=True, rename="camel"):
    embedding: msgspec.Raw
    input_text_token_count: int | None = None


class _CohereReply(msgspec.Struct, frozen=True):
    """Vectors, or under the name of their type."""

    embeddings: list[msgspec.Raw] | dict[str, list[msgspec.Raw]]


class _ErrorBody(msgspec.Struct, frozen=True):
    """From the service in lower case, from the gateway before it in upper case."""

    message: str | None = None
    Message: str | None = None


_TITAN_REPLY = msgspec.json.Decoder(_TitanReply)
_COHERE_REPLY = msgspec.json.Decoder(_CohereReply)
_ERROR = msgspec.json.Decoder(_ErrorBody)


def parse_embeddings(reply: HttpReply, request: InferenceRequest) -> DenseEmbeddings:
    """Read vectors in the format of the provider."""
    usage = None
    if request.endpoint.service_settings["provider"] == _COHERE:
        found = decoded(_COHERE_REPLY, reply, request).embeddings
        rows = found if isinstance(found, list) else found.get("float", [])
    else:
        titan = decoded(_TITAN_REPLY, reply, request)
        rows, tokens = [titan.embedding], titan.input_text_token_count
        usage = None if tokens is None else Usage(input_tokens=tokens)
    with unreadable_vectors(reply, request):
        return DenseEmbeddings(tuple(vector_from_json(bytes(row)) for row in rows), usage=usage)


def error_message(reply: HttpReply) -> ProviderError:
    """Read what an error body says, and its kind from its header."""
    kind = reply.headers.get("x-amzn-errortype", "").partition(":")[0] or None
    try:
        body = _ERROR.decode(reply.body)
    except msgspec.MsgspecError:
        return ProviderError(kind=kind)
    return ProviderError(body.message or body.Message, kind=kind)


# --- settings ----------------------------------------------------------------------------------


def batch_of(endpoint: Endpoint) -> int:
    """Give the texts of one call: Titan takes one."""
    return 96 if endpoint.service_settings.get("provider") == _COHERE else 1


def check(endpoint: Endpoint) -> list[str]:
    """Find a provider without the task, and settings that it has no place for."""
    task_type, settings = endpoint.task_type, endpoint.service_settings
    problems = segment_problems(endpoint, ["region"]) + step_problems(endpoint, ["model"])
    provider = settings.get("provider")
    is_embedding = task_type is TaskType.TEXT_EMBEDDING
    if is_embedding and provider is not None and provider not in _EMBEDDING_PROVIDERS:
        problems.append(f"The [{task_type}] task type for provider [{provider}] is not available")
    if endpoint.dimensions_set_by_user and _RESIZABLE not in str(settings.get("model")):
        problems.append("[service_settings] does not allow the setting [dimensions]")
    return problems + _task_problems(endpoint, endpoint.task_settings)


def group(endpoint: Endpoint) -> str:
    """Endpoints of one pair of keys share a rate limit."""
    secrets = (endpoint.secrets.get(name, "") for name in ("access_key", "secret_key"))
    return f"amazonbedrock:{digest(*secrets)}"


def _task_problems(endpoint: Endpoint, task_settings: Settings) -> list[str]:
    provider = endpoint.service_settings.get("provider")
    if "truncate" in task_settings and provider != _COHERE:
        return [
            f"The [{endpoint.task_type}] task type for provider [{provider}] does not allow"
            " [truncate] field"
        ]
    if "top_k" in task_settings and provider not in _TOP_K_NAMES:
        return [f"The [top_k] task parameter is not available for provider [{provider}]"]
    return []


def _refuse_task_settings(request: InferenceRequest) -> None:
    problems = _task_problems(request.endpoint, request.task_settings)
    if problems:
        raise InvalidSettings.of(problems)


# --- the service -------------------------------------------------------------------------------

_ERRORS = (
    RATE_LIMITED,
    SERVER_ERROR,
    UNAVAILABLE,
    OTHER_SERVER_ERROR,
    PERMISSION_DENIED,
    NOT_FOUND,
    NOT_AUTHENTICATED,
    REDIRECTION,
    UNSUCCESSFUL,
)
_CHAT = HttpTask(
    build=build_chat,
    parse=parse_chat,
    decode=decode_chat,
    framing="aws",
    service_settings=_SETTINGS,
    task_settings=_CHAT_TASK_SETTINGS,
)

SERVICE = Service(
    name="amazonbedrock",
    title="Amazon Bedrock",
    auth=aws_signature("bedrock"),
    errors=_ERRORS,
    error_message=error_message,
    group=group,
    check=check,
    requests_per_minute=240,
    tasks={
        TaskType.TEXT_EMBEDDING: HttpTask(
            build=build_embeddings,
            parse=parse_embeddings,
            service_settings=_EMBEDDING_SETTINGS,
            task_settings=(TRUNCATE,),
            max_batch=96,
            batch_of=batch_of,
            default_similarity="cosine",
            input_types=frozenset(_INPUT_WORDS),
        ),
        TaskType.COMPLETION: replace(_CHAT, parse=parse_completion, decode=decode_completion),
        TaskType.CHAT_COMPLETION: _CHAT,
    },
)
