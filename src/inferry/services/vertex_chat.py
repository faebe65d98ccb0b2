"""Chat with the models of Vertex AI: Gemini, and others of the Model Garden.

A model of another vendor is called at the URL of its deployment, in that vendor's format.

Source: https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/use-partner-models
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

import msgspec

from inferry.calls import HttpCall, HttpReply
from inferry.domain import Chat, InferenceRequest, Result, Settings
from inferry.service import Build, Parse, Reduce
from inferry.services.anthropic_messages import replies as anthropic
from inferry.services.anthropic_messages.requests import messages_body
from inferry.services.completions import Decode
from inferry.services.gemini import replies as gemini
from inferry.services.gemini.requests import gemini_body
from inferry.services.openai_compatible import chat as openai
from inferry.services.posting import post_json

PROVIDERS = ("google", "anthropic", "meta", "hugging_face", "mistral", "ai21")

_TITLE = "Google Vertex AI"
_ANTHROPIC_VERSION = "vertex-2023-10-16"
_ANTHROPIC_MAX_TOKENS = 1024
_OLDER_WORDS = ("mistral", "ai21")
_MULTI_REGIONS = ("eu", "us")


class _ThinkingConfig(msgspec.Struct, frozen=True):
    thinking_budget: int | None = None


class _TaskSettings(msgspec.Struct, frozen=True):
    max_tokens: int | None = None
    thinking_config: _ThinkingConfig = _ThinkingConfig()


def model_url(settings: Settings, model: str, method: str) -> str:
    """Give the URL of a method of one of Google's own models."""
    location = str(settings.get("location", "global"))
    project = quote(str(settings["project_id"]), safe=":")
    return (
        f"https://{_host(location)}/v1/projects/{project}/locations/{location}"
        f"/publishers/google/models/{quote(model, safe='')}:{method}"
    )


def _host(location: str) -> str:
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


# --- requests ----------------------------------------------------------------------------------


def build_chat(request: InferenceRequest) -> HttpCall:
    """Ask for an answer, in the format of the endpoint's provider."""
    return _format_of(request).build(request)


def _build_gemini(request: InferenceRequest) -> HttpCall:
    settings = request.endpoint.service_settings
    chat = _limited_chat(request)
    budget = _task_settings(request).thinking_config.thinking_budget
    method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    url = model_url(settings, chat.model or str(settings["model_id"]), method)
    return post_json(url, gemini_body(chat, thinking_budget=budget))


def _build_anthropic(request: InferenceRequest) -> HttpCall:
    body = messages_body(_limited_chat(request))
    body["max_tokens"] = body["max_tokens"] or _ANTHROPIC_MAX_TOKENS
    stream = True if request.stream else None
    return post_json(
        _url(request), {"anthropic_version": _ANTHROPIC_VERSION, **body, "stream": stream}
    )


def _build_openai(request: InferenceRequest) -> HttpCall:
    settings = request.endpoint.service_settings
    model = settings.get("model_id")
    body = openai.chat_body(
        _limited_chat(request),
        model=None if model is None else str(model),
        stream=request.stream,
        user=None,
        title=_TITLE,
    )
    if settings["provider"] in _OLDER_WORDS:
        body = msgspec.structs.replace(openai.with_max_tokens(body), stream_options=None)
    return post_json(_url(request), msgspec.to_builtins(body))


def _limited_chat(request: InferenceRequest) -> Chat:
    """Give the conversation; how long the answer may be, the task settings say if it does not."""
    chat = openai.chat_of(request, title=_TITLE)
    limit = chat.max_completion_tokens or _task_settings(request).max_tokens
    return msgspec.structs.replace(chat, max_completion_tokens=limit)


def _task_settings(request: InferenceRequest) -> _TaskSettings:
    return msgspec.convert(request.task_settings, _TaskSettings)


def _url(request: InferenceRequest) -> str:
    """Give the URL of the mode that is asked for; where there is only one, it serves both."""
    settings = request.endpoint.service_settings
    names = ("streaming_url", "url") if request.stream else ("url", "streaming_url")
    return str(next(settings[name] for name in names if name in settings))


# --- replies -----------------------------------------------------------------------------------


def parse_chat(reply: HttpReply, request: InferenceRequest) -> Result:
    """Read a chat completion."""
    return _format_of(request).parse_chat(reply, request)


def parse_completion(reply: HttpReply, request: InferenceRequest) -> Result:
    """Read a chat completion as the texts that answer a completion call."""
    return _format_of(request).parse_completion(reply, request)


def decode_chat(request: InferenceRequest) -> Reduce:
    """Give the reducer of a chat stream."""
    return _format_of(request).decode_chat(request)


def decode_completion(request: InferenceRequest) -> Reduce:
    """Give the reducer of a completion stream."""
    return _format_of(request).decode_completion(request)


# --- formats -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Format:
    build: Build
    parse_chat: Parse
    parse_completion: Parse
    decode_chat: Decode
    decode_completion: Decode


_OPENAI = _Format(
    _build_openai,
    openai.parse_chat,
    openai.parse_completion,
    openai.decode_chat,
    openai.decode_completion,
)
_FORMATS: Mapping[str, _Format] = MappingProxyType(
    {
        "google": _Format(
            _build_gemini,
            gemini.parse_chat,
            gemini.parse_completion,
            gemini.decode_chat,
            gemini.decode_completion,
        ),
        "anthropic": _Format(
            _build_anthropic,
            anthropic.parse_chat,
            anthropic.parse_completion,
            anthropic.decode_chat,
            anthropic.decode_completion,
        ),
    }
)


def _format_of(request: InferenceRequest) -> _Format:
    provider = request.endpoint.service_settings.get("provider", "google")
    return _FORMATS.get(str(provider), _OPENAI)
