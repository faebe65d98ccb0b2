"""Deployments: started, stopped, changed, and what they have done (`_ml/trained_models`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from inferry.api.elastic.body_shapes import Kind, Shape, parse_body
from inferry.api.elastic.endpoints import actor_of
from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.parameters import parse_flag, parse_number, parse_page, parse_timeout
from inferry.api.trained_models.deployment_answers import (
    AssignmentAnswer,
    Memory,
    StatsAnswer,
    StatsItem,
    assignment_of,
    stats_row,
)
from inferry.commands import (
    ClearDeploymentCache,
    FetchModels,
    FetchStats,
    StartModel,
    StopModel,
    UpdateModel,
)
from inferry.core.trained_model_catalogue import TrainedModelCatalogue
from inferry.core.trained_models import model_not_found
from inferry.deployment_stats import DeploymentStats, HostStats
from inferry.domain import Json
from inferry.errors import IllegalArgument
from inferry.id_patterns import fits, patterns_of
from inferry.protocols import Writer
from inferry.records import DeploymentRecord, TrainedModelRecord

_STATS: Final = "cluster:monitor/xpack/ml/inference/stats/get"
_DEPLOYMENT: Final = "cluster:admin/xpack/ml/inference/deployment/"
_EVERY: Final = "/_ml/trained_models"
_ONE: Final = f"{_EVERY}/{{model_id}}"
_MAX_HEADER: Final = 1024
_MAX_BODY_BYTES: Final = 64 * 1024
_WAIT_FOR: Final = ("starting", "started", "fully_allocated")
_PRIORITIES: Final = ("low", "normal")
_OLDER_NAMES: Final = {
    "model_threads": "number_of_allocations",
    "inference_threads": "threads_per_allocation",
}
_ADAPTIVE: Final = Shape(
    "adaptive_allocations_settings",
    {
        "enabled": Kind.BOOLEAN,
        "min_number_of_allocations": Kind.INTEGER,
        "max_number_of_allocations": Kind.INTEGER,
    },
)
_START: Final = Shape(
    "start_trained_model_deployment",
    {
        "deployment_id": Kind.STRING,
        "number_of_allocations": Kind.INTEGER,
        "threads_per_allocation": Kind.INTEGER,
        "queue_capacity": Kind.INTEGER,
        "cache_size": Kind.STRING,
        "priority": Kind.STRING,
        "timeout": Kind.STRING,
        "wait_for": Kind.STRING,
        "adaptive_allocations": _ADAPTIVE,
    },
)
_STOP: Final = Shape(
    "stop_trained_model_deployment",
    {"allow_no_match": Kind.BOOLEAN, "force": Kind.BOOLEAN, "finish_pending_work": Kind.BOOLEAN},
)
_UPDATE: Final = Shape(
    "update_trained_model_deployment",
    {
        "number_of_allocations": Kind.INTEGER,
        "adaptive_allocations": _ADAPTIVE,
        "timeout": Kind.STRING,
    },
)


class StartBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of `_start`; each member may be a query parameter instead."""

    adaptive_allocations: dict[str, Any] | None = None
    deployment_id: str | None = None
    number_of_allocations: int | None = None
    threads_per_allocation: int | None = None
    queue_capacity: int | None = None
    cache_size: str | None = None
    priority: str | None = None
    timeout: str | None = None
    wait_for: str | None = None


class StopBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of `_stop`; each member may be a query parameter instead."""

    allow_no_match: bool = True
    force: bool = False


class UpdateBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of `_update`: one of both."""

    number_of_allocations: int | None = None
    adaptive_allocations: dict[str, Any] | None = None


class Stopped(msgspec.Struct, frozen=True):
    """The answer of `_stop`."""

    stopped: bool


class Cleared(msgspec.Struct, frozen=True):
    """The answer of `cache/_clear`."""

    cleared: bool


