"""OpenAI, and every server that speaks its format at a `url`.

A `url` is the whole URL of the route and used as it is. OpenAI itself is asked for vectors in
base64, which is a quarter of the bytes and quick to read; a server at another `url` is not.

Source: https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from urllib.parse import urlsplit

import msgspec

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.domain import Endpoint, InferenceRequest, Settings, TaskType
from inferry.fields import Field, Problem, missing
from inferry.service import HttpTask, Service
from inferry.services.auth import bearer, oauth2_client_credentials
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
    USER,
    CallerSettings,
    caller_settings,
    fits_header,
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
    MODEL_ID,
    SCOPES,
    SIMILARITY,
    digest,
    rate_limit,
)

_EMBEDDINGS_URL = "https://api.openai.com/v1/embeddings"
_CHAT_URL = "https://api.openai.com/v1/chat/completions"

_URL = Field(
    "url",
    "url",
    label="URL",
    help="Absolute URL of the OpenAI compatible route; the OpenAI route of the task type when not"
    " set.",
)
_ORGANIZATION_ID = Field(
    "organization_id",
    "str",
    label="Organization ID",
    help="Organization that the requests are billed to.",
)
_RATES = "3000 for text_embedding and embedding, 500 for completion and chat_completion"
_CREDENTIALS = (
    CLIENT_ID,
    SCOPES,
    Field(
        "token_url",
        "url",
        label="Token URL",
        help="Token endpoint for the OAuth 2.0 flow.",
    ),
    replace(API_KEY, help="OpenAI API key; give either api_key or client_secret.", required=False),
    CLIENT_SECRET,
)
_EMBEDDING_SETTINGS = (
    MODEL_ID,
    _ORGANIZATION_ID,
    _URL,
    replace(SIMILARITY, default="dot_product"),
    DIMENSIONS,
    DIMENSIONS_SET_BY_USER,
    MAX_INPUT_TOKENS,
    rate_limit(3000, said=_RATES),
    *_CREDENTIALS,
)
_CHAT_SETTINGS = (
    MODEL_ID,
    _ORGANIZATION_ID,
    _URL,
    MAX_INPUT_TOKENS,
    rate_limit(500, said=_RATES),
    *_CREDENTIALS,
)
_TASK_SETTINGS = (USER, HEADERS)

_OAUTH_SETTINGS = ("client_id", "scopes", "token_url")
_OAUTH_GROUP = ("client_id", "client_secret", "scopes", "token_url")


class _ServiceSettings(msgspec.Struct, frozen=True, gc=False):
    model_id: str
    url: str | None = None
    organization_id: str | None = None
    dimensions: int | None = None


# --- requests ----------------------------------------------------------------------------------


def build_embeddings(request: InferenceRequest) -> HttpCall:
    """Ask for the embeddings of texts.

    Base64 is asked of OpenAI itself only: servers behind another `url` may not know it.
    """
    endpoint = request.endpoint
    settings = msgspec.convert(endpoint.service_settings, _ServiceSettings)
    task = caller_settings(request.task_settings)
    body = EmbeddingsBody(
        input=texts_of(request.inputs, service=endpoint.service),
        model=settings.model_id,
        user=task.user,
        dimensions=settings.dimensions if endpoint.dimensions_set_by_user else None,
        encoding_format=None if settings.url else "base64",
    )
    return _post(settings.url or _EMBEDDINGS_URL, encode_body(body, request.extra), settings, task)


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for a chat completion; a completion is a chat of one message."""
    settings = msgspec.convert(request.endpoint.service_settings, _ServiceSettings)
    task = caller_settings(request.task_settings)
    body = chat_body(
        chat_of(request, title="OpenAI"),
        model=settings.model_id,
        stream=request.stream,
        user=task.user,
        title="OpenAI",
    )
    return _post(settings.url or _CHAT_URL, encode_body(body, request.extra), settings, task)


