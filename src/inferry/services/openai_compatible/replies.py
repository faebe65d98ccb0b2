"""What OpenAI-compatible replies have in common: bodies with extra members, and errors.

Servers that copy the format put their error under `error`, there as a plain text, or flat.
"""

from __future__ import annotations

import re
from typing import Any, Protocol, TypeVar

import msgspec

from inferry.calls import HttpReply
from inferry.domain import InferenceRequest, Settings
from inferry.errors import Retry, UnreadableReply, UpstreamError
from inferry.service import ProviderError
from inferry.services.reading import decoded


class MayFail(Protocol):
    """A reply that may be an error after all."""

    @property
    def error(self) -> Any:
        """What stands under `error`, None in a success."""


T = TypeVar("T", bound=MayFail)


_CALLERS_OWN = ("messages", "n", "tool_choice", "tools", "user")


def encode_body(body: msgspec.Struct, extra: Settings) -> bytes:
    """Encode `body` with the caller's `extra` parameters.

    `n` and `user` may be the caller's own, and so may messages and tools, which are there when they
    hold more than the unified form does; what else `body` has stands.
    """
    if not extra:
        return msgspec.json.encode(body)
    members: dict[str, Any] = msgspec.to_builtins(body)
    own = {name: extra[name] for name in _CALLERS_OWN if name in extra}
    return msgspec.json.encode({**extra, **members, **own})


class _ErrorObject(msgspec.Struct, frozen=True):
    message: Any = None
    code: Any = None
    http_status_code: Any = None
    param: Any = None
    type: Any = None
    status: Any = None


class _ErrorBody(msgspec.Struct, frozen=True):
    """Nested under `error`, plain text there, or flat."""

    error: _ErrorObject | str | list[str] | None = None
    message: Any = None
    detail: Any = None
    code: Any = None
    param: Any = None
    type: Any = None
    error_type: Any = None


_ERROR = msgspec.json.Decoder(_ErrorBody | list[_ErrorBody])


def error_message(reply: HttpReply) -> ProviderError:
    """Read what an error body says."""
    return _provider_error(reply.body)


def decode_reply(
    decoder: msgspec.json.Decoder[T], reply: HttpReply, request: InferenceRequest
) -> T:
    """Decode a 2xx body that may be an error object after all.

    Raises `UnreadableReply` when it is neither, `UpstreamError` when it is one.
    """
    parsed = decoded(decoder, reply, request)
    if parsed.error:
        raise _received_error(_provider_error(reply.body), request, upstream_status=reply.status)
    return parsed


def missing_field(field: str, answer: str, reply: HttpReply) -> UnreadableReply:
    """Give the error for an answer that lacks what it must have."""
    return UnreadableReply(
        f"Failed to find required field [{field}] in OpenAI {answer} response",
        upstream_status=reply.status,
        retry=Retry.YES,
    )


def stream_error(text: str, request: InferenceRequest) -> UpstreamError:
    """Give the error for an event that is one, or that is no chunk."""
    said = _provider_error(text.encode())
    status = int(said.code or 0) if re.fullmatch("[45][0-9][0-9]", said.code or "") else None
    error = _received_error(said, request, upstream_status=status)
    error.code = said.code or "stream_error"
    return error


def _received_error(
    said: ProviderError, request: InferenceRequest, *, upstream_status: int | None
) -> UpstreamError:
    tail = f". Error message: [{said.message}]" if said.message else ""
    return UpstreamError(
        "Received an error response for request from inference entity id"
        f" [{request.endpoint.inference_id}]{tail}",
        upstream_status=upstream_status,
        code=said.code,
        param=said.param,
        kind=said.kind,
    )


def _provider_error(body: bytes) -> ProviderError:
    try:
        parsed = _ERROR.decode(body)
    except msgspec.MsgspecError:
        return ProviderError()
    if isinstance(parsed, list):  # Google wraps some of its errors
        parsed = parsed[0] if parsed else _ErrorBody()
    if isinstance(parsed.error, str | list):
        texts = [parsed.error] if isinstance(parsed.error, str) else parsed.error
        return ProviderError("; ".join(texts), kind=_text(parsed.type or parsed.error_type))
    said = parsed.error or _ErrorObject(
        parsed.message or parsed.detail, parsed.code, param=parsed.param, type=parsed.type
    )
    code = said.http_status_code if said.code is None else said.code
    kind = said.status if said.type is None else said.type
    return ProviderError(_text(said.message), _text(code), _text(said.param), _text(kind))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
