"""Groq: open models that answer quickly, in OpenAI's format.

Source: https://console.groq.com/docs/api-reference
"""

from __future__ import annotations

from dataclasses import replace

from inferry.calls import HttpCall
from inferry.domain import Endpoint, InferenceRequest, TaskType
from inferry.service import HttpTask, Service
from inferry.services.auth import bearer
from inferry.services.openai_compatible.chat import (
    chat_body,
    chat_of,
    decode_chat,
    decode_completion,
    parse_chat,
    parse_completion,
)
from inferry.services.openai_compatible.errors import ERRORS
from inferry.services.openai_compatible.replies import encode_body, error_message
from inferry.services.settings import API_KEY, MODEL_ID, digest, rate_limit

_URL = "https://api.groq.com/openai/v1/chat/completions"


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for a chat completion."""
    body = chat_body(
        chat_of(request, title="Groq"),
        model=str(request.endpoint.service_settings["model_id"]),
        stream=request.stream,
        user=None,
        title="Groq",
    )
    headers = {"Content-Type": "application/json"}
    return HttpCall("POST", _URL, headers, encode_body(body, request.extra))


def group(endpoint: Endpoint) -> str:
    """Endpoints of one model and one key share a rate limit, as at the provider."""
    key = digest(endpoint.secrets.get("api_key", ""))
    return f"groq:{endpoint.service_settings.get('model_id')}:{key}"


_CHAT = HttpTask(
    build=build_chat,
    parse=parse_chat,
    decode=decode_chat,
    service_settings=(replace(MODEL_ID, help="Groq model to use."), API_KEY, rate_limit(1000)),
    forwards_extra=True,
)

SERVICE = Service(
    name="groq",
    title="Groq",
    auth=bearer,
    errors=ERRORS,
    error_message=error_message,
    group=group,
    requests_per_minute=1000,
    tasks={
        TaskType.COMPLETION: replace(_CHAT, parse=parse_completion, decode=decode_completion),
        TaskType.CHAT_COMPLETION: _CHAT,
    },
)
