"""Errors in the words of Elasticsearch: one table from class to status and type, one envelope.

Chat completions have an envelope of their own, shaped like OpenAI's.
"""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from inferry import errors
from inferry.api.exchange import Answer, Request
from inferry.domain import Json
from inferry.errors import InferenceError, cause_of

CHALLENGES: Final = (
    'Basic realm="security", charset="UTF-8"',
    'Bearer realm="security"',
    "ApiKey",
)


class Rendering(NamedTuple):
    """How a class of errors looks. type: None for errors that are only a text."""

    status: int
    type: str | None


RENDERINGS: Final[dict[type[InferenceError], Rendering]] = {
    errors.InferenceError: Rendering(500, "exception"),
    errors.BadRequest: Rendering(400, "status_exception"),
    errors.InvalidSettings: Rendering(400, "validation_exception"),
    errors.InvalidRequest: Rendering(400, "action_request_validation_exception"),
    errors.UnreadableBody: Rendering(400, "x_content_parse_exception"),
    errors.MissingBody: Rendering(400, "parse_exception"),
    errors.IllegalArgument: Rendering(400, "illegal_argument_exception"),
    errors.UnacceptableMediaType: Rendering(400, "media_type_header_exception"),
    errors.UnsupportedMediaType: Rendering(406, None),
    errors.UnusableModel: Rendering(400, "status_exception"),
    errors.NoSuchPackage: Rendering(400, "status_exception"),
    errors.NoHandler: Rendering(400, None),
    errors.NotFound: Rendering(404, "resource_not_found_exception"),
    errors.NotDeployed: Rendering(404, "resource_not_found_exception"),
    errors.AlreadyExists: Rendering(400, "resource_already_exists_exception"),
    errors.Conflict: Rendering(409, "status_exception"),
    errors.VersionConflict: Rendering(409, "version_conflict_engine_exception"),
    errors.NotAuthenticated: Rendering(401, "security_exception"),
    errors.LockedOut: Rendering(429, "security_exception"),
    errors.NotAuthorized: Rendering(403, "security_exception"),
    errors.RegionDenied: Rendering(403, "status_exception"),
    errors.MethodNotAllowed: Rendering(405, None),
    errors.StreamingNotAllowed: Rendering(405, "status_exception"),
    errors.BodyTooLarge: Rendering(413, "status_exception"),
    errors.DeadlineExceeded: Rendering(429, "timeout_exception"),
    errors.StillStarting: Rendering(408, "status_exception"),
    errors.LimitExceeded: Rendering(429, "es_rejected_execution_exception"),
    errors.StartFailed: Rendering(500, "status_exception"),
    errors.QueueFull: Rendering(429, "es_rejected_execution_exception"),
    errors.WorkerLost: Rendering(500, "status_exception"),
    errors.ShuttingDown: Rendering(429, "es_rejected_execution_exception"),
    errors.UpstreamError: Rendering(400, "status_exception"),
    errors.UpstreamUnreachable: Rendering(502, "status_exception"),
    errors.UnreadableReply: Rendering(500, "status_exception"),
    errors.ValidationCallFailed: Rendering(400, "status_exception"),
    errors.StoreFailure: Rendering(500, "status_exception"),
    errors.SecretsUnreadable: Rendering(500, "status_exception"),
    errors.InternalError: Rendering(500, "exception"),
    errors.ForeignError: Rendering(500, "exception"),
}
_VERSION_WITH_408 = 8
_UPPER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UNSAFE_IN_NAME = re.compile(r"[^a-z0-9_]")


def rendering_of(error: InferenceError, compatible_with: int | None = None) -> Rendering:
    """Give the status and the type of `error` for a caller of that version."""
    rendering = next(RENDERINGS[cls] for cls in type(error).__mro__ if cls in RENDERINGS)
    match error:
        case errors.ForeignError():
            return rendering._replace(type=snake_case(error.type_name))
        case errors.DeadlineExceeded() if compatible_with == _VERSION_WITH_408:
            return Rendering(408, "status_exception")
        case errors.UpstreamUnreachable() | errors.UnreadableReply():
            return rendering
        case errors.UpstreamError(upstream_status=int(status)) if 300 <= status < 500:
            return rendering._replace(status=status)
        case errors.ValidationCallFailed() if (cause := cause_of(error)) is not None:
            status = rendering_of(cause, compatible_with).status
            return rendering._replace(status=status) if 400 <= status < 500 else rendering
    return rendering


