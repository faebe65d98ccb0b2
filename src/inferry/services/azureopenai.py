"""Azure OpenAI: the models of OpenAI, each in a deployment of the customer's own.

Source: https://learn.microsoft.com/azure/ai-services/openai/reference
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from types import MappingProxyType
from urllib.parse import quote

import msgspec

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import Endpoint, InferenceRequest, TaskType
from inferry.fields import Field
from inferry.service import HttpTask, Service
from inferry.services.auth import bearer_token, entra_client_credentials, header_key
from inferry.services.inputs import texts_of
from inferry.services.openai_compatible.chat import (
    chat_body,
    chat_of,
    decode_chat,
    decode_completion,
    parse_chat,
    parse_completion,
)
from inferry.services.openai_compatible.embeddings import EmbeddingsBody, parse_embeddings
from inferry.services.openai_compatible.errors import ERRORS
from inferry.services.openai_compatible.replies import encode_body, error_message
from inferry.services.openai_compatible.task_settings import (
    HEADERS,
    OURS,
    USER,
    CallerSettings,
    caller_settings,
    header_problems,
    with_headers,
)
from inferry.services.settings import (
    API_KEY,
    CLIENT_ID,
    CLIENT_SECRET,
    DIMENSIONS,
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
    SCOPES,
    SIMILARITY,
    rate_limit,
    segment_problems,
)

_RATES = "1440 for text_embedding, 120 for completion and chat_completion"
_ADDRESS = (
    Field(
        "resource_name",
        "str",
        label="Resource Name",
        help="Name of the Azure OpenAI resource.",
        required=True,
    ),
    Field(
        "deployment_id",
        "str",
        label="Deployment ID",
        help="Name of the model deployment.",
        required=True,
    ),
    Field(
        "api_version",
        "str",
        label="API Version",
        help="Azure API version to call.",
        required=True,
    ),
    Field(
        "url",
        "url",
        help="Origin of the resource, in place of the one that its name gives.",
        listed=False,
    ),
)
_EXACTLY_ONE = "give exactly one of api_key, entra_id or client_secret."
_CREDENTIALS = (
    CLIENT_ID,
    SCOPES,
    Field(
        "tenant_id",
        "str",
        label="Tenant ID",
        help="Directory (tenant) id for the OAuth 2.0 flow.",
    ),
    replace(API_KEY, help=f"Key of the Azure OpenAI resource; {_EXACTLY_ONE}", required=False),
    Field(
        "entra_id",
        "str",
        label="Entra ID",
        help=f"Microsoft Entra access token; {_EXACTLY_ONE}",
        secret=True,
        updatable=True,
    ),
    CLIENT_SECRET,
)
_EMBEDDING_SETTINGS = (
    *_ADDRESS,
    DIMENSIONS,
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
    SIMILARITY,
    rate_limit(1440, said=_RATES),
    *_CREDENTIALS,
)
_CHAT_SETTINGS = (*_ADDRESS, rate_limit(120, said=_RATES), *_CREDENTIALS)
_TASK_SETTINGS = (USER, replace(HEADERS, listed=False))

_SIGN_BY = MappingProxyType(
    {
        "api_key": header_key("api-key"),
        "entra_id": bearer_token("entra_id"),
        "client_secret": entra_client_credentials("Azure OpenAI"),
    }
)
_OAUTH = ("client_id", "scopes", "tenant_id")
_OUR_HEADERS = OURS | {"api-key"}


class _ServiceSettings(msgspec.Struct, frozen=True, gc=False):
    resource_name: str
    deployment_id: str
    api_version: str
    url: str | None = None
    dimensions: int | None = None


# --- requests ----------------------------------------------------------------------------------


def build_embeddings(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts, in base64 unless another origin may not know it."""
    endpoint = request.endpoint
    settings = msgspec.convert(endpoint.service_settings, _ServiceSettings)
    task = caller_settings(request.task_settings, ours=_OUR_HEADERS)
    body = EmbeddingsBody(
        input=texts_of(request.inputs, service=endpoint.service),
        user=task.user,
        dimensions=settings.dimensions if endpoint.dimensions_set_by_user else None,
        encoding_format=None if settings.url else "base64",
    )
    return _post("embeddings", encode_body(body, request.extra), settings, task)


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for a chat completion; the deployment says which model answers."""
    settings = msgspec.convert(request.endpoint.service_settings, _ServiceSettings)
    task = caller_settings(request.task_settings, ours=_OUR_HEADERS)
    body = chat_body(
        chat_of(request, title="Azure OpenAI"),
        model=None,
        stream=request.stream,
        user=task.user,
        title="Azure OpenAI",
    )
    return _post("chat/completions", encode_body(body, request.extra), settings, task)


def _post(route: str, body: bytes, settings: _ServiceSettings, task: CallerSettings) -> HttpCall:
    origin = settings.url or f"https://{settings.resource_name}.openai.azure.com"
    deployment = quote(settings.deployment_id, safe="")
    version = quote(settings.api_version, safe="")
    return HttpCall(
        "POST",
        f"{origin.rstrip('/')}/openai/deployments/{deployment}/{route}?api-version={version}",
        with_headers({"Content-Type": "application/json"}, task),
        body,
    )


# --- settings ----------------------------------------------------------------------------------


def sign(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    """Sign with the key, with the token, or with one for the client credentials."""
    auth = next(_SIGN_BY[name] for name in _SIGN_BY if name in endpoint.secrets)
    return auth(call, endpoint, now)


def check(endpoint: Endpoint) -> list[str]:
    """Find problems of credentials and of what goes into the URL and headers."""
    return [
        *_credential_problems(endpoint),
        *segment_problems(endpoint, ("resource_name", "deployment_id", "tenant_id")),
        *header_problems(endpoint.task_settings.get("headers"), ours=_OUR_HEADERS),
    ]


def group(endpoint: Endpoint) -> str:
    """Endpoints of one deployment share a rate limit."""
    settings = endpoint.service_settings
    return f"azureopenai:{settings.get('resource_name')}:{settings.get('deployment_id')}"


def _credential_problems(endpoint: Endpoint) -> list[str]:
    received = [name for name in _SIGN_BY if name in endpoint.secrets]
    given = [name for name in _OAUTH if endpoint.service_settings.get(name)]
    missing = [name for name in _OAUTH if name not in given]
    problems = []
    if len(received) != 1:
        tail = f", received: [{', '.join(received)}]" if received else ""
        problems.append(
            "[secret_settings] must have exactly one of [api_key], [entra_id], or [client_secret]"
            f" field set{tail}"
        )
    if given and missing:
        problems.append(
            "[service_settings] all Azure OpenAI OAuth2 fields must be provided together;"
            f" missing: [{', '.join(missing)}]"
        )
    elif missing and received == ["client_secret"]:
        problems.append(f"OAuth2 requires the fields [{', '.join(_OAUTH)}], to be set.")
    elif given and received and "client_secret" not in received:
        problems.append(
            f"[service_settings] the OAuth2 fields [{', '.join(_OAUTH)}] need [client_secret],"
            f" received: [{', '.join(received)}]"
        )
    return problems


# --- the service -------------------------------------------------------------------------------

_RATE_LIMITED = (
    "Received a rate limit status code. Remaining tokens [{x-ratelimit-remaining-tokens}]."
    " Remaining requests [{x-ratelimit-remaining-requests}]."
)
_CHAT = HttpTask(
    build=build_chat,
    parse=parse_chat,
    decode=decode_chat,
    service_settings=_CHAT_SETTINGS,
    task_settings=_TASK_SETTINGS,
    requests_per_minute=120,
    forwards_extra=True,
)

SERVICE = Service(
    name="azureopenai",
    title="Azure OpenAI",
    auth=sign,
    errors=tuple(replace(row, text=_RATE_LIMITED) if row.first == 429 else row for row in ERRORS),
    error_message=error_message,
    group=group,
    check=check,
    tasks={
        TaskType.TEXT_EMBEDDING: HttpTask(
            build=build_embeddings,
            parse=parse_embeddings,
            service_settings=_EMBEDDING_SETTINGS,
            task_settings=_TASK_SETTINGS,
            max_batch=2048,
            max_tokens=300_000,
            requests_per_minute=1440,
            default_similarity="dot_product",
            forwards_extra=True,
        ),
        TaskType.COMPLETION: replace(_CHAT, parse=parse_completion, decode=decode_completion),
        TaskType.CHAT_COMPLETION: _CHAT,
    },
)