def deployment_routes(
    catalogue: TrainedModelCatalogue, writer: Writer, *, node: str
) -> list[Route]:
    """Give the routes of deployments. node: what this host is called in answers."""
    calls = _Deployments(catalogue, writer, node)
    deployment = f"{_ONE}/deployment"
    verb = partial(
        Route,
        "POST",
        render_error=render_error,
        takes_body=True,
        max_body_bytes=_MAX_BODY_BYTES,
    )
    return [
        *_stats_routes(calls),
        verb(
            path=f"{deployment}/_start",
            handler=calls.start,
            action=f"{_DEPLOYMENT}start",
            summary="Start a model",
            parameters=frozenset({*_START.fields, *_OLDER_NAMES} - {"adaptive_allocations"}),
            body_type=StartBody,
            answer_type=AssignmentAnswer,
        ),
        verb(
            path=f"{deployment}/_stop",
            handler=calls.stop,
            action=f"{_DEPLOYMENT}stop",
            summary="Stop a model",
            parameters=frozenset(_STOP.fields),
            body_type=StopBody,
            answer_type=Stopped,
        ),
        verb(
            path=f"{deployment}/_update",
            handler=calls.update,
            action=f"{_DEPLOYMENT}update",
            summary="Change the allocations of a model",
            parameters=frozenset({"number_of_allocations", "timeout"}),
            body_type=UpdateBody,
            answer_type=AssignmentAnswer,
        ),
        Route(
            "POST",
            f"{deployment}/cache/_clear",
            calls.clear_cache,
            f"{_DEPLOYMENT}clear_cache",
            render_error,
            "Forget what is kept of the answers of a model",
            answer_type=Cleared,
        ),
    ]


def _stats_routes(calls: _Deployments) -> list[Route]:
    return [
        Route(
            "GET",
            path,
            calls.show_stats,
            _STATS,
            render_error,
            "Tell what models and their deployments have done",
            parameters=frozenset({"allow_no_match", "from", "size"}),
            answer_type=StatsAnswer,
        )
        for path in (f"{_EVERY}/_stats", f"{_ONE}/_stats")
    ]


class _Deployments:
    """The handlers."""

    def __init__(self, catalogue: TrainedModelCatalogue, writer: Writer, node: str) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._node = node

    async def start(self, request: Request) -> Answer:
        """Start a deployment and wait for it."""
        given = await _given(request, _START)
        timeout_s, timeout = parse_timeout(str(given.pop("timeout", "20s")))
        wait_for = _one_of("wait_for", str(given.pop("wait_for", "started")), _WAIT_FOR)
        priority = _one_of("priority", str(given.pop("priority", "normal")).lower(), _PRIORITIES)
        command = StartModel(
            request.path_values["model_id"],
            **given,
            priority=priority,
            wait_for=wait_for,
            timeout_s=timeout_s,
            timeout=timeout,
            actor=actor_of(request),
        )
        return self._shown(await self._writer.submit(command))

    async def stop(self, request: Request) -> Answer:
        """Stop deployments."""
        given = await _given(request, _STOP)
        command = StopModel(
            request.path_values["model_id"],
            allow_no_match=given.get("allow_no_match") is not False,
            force=given.get("force") is True,
            actor=actor_of(request),
        )
        await self._writer.submit(command)
        return Answer(msgspec.json.encode(Stopped(stopped=True)))

    async def update(self, request: Request) -> Answer:
        """Change the allocations of a deployment."""
        given = await _given(request, _UPDATE)
        if (text := given.pop("timeout", None)) is not None:
            parse_timeout(str(text))
        deployment_id = request.path_values["model_id"]
        command = UpdateModel(deployment_id, **given, actor=actor_of(request))
        return self._shown(await self._writer.submit(command))

    async def clear_cache(self, request: Request) -> Answer:
        """Forget the answers of a deployment; there may be none."""
        command = ClearDeploymentCache(request.path_values["model_id"], actor=actor_of(request))
        await self._writer.submit(command)
        return Answer(msgspec.json.encode(Cleared(cleared=True)))

    async def show_stats(self, request: Request) -> Answer:
        """Tell what models and deployments have done."""
        query = request.query
        first, size = parse_page(query)
        is_lenient = "allow_no_match" not in query or parse_flag(query, "allow_no_match")
        stats: HostStats = await self._writer.submit(FetchStats())
        patterns = patterns_of(request.path_values.get("model_id", ""))
        folders = await self._writer.submit(FetchModels(patterns))
        models = self._catalogue.select(["*"], beside=folders)
        rows = self._rows(stats.deployments, models, patterns, allow_no_match=is_lenient)
        shown = rows[first : first + size]
        return Answer(
            msgspec.json.encode(StatsAnswer(len(rows), shown)),
            headers=_progress(stats.downloads, [row.model_id for row in shown]),
        )

    def _rows(
        self,
        stats: Iterable[DeploymentStats],
        models: Iterable[TrainedModelRecord],
        patterns: Iterable[str],
        *,
        allow_no_match: bool,
    ) -> list[StatsItem]:
        """Give a row per deployment, and one per model that has none, in the order of the ids.

        An id means a model with all its deployments, or a deployment.
        """
        rows: dict[tuple[str, str], StatsItem] = {}
        for one in stats:
            spec = one.deployment.spec
            memory = _memory(self._catalogue.find(spec.model_id), one.deployment.model_bytes)
            model_id = self._catalogue.listed_id(spec.model_id)
            rows[model_id, spec.deployment_id] = stats_row(one, model_id, memory, self._node)
        deployed = {model_id for model_id, _ in rows}
        for record in models:
            if record.model_id not in deployed:
                sizes = _memory(record).sizes()
                rows[record.model_id, ""] = StatsItem(record.model_id, sizes, 0)
        chosen: set[tuple[str, str]] = set()
        for pattern in patterns:
            found = {key for key in rows if self._fits(key, pattern)}
            if not found and not (allow_no_match and "*" in pattern):
                raise model_not_found(pattern)
            chosen |= found
        return [rows[key] for key in sorted(chosen)]

    def _fits(self, key: tuple[str, str], pattern: str) -> bool:
        """Tell whether a pattern means a model or a deployment, by any name."""
        record = self._catalogue.find(key[0])
        names = (*key, *(record.aliases if record else ()))
        return any(fits(one, pattern) for one in names if one)

    def _shown(self, record: DeploymentRecord) -> Answer:
        """Answer a verb with the deployment as it is then."""
        memory = _memory(self._catalogue.find(record.spec.model_id), record.model_bytes)
        shown = assignment_of(record, memory, self._node)
        return Answer(msgspec.json.encode(shown))


