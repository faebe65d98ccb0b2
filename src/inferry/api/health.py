"""`/health`, `/ready` and `/metrics`, for those who look after the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.telemetry import Metrics

_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_ACTION: Final = "cluster:monitor/inferry/metrics"


class HealthAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the server is. reason: why it is not ready."""

    status: str
    reason: str | None = None


def health_routes(metrics: Metrics, why_not_ready: Callable[[], str | None]) -> list[Route]:
    """Give the routes. why_not_ready: the reason, None when requests are welcome."""
    alive = msgspec.json.encode(HealthAnswer("ok"))

    async def show_health(request: Request) -> Answer:
        return Answer(alive)

    async def show_readiness(request: Request) -> Answer:
        reason = why_not_ready()
        if reason is None:
            return Answer(msgspec.json.encode(HealthAnswer("ready")))
        return Answer(msgspec.json.encode(HealthAnswer("not ready", reason)), status=503)

    async def show_metrics(request: Request) -> Answer:
        return Answer(await metrics.render(), content_type=_PROMETHEUS)

    return [
        Route(
            "GET",
            "/health",
            show_health,
            None,
            render_error,
            "Tell whether the process lives",
            is_open=True,
            has_media_types=False,
            answer_type=HealthAnswer,
        ),
        Route(
            "GET",
            "/ready",
            show_readiness,
            None,
            render_error,
            "Tell whether requests are welcome",
            is_open=True,
            has_media_types=False,
            answer_type=HealthAnswer,
            further_answers={503: HealthAnswer},
        ),
        Route(
            "GET",
            "/metrics",
            show_metrics,
            _ACTION,
            render_error,
            "Show metrics in Prometheus' text format",
            has_media_types=False,
            answer_type=str,
            media_types=("text/plain",),
        ),
    ]
