"""The Elasticsearch dialect: its route table. Handlers live in the modules it imports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from inferry.api.elastic.answers import (
    ChatAnswer,
    CompletionAnswer,
    DenseAnswer,
    RerankAnswer,
    SparseAnswer,
)
from inferry.api.elastic.bodies import ChatBody, EmbeddingBody, GeneralBody, RerankBody
from inferry.api.elastic.endpoints import Acknowledged, DeletionAnswer, EndpointCalls
from inferry.api.elastic.errors import render_error
from inferry.api.elastic.inference import InferenceCalls
from inferry.api.exchange import Handler, Route
from inferry.api.http.media_types import EVENT_STREAM
from inferry.core.endpoint_json import EndpointItem
from inferry.core.inference import Inference
from inferry.core.snapshot import Snapshot
from inferry.domain import Json
from inferry.protocols import Writer
from inferry.service import Service

_READ: Final = "cluster:monitor/xpack/inference/"
_WRITE: Final = "cluster:admin/xpack/inference/"
# An endpoint is a page of settings; a larger body is no endpoint but costs parsing.
MAX_DEFINITION_BYTES: Final = 1024 * 1024


class EndpointBody(msgspec.Struct, frozen=True):
    """The body of PUT. task_type: only when the URL has none."""

    service: str
    service_settings: dict[str, Any]
    task_settings: dict[str, Any] | None = None
    chunking_settings: dict[str, Any] | None = None
    task_type: str | None = None


class UpdateBody(msgspec.Struct, frozen=True):
    """The body of `_update`."""

    service_settings: dict[str, Any] | None = None
    task_settings: dict[str, Any] | None = None
    task_type: str | None = None


class EndpointList(msgspec.Struct, frozen=True):
    """The answer of GET."""

    endpoints: list[EndpointItem]


class DryRunAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What PUT with `dry_run` would store, and the request it would send, secrets masked."""

    dry_run: bool
    endpoint: EndpointItem
    request: dict[str, Any] | None = None
    dimensions: int | None = None


