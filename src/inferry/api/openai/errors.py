"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}` and a status.

The SDKs choose their exception by the status, and repeat 408, 409, 429 and 5xx by themselves. So a
provider's 5xx is 502 or 504 here, never ours; everything else keeps the provider's status.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from inferry import errors
from inferry.api.exchange import Answer, Request
from inferry.errors import (
    InferenceError,
    InvalidRequest,
    MethodNotAllowed,
    NotAuthenticated,
    UpstreamError,
)


class Words(NamedTuple):
    """How one class of errors is told: the status, and OpenAI's `type` and `code`."""

    status: int
    type: str
    code: str | None = None


WORDS: Mapping[type[InferenceError], Words] = MappingProxyType(
    {
        errors.InferenceError: Words(500, "server_error", "internal_error"),
        errors.BadRequest: Words(400, "invalid_request_error"),
        errors.InvalidSettings: Words(400, "invalid_request_error"),
        errors.InvalidRequest: Words(400, "invalid_request_error"),
        errors.UnreadableBody: Words(400, "invalid_request_error"),
        errors.MissingBody: Words(400, "invalid_request_error"),
        errors.IllegalArgument: Words(400, "invalid_request_error"),
        errors.UnacceptableMediaType: Words(400, "invalid_request_error", "invalid_media_type"),
        errors.UnsupportedMediaType: Words(415, "invalid_request_error", "invalid_media_type"),
        errors.UnusableModel: Words(500, "server_error", "model_unusable"),
        errors.NoSuchPackage: Words(404, "invalid_request_error", "model_not_found"),
        errors.NoHandler: Words(404, "invalid_request_error", "unknown_url"),
        errors.MethodNotAllowed: Words(405, "invalid_request_error", "method_not_allowed"),
        errors.NotFound: Words(404, "invalid_request_error", "model_not_found"),
        errors.NotDeployed: Words(404, "invalid_request_error", "model_not_found"),
        errors.AlreadyExists: Words(409, "invalid_request_error", "already_exists"),
        errors.Conflict: Words(409, "invalid_request_error", "conflict"),
        errors.VersionConflict: Words(409, "invalid_request_error", "version_conflict"),
        errors.NotAuthenticated: Words(401, "invalid_request_error", "invalid_api_key"),
        errors.LockedOut: Words(429, "rate_limit_error", "too_many_failed_logins"),
        errors.NotAuthorized: Words(403, "permission_error", "insufficient_permissions"),
        errors.RegionDenied: Words(403, "permission_error", "region_not_allowed"),
        errors.StreamingNotAllowed: Words(400, "invalid_request_error", "streaming_not_supported"),
        errors.BodyTooLarge: Words(413, "invalid_request_error", "request_too_large"),
        errors.DeadlineExceeded: Words(429, "timeout_error", "timeout"),
        errors.StillStarting: Words(503, "server_error", "model_starting"),
        errors.LimitExceeded: Words(429, "rate_limit_error", "rate_limit_exceeded"),
        errors.StartFailed: Words(500, "server_error", "start_failed"),
        errors.QueueFull: Words(429, "rate_limit_error", "rate_limit_exceeded"),
        errors.WorkerLost: Words(500, "server_error", "worker_lost"),
        errors.ShuttingDown: Words(503, "server_error", "shutting_down"),
        errors.UpstreamError: Words(502, "upstream_error"),
        errors.UpstreamUnreachable: Words(502, "upstream_error", "upstream_unreachable"),
        errors.UnreadableReply: Words(502, "upstream_error", "upstream_reply_unreadable"),
        errors.ValidationCallFailed: Words(400, "invalid_request_error", "validation_failed"),
        errors.StoreFailure: Words(503, "server_error", "store_unavailable"),
        errors.SecretsUnreadable: Words(500, "server_error", "secrets_unreadable"),
        errors.InternalError: Words(500, "server_error", "internal_error"),
        errors.ForeignError: Words(500, "server_error", "internal_error"),
    }
)


def render_openai_error(error: InferenceError, request: Request) -> Answer:
    """Give the answer that tells of `error`."""
    words = words_for(error)
    return Answer(
        body=openai_error_body(error),
        status=words.status,
        headers=_headers(error),
    )


def openai_error_body(error: InferenceError) -> bytes:
    """Encode `error` as the JSON object that a body or an event of a stream holds."""
    words = words_for(error)
    told = {
        "message": error.message,
        "type": words.type,
        "param": error.param if isinstance(error, InvalidRequest | UpstreamError) else None,
        "code": words.code,
    }
    return msgspec.json.encode({"error": told})


def words_for(error: InferenceError) -> Words:
    """Find the row of the nearest class; what a provider said of itself wins over our words."""
    words = next(WORDS[cls] for cls in type(error).__mro__ if cls in WORDS)
    if not isinstance(error, UpstreamError):
        return words
    return Words(_upstream_status(error), error.kind or words.type, error.code or words.code)


def _upstream_status(error: UpstreamError) -> int:
    """Keep 4xx. A 3xx is a fault of the endpoint's URL, and so a bad gateway like a 5xx."""
    status = error.upstream_status
    if status is not None and (400 <= status < 500 or status == 504):
        return status
    return 502


def _headers(error: InferenceError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, UpstreamError) and error.upstream_status is not None:
        headers["X-Inferry-Upstream-Status"] = str(error.upstream_status)
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allowed
    return headers