def _post(url: str, body: bytes, settings: _ServiceSettings, task: CallerSettings) -> HttpCall:
    headers = {"Content-Type": "application/json"}
    if settings.organization_id is not None:
        headers["OpenAI-Organization"] = settings.organization_id
    return HttpCall("POST", url, with_headers(headers, task), body)


# --- settings ----------------------------------------------------------------------------------


def sign(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    """Sign with the API key, or with a token for the client credentials."""
    if "api_key" in endpoint.secrets:
        return bearer(call, endpoint, now)
    return oauth2_client_credentials(call, endpoint, now)


def check(endpoint: Endpoint) -> list[Problem]:
    """Find problems of credentials and of what goes into headers."""
    problems = _credential_problems(endpoint)
    organization = endpoint.service_settings.get("organization_id")
    if isinstance(organization, str) and not fits_header(organization):
        problems.append(
            f"[service_settings] Invalid value [{organization!a}]."
            " [organization_id] must be printable ASCII, since it travels in an HTTP header"
        )
    return [*problems, *header_problems(endpoint.task_settings.get("headers"))]


def group(endpoint: Endpoint) -> str:
    """Endpoints of one server, one model and one credential share a rate limit."""
    secrets = endpoint.secrets
    credential = secrets.get("api_key") or secrets.get("client_secret", "")
    server = urlsplit(str(endpoint.service_settings.get("url") or _CHAT_URL)).netloc
    account = digest(server, credential)
    return f"openai:{endpoint.service_settings.get('model_id')}:{account}"


def move_model(service_settings: Settings, task_settings: Settings) -> tuple[Settings, Settings]:
    """Move the model to where it is now: clients of 8.11 put it among the task settings."""
    found = [name for name in ("model_id", "model") if name in task_settings]
    if not found or "model_id" in service_settings:
        return service_settings, task_settings
    rest = {name: value for name, value in task_settings.items() if name not in found}
    return {**service_settings, "model_id": task_settings[found[0]]}, rest


def _credential_problems(endpoint: Endpoint) -> list[Problem]:
    given = {name for name in _OAUTH_SETTINGS if endpoint.service_settings.get(name)}
    if "client_secret" in endpoint.secrets:
        given.add("client_secret")
    has_key = "api_key" in endpoint.secrets
    lacking = [name for name in _OAUTH_GROUP if name not in given]
    if given and lacking:
        return [
            f"[service_settings] OAuth2 fields [{', '.join(_OAUTH_GROUP)}]"
            f" must be provided together; missing: [{', '.join(lacking)}]"
        ]
    if given and has_key:
        return [
            "[secret_settings] must have exactly one of [api_key] or [client_secret] field set,"
            " received: [api_key, client_secret]"
        ]
    if not given and not has_key:
        return [missing("service_settings", "api_key")]
    return []


# --- the service -------------------------------------------------------------------------------

_EMBEDDINGS = HttpTask(
    build=build_embeddings,
    parse=parse_embeddings,
    service_settings=_EMBEDDING_SETTINGS,
    task_settings=_TASK_SETTINGS,
    max_batch=2048,
    max_tokens=300_000,
    requests_per_minute=3000,
    default_similarity="dot_product",
    forwards_extra=True,
)
_CHAT = HttpTask(
    build=build_chat,
    parse=parse_chat,
    decode=decode_chat,
    service_settings=_CHAT_SETTINGS,
    task_settings=_TASK_SETTINGS,
    requests_per_minute=500,
    forwards_extra=True,
)

SERVICE = Service(
    name="openai",
    title="OpenAI",
    auth=sign,
    errors=ERRORS,
    error_message=error_message,
    group=group,
    check=check,
    adopt=move_model,
    tasks={
        TaskType.TEXT_EMBEDDING: _EMBEDDINGS,
        TaskType.EMBEDDING: _EMBEDDINGS,
        TaskType.COMPLETION: replace(_CHAT, parse=parse_completion, decode=decode_completion),
        TaskType.CHAT_COMPLETION: _CHAT,
    },
)