class ServiceSetting(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A setting of a service."""

    default_value: Any = None
    description: str
    label: str
    required: bool
    sensitive: bool
    updatable: bool
    type: str
    supported_task_types: list[str]


class ServiceItem(msgspec.Struct, frozen=True):
    """A service."""

    service: str
    name: str
    task_types: list[str]
    configurations: dict[str, ServiceSetting]


class RegionPolicyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The region policy, and who set it."""

    region_policy: dict[str, Any]
    created_at: str
    created_by: str | None = None
    updated_at: str | None = None
    updated_by: str | None = None


class RegionPolicyBody(msgspec.Struct, frozen=True):
    """The region policy: `allowed_geos`, or `allowed_regions` and `fallback_region`."""

    region_policy: dict[str, Any]


AnyBody = GeneralBody | RerankBody | EmbeddingBody | ChatBody
AnyAnswer = DenseAnswer | SparseAnswer | RerankAnswer | CompletionAnswer | ChatAnswer

_definition = partial(
    Route, takes_body=True, max_body_bytes=MAX_DEFINITION_BYTES, render_error=render_error
)


def elastic_routes(
    snapshot: Snapshot,
    inference: Inference,
    writer: Writer,
    services: Mapping[str, Service],
    *,
    diagnostics: Callable[[], Mapping[str, Json]] = dict,
    version: str = "",
) -> list[Route]:
    """Give the routes of `_inference`.

    diagnostics: numbers of this process's pools. version: of Elasticsearch, that is announced.
    """
    endpoints = EndpointCalls(snapshot, writer, services, diagnostics, version)
    return [
        *_read_routes(endpoints),
        *_write_routes(endpoints),
        *_service_routes(endpoints),
        *_run_routes(InferenceCalls(snapshot, inference)),
    ]


def _get(path: str, handler: Handler, action: str, summary: str, **more: Any) -> Route:
    return Route("GET", path, handler, _READ + action, render_error, summary, **more)


def _read_routes(calls: EndpointCalls) -> list[Route]:
    lists = ("/_inference", "/_inference/_all", "/_inference/*")
    typed = ("/_inference/{task_type}/_all", "/_inference/{task_type}/*")
    singles = ("/_inference/{inference_id}", "/_inference/{task_type}/{inference_id}")
    listed = [
        _get(path, calls.list_endpoints, "get", "List endpoints", answer_type=EndpointList)
        for path in (*lists, *typed)
    ]
    shown = [
        _get(
            path,
            calls.get_endpoint,
            "get",
            "Show an endpoint",
            answers_head=False,
            answer_type=EndpointList,
        )
        for path in singles
    ]
    return listed + shown


def _write_routes(calls: EndpointCalls) -> list[Route]:
    routes = []
    for path in ("/_inference/{inference_id}", "/_inference/{task_type}/{inference_id}"):
        routes += [
            _definition(
                "PUT",
                path,
                calls.put_endpoint,
                _WRITE + "put",
                summary="Create an endpoint",
                parameters=frozenset({"timeout", "dry_run"}),
                body_type=EndpointBody,
                answer_type=EndpointItem | DryRunAnswer,
            ),
            _definition(
                "PUT",
                f"{path}/_update",
                calls.update_endpoint,
                _WRITE + "update",
                summary="Change an endpoint",
                parameters=frozenset({"timeout", "master_timeout"}),
                body_type=UpdateBody,
                answer_type=EndpointItem,
            ),
            Route(
                "DELETE",
                path,
                calls.delete_endpoint,
                _WRITE + "delete",
                render_error,
                "Delete an endpoint",
                parameters=frozenset({"dry_run", "force"}),
                answer_type=DeletionAnswer,
            ),
        ]
    return routes


def _service_routes(calls: EndpointCalls) -> list[Route]:
    policy = "/_inference/_region_policy"
    return [
        _get(
            "/_inference/_services",
            calls.list_services,
            "services/get",
            "Describe services",
            answer_type=list[ServiceItem],
        ),
        _get(
            "/_inference/_services/{task_type}",
            calls.list_services,
            "services/get",
            "Describe services that offer a task type",
            answer_type=list[ServiceItem],
        ),
        _get(
            policy,
            calls.get_region_policy,
            "region_policy/get",
            "Show the region policy",
            answer_type=RegionPolicyAnswer,
        ),
        _definition(
            "PUT",
            policy,
            calls.put_region_policy,
            _WRITE + "region_policy/put",
            summary="Set the region policy",
            parameters=frozenset({"force"}),
            body_type=RegionPolicyBody,
            answer_type=RegionPolicyAnswer,
        ),
        Route(
            "DELETE",
            policy,
            calls.delete_region_policy,
            _WRITE + "region_policy/delete",
            render_error,
            "Remove the region policy",
            answer_type=Acknowledged,
        ),
        _get(
            "/_inference/.diagnostics",
            calls.show_diagnostics,
            "diagnostics/get",
            "Show numbers of internal pools",
            answer_type=dict[str, Any],
        ),
        *(
            Route(method, "/_inference/_ccm", calls.refuse, None, render_error, "")
            for method in ("GET", "PUT", "DELETE")
        ),
    ]


def _run_routes(calls: InferenceCalls) -> list[Route]:
    routes = []
    for path in ("/_inference/{inference_id}", "/_inference/{task_type}/{inference_id}"):
        routes += [
            Route(
                "POST",
                path,
                calls.run,
                f"{_READ}post",
                calls.render_run_error,
                "Run an endpoint",
                parameters=frozenset({"timeout"}),
                takes_body=True,
                body_type=AnyBody,
                answer_type=AnyAnswer,
            ),
            Route(
                "POST",
                f"{path}/_stream",
                calls.stream,
                f"{_READ}post",
                calls.render_stream_error,
                "Run an endpoint and stream its answer",
                parameters=frozenset({"timeout"}),
                takes_body=True,
                body_type=GeneralBody | ChatBody,
                answer_type=str,
                media_types=(EVENT_STREAM,),
            ),
        ]
    return routes
