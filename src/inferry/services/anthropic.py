"""Anthropic: completions and chat with Claude.

Source: https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

from dataclasses import replace

from inferry.calls import HttpCall
from inferry.domain import Endpoint, InferenceRequest, TaskType
from inferry.errors import Retry
from inferry.fields import Field
from inferry.service import ErrorRow, HttpTask, Service
from inferry.services.anthropic_messages.replies import (
    decode_chat,
    decode_completion,
    parse_chat,
    parse_completion,
)
from inferry.services.anthropic_messages.requests import messages_body
from inferry.services.auth import header_key
from inferry.services.error_rows import (
    NOT_AUTHENTICATED,
    OTHER_SERVER_ERROR,
    PERMISSION_DENIED,
    REDIRECTION,
    SERVER_ERROR,
    UNSUCCESSFUL,
)
from inferry.services.openai_compatible.chat import chat_of
from inferry.services.openai_compatible.replies import error_message
from inferry.services.posting import post_json
from inferry.services.settings import (
    API_KEY,
    MODEL_ID,
    TEMPERATURE,
    TOP_P,
    digest,
    rate_limit,
    segment_problems,
)

_URL = "https://api.anthropic.com/v1/messages"
_VERSION = "2023-06-01"

_SETTINGS = (
    MODEL_ID,
    Field("url", "url", help="URL of the messages route, in place of Anthropic's.", listed=False),
    Field(
        "anthropic_version",
        "str",
        help=f"Version of the API, {_VERSION} when not set.",
        listed=False,
    ),
    API_KEY,
    rate_limit(50),
)
_TASK_SETTINGS = (
    Field(
        "max_tokens",
        "int",
        label="Max Tokens",
        help="Most tokens to generate for one answer (kept in task_settings).",
        required=True,
        at_least=1,
    ),
    TEMPERATURE,
    Field("top_k", "int", help="How many of the likeliest tokens are drawn from.", listed=False),
    TOP_P,
)


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for a message; what the request leaves out is taken from the task settings."""
    settings, task = request.endpoint.service_settings, request.task_settings
    chat = chat_of(request, title="Anthropic")
    asked = {name: value for name, value in messages_body(chat).items() if value is not None}
    body = {
        "model": chat.model or settings["model_id"],
        "stream": True if request.stream else None,
        **task,
        **asked,
    }
    version = str(settings.get("anthropic_version", _VERSION))
    return post_json(str(settings.get("url", _URL)), body, headers={"anthropic-version": version})


def check(endpoint: Endpoint) -> list[str]:
    """Find a version that no header can carry."""
    return segment_problems(endpoint, ["anthropic_version"])


def group(endpoint: Endpoint) -> str:
    """Endpoints of one model and one key share a rate limit."""
    key = digest(endpoint.secrets.get("api_key", ""))
    return f"anthropic:{endpoint.service_settings.get('model_id')}:{key}"


_ERRORS = (
    SERVER_ERROR,
    ErrorRow(
        529, 529, "Received an Anthropic server is temporarily overloaded status code", Retry.YES
    ),
    OTHER_SERVER_ERROR,
    ErrorRow(
        429,
        429,
        "Received a rate limit status code. Token limit [{anthropic-ratelimit-tokens-limit}],"
        " remaining tokens [{anthropic-ratelimit-tokens-remaining}],"
        " tokens reset [{anthropic-ratelimit-tokens-reset}]."
        " Request limit [{anthropic-ratelimit-requests-limit}],"
        " remaining requests [{anthropic-ratelimit-requests-remaining}],"
        " request reset [{anthropic-ratelimit-requests-reset}]. Retry after [{retry-after}]",
        Retry.YES,
    ),
    PERMISSION_DENIED,
    NOT_AUTHENTICATED,
    REDIRECTION,
    UNSUCCESSFUL,
)

_CHAT = HttpTask(
    build=build_chat,
    parse=parse_chat,
    decode=decode_chat,
    service_settings=_SETTINGS,
    task_settings=_TASK_SETTINGS,
)

SERVICE = Service(
    name="anthropic",
    title="Anthropic",
    auth=header_key("x-api-key"),
    errors=_ERRORS,
    error_message=error_message,
    group=group,
    check=check,
    requests_per_minute=50,
    tasks={
        TaskType.COMPLETION: replace(_CHAT, parse=parse_completion, decode=decode_completion),
        TaskType.CHAT_COMPLETION: _CHAT,
    },
)