def render_error(error: InferenceError, request: Request) -> Answer:
    """Answer with the standard envelope."""
    rendering = rendering_of(error, request.compatible_with)
    body: dict[str, Json]
    if rendering.type is None:
        body = {"error": error.message}
        if not isinstance(error, errors.NoHandler):
            body["status"] = rendering.status
    else:
        body = envelope(error, request)
    return Answer(msgspec.json.encode(body), rendering.status, headers=headers_of(error))


def envelope(error: InferenceError, request: Request) -> dict[str, Json]:
    """Give the document with `error` and `status`."""
    shown = _described(error, request)
    root = error
    while (cause := cause_of(root)) is not None and not isinstance(cause, errors.ForeignError):
        root = cause
    described = shown if root is error else _described(root, request)
    root_cause = {name: value for name, value in described.items() if name != "caused_by"}
    status = rendering_of(error, request.compatible_with).status
    return {"error": {"root_cause": [root_cause], **shown}, "status": status}


def render_chat_error(error: InferenceError, request: Request) -> Answer:
    """Answer with the envelope of chat completions."""
    status = rendering_of(error, request.compatible_with).status
    body = msgspec.json.encode(chat_envelope(error, request))
    return Answer(body, status, headers=headers_of(error))


def chat_envelope(error: InferenceError, request: Request) -> dict[str, Json]:
    """Give the document of chat completions: the provider's own words where it had some."""
    status, name = rendering_of(error, request.compatible_with)
    code: str | None = _code(status)
    param = None
    if isinstance(error, errors.UpstreamError):
        code, param, name = error.code or code, error.param, error.kind or name
    shown = {
        "code": code,
        "message": _reason(error, request),
        "param": param,
        "type": name or "status_exception",
    }
    return {"error": {name: value for name, value in shown.items() if value is not None}}


def headers_of(error: InferenceError) -> dict[str, str | tuple[str, ...]]:
    """Give the headers that go with `error`."""
    headers: dict[str, str | tuple[str, ...]] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    match error:
        case errors.NotAuthenticated():
            headers["WWW-Authenticate"] = CHALLENGES
        case errors.MethodNotAllowed():
            headers["Allow"] = error.allowed
    upstream = error
    while isinstance(upstream, errors.ValidationCallFailed) and (cause := cause_of(upstream)):
        upstream = cause
    if isinstance(upstream, errors.UpstreamError) and upstream.upstream_status is not None:
        headers["X-Inferry-Upstream-Status"] = str(upstream.upstream_status)
    return headers


def snake_case(name: str) -> str:
    """Write the name of an exception class as the wire does: `os_error`."""
    return _UNSAFE_IN_NAME.sub("_", _UPPER.sub("_", name).lower())


def _described(error: InferenceError, request: Request) -> dict[str, Json]:
    """Give `type`, `reason` and what follows them, causes included."""
    name = rendering_of(error, request.compatible_with).type or "status_exception"
    reason = _reason(error, request)
    described: dict[str, Json] = {"type": name, "reason": reason}
    if isinstance(error, errors.NotAuthenticated):
        if error.detail is not None:
            described["additional_unsuccessful_credentials"] = error.detail
        described["header"] = {"WWW-Authenticate": list(CHALLENGES)}
        return described
    cause = cause_of(error)
    if cause is not None and _is_shown(cause, error):
        described["caused_by"] = _described(cause, request)
    if request.query.get("error_trace") in ("", "true"):
        described["stack_trace"] = f"{name}: {reason}"
    return described


def _is_shown(cause: InferenceError, error: InferenceError) -> bool:
    """Tell whether a cause is for callers: what a library said is, where a connection failed."""
    return isinstance(error, errors.UpstreamError) or not isinstance(cause, errors.ForeignError)


def _reason(error: InferenceError, request: Request) -> str:
    if isinstance(error, errors.DeadlineExceeded) and request.compatible_with == _VERSION_WITH_408:
        return f"Request timed out after [{error.timeout}]"
    return error.message


def _code(status: int) -> str:
    """Name a status in lower snake case: `too_many_requests`."""
    try:
        return HTTPStatus(status).name.lower()
    except ValueError:
        return str(status)
