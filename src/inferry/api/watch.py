"""Tells the logs of a request: every one how it ended, and the audit log who was refused."""

from __future__ import annotations

import time
from collections.abc import Callable

from inferry.api.exchange import Answer, Request
from inferry.api.routes import Match
from inferry.commands import Refusal
from inferry.errors import InferenceError, LockedOut, NotAuthenticated, NotAuthorized
from inferry.origin import Origin
from inferry.request_log import CLIENT_LEFT, RequestLog

_FAILED = 400
_TOO_MANY = "too many failures"


class Watch:
    """Follows the requests of a process. refuse: takes what is for the audit log, None for none."""

    def __init__(self, log: RequestLog, refuse: Callable[[Refusal], None] | None = None) -> None:
        self._log = log
        self._refuse = refuse

    def ended(self, request: Request, answer: Answer | None, duration_s: float) -> None:
        """Take note of a request; None instead of its answer when its client has left."""
        if not self._log.is_on:
            return
        status = CLIENT_LEFT if answer is None else answer.status
        values, principal = request.path_values, request.principal
        upstream = None
        if answer is not None and status >= _FAILED:
            upstream = answer.headers.get("X-Inferry-Upstream-Status")
        self._log.note(
            method=request.method,
            route=request.route,
            status=status,
            duration_s=duration_s,
            inference_id=values.get("inference_id") or request.inference_id,
            user=principal.username,
            api_key_id=principal.api_key_id,
            request_id=request.id,
            upstream_status=int(upstream) if isinstance(upstream, str) else None,
        )

    def failed(
        self, request: Request, error: InferenceError, found: Match | InferenceError
    ) -> None:
        """Take note of a refusal; other errors are none of the audit log's."""
        if self._refuse is None:
            return
        action = None if isinstance(found, InferenceError) else found.route.action
        match error:
            case NotAuthenticated(user=user, api_key_id=key_id, reason=reason):
                origin = _origin(request, action, user, key_id)
                refusal = Refusal("authentication_failed", reason, origin, time.time())
            case LockedOut(user=user):
                origin = _origin(request, action, user, None)
                refusal = Refusal("authentication_failed", _TOO_MANY, origin, time.time())
            case NotAuthorized():
                origin = origin_of(request, error.action or action)
                refusal = Refusal("access_denied", "", origin, time.time())
            case _:
                return
        self._refuse(refusal)


def origin_of(request: Request, action: str | None) -> Origin:
    """Tell who asks, from where, for what. action: what the gate is asked about, if anything."""
    principal = request.principal
    return _origin(request, action, principal.username, principal.api_key_id)


def _origin(request: Request, action: str | None, user: str, api_key_id: str | None) -> Origin:
    return Origin(
        user=user,
        api_key_id=api_key_id,
        address=request.address,
        action=action or "",
        request=f"{request.method} {request.path}",
        request_id=request.id,
    )