def _memory(record: TrainedModelRecord | None, model_bytes: int = 0) -> Memory:
    """Tell what a model takes: what its uploader says, else the size of its folder."""
    if record is None:
        return Memory(model_bytes)
    size = record.definition.size_bytes if record.definition else 0
    metadata = record.config.get("metadata")
    said = metadata if isinstance(metadata, dict) else {}
    names = ("per_deployment_memory_bytes", "per_allocation_memory_bytes")
    return Memory(size, *(one if isinstance(one := said.get(name), int) else 0 for name in names))


async def _given(request: Request, shape: Shape) -> dict[str, Any]:
    """Give what stands in the query and the body; the query wins. Raises `BadRequest`."""
    body: dict[str, Any] = {}
    if request.body:
        body = await request.read(partial(parse_body, shape=shape))
    given = {name: value for name, value in body.items() if value is not None}
    for name in request.query:
        field = _OLDER_NAMES.get(name, name)
        if field in shape.fields:
            given[field] = _value(request.query, name, shape.fields[field])
    return given


def _progress(downloads: Mapping[str, str], shown: Iterable[str]) -> dict[str, str]:
    """Tell how far the downloads of shown models are, in a header: bodies are Elasticsearch's."""
    known = dict.fromkeys(shown)
    told = "; ".join(f"{one} {downloads[one]}" for one in known if one in downloads)
    return {"X-Inferry-Progress": told[:_MAX_HEADER]} if told else {}


def _value(query: Mapping[str, str], name: str, kind: object) -> Json:
    if kind is Kind.INTEGER:
        return parse_number(query, name, 0, at_least=None)
    if kind is Kind.BOOLEAN:
        return parse_flag(query, name)
    return query[name]


def _one_of(name: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise IllegalArgument(
            f"invalid [{name}] [{given[:64]}]; must be one of [{', '.join(known)}]"
        )
    return given
