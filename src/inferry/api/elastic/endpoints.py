"""Endpoints, the catalogue of services, and the region policy (R1-R9, R14-R18)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from inferry.api.exchange import Answer, Request
from inferry.api.parameters import parse_flag, parse_timeout
from inferry.api.strict_json import parse_object
from inferry.commands import (
    DeleteEndpoint,
    DeleteRegionPolicy,
    Deletion,
    PutEndpoint,
    PutRegionPolicy,
    UpdateEndpoint,
)
from inferry.core.lookup import check_new_id, parse_task_type
from inferry.core.preconfigured import ELSER_MODEL_ID
from inferry.core.services_answer import services_answer
from inferry.core.snapshot import Snapshot
from inferry.domain import Json, TaskType
from inferry.errors import MissingBody, NoHandler
from inferry.protocols import Writer
from inferry.service import Service

_NO_BODY: Final = "request body is required"
ACKNOWLEDGED: Final = b'{"acknowledged":true}'


class Acknowledged(msgspec.Struct, frozen=True):
    """It is done."""

    acknowledged: bool


class DeletionAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a DELETE did, or would do."""

    acknowledged: bool
    pipelines: list[str]
    indexes: list[str]
    error_message: str | None = None


class EndpointCalls:
    """The handlers. diagnostics: numbers of this process's pools. version: that is announced."""

    def __init__(
        self,
        snapshot: Snapshot,
        writer: Writer,
        services: Mapping[str, Service],
        diagnostics: Callable[[], Mapping[str, Json]],
        version: str,
    ) -> None:
        self._snapshot = snapshot
        self._writer = writer
        self._services = services
        self._diagnostics = diagnostics
        self._version = version

    def list_endpoints(self, request: Request) -> Answer:
        """List all endpoints, or those of one type."""
        parts, size = self._snapshot.list_answer(_task_type(request))
        return Answer(parts, size=size)

    def get_endpoint(self, request: Request) -> Answer:
        """Show one endpoint."""
        task_type = _task_type(request)
        entry = self._snapshot.require(request.path_values["inference_id"], task_type)
        return Answer(entry.single_answer())

    async def put_endpoint(self, request: Request) -> Answer:
        """Create an endpoint."""
        inference_id = request.path_values["inference_id"]
        task_type = _task_type(request)
        timeout_s, timeout = _time_limit(request)
        if not request.body:
            raise MissingBody(_NO_BODY)
        check_new_id(inference_id)
        command = PutEndpoint(
            inference_id,
            task_type,
            url=request.path,
            body=await request.read(parse_object),
            timeout_s=timeout_s,
            timeout=timeout,
            dry_run=parse_flag(request.query, "dry_run"),
            actor=actor_of(request),
        )
        answer = await self._writer.submit(command)
        return Answer(answer, headers=self._deprecations(command.body))

    async def update_endpoint(self, request: Request) -> Answer:
        """Change an endpoint."""
        task_type = _task_type(request)
        timeout_s, timeout = _time_limit(request)
        if (text := request.query.get("master_timeout")) is not None:
            parse_timeout(text, "master_timeout")
        command = UpdateEndpoint(
            request.path_values["inference_id"],
            task_type,
            body=await request.read(parse_object),
            timeout_s=timeout_s,
            timeout=timeout,
            actor=actor_of(request),
        )
        return Answer(await self._writer.submit(command))

    async def delete_endpoint(self, request: Request) -> Answer:
        """Delete an endpoint, or tell what uses it."""
        command = DeleteEndpoint(
            request.path_values["inference_id"],
            _task_type(request),
            dry_run=parse_flag(request.query, "dry_run"),
            force=parse_flag(request.query, "force"),
            actor=actor_of(request),
        )
        done: Deletion = await self._writer.submit(command)
        return Answer(
            msgspec.json.encode(
                DeletionAnswer(
                    acknowledged=done.acknowledged,
                    pipelines=done.pipelines,
                    indexes=done.indexes,
                    error_message=done.error_message,
                )
            )
        )

    def list_services(self, request: Request) -> Answer:
        """Describe the services."""
        shown = services_answer(self._services, _task_type(request))
        return Answer(msgspec.json.encode(shown))

    def get_region_policy(self, request: Request) -> Answer:
        """Show the region policy."""
        return Answer(self._snapshot.region_policy_answer())

    async def put_region_policy(self, request: Request) -> Answer:
        """Set the region policy."""
        command = PutRegionPolicy(
            await request.read(partial(parse_object, missing="body is required")),
            force=parse_flag(request.query, "force"),
            actor=actor_of(request),
        )
        return Answer(await self._writer.submit(command))

    async def delete_region_policy(self, request: Request) -> Answer:
        """Remove the region policy."""
        await self._writer.submit(DeleteRegionPolicy(actor_of(request)))
        return Answer(ACKNOWLEDGED)

    def show_diagnostics(self, request: Request) -> Answer:
        """Show numbers of the pools of the process that answers."""
        numbers = {"endpoints": len(self._snapshot), **self._diagnostics()}
        return Answer(msgspec.json.encode(numbers))

    def _deprecations(self, body: Mapping[str, Json]) -> dict[str, str]:
        """Warn of the older service where it has to choose the model, as upstream does."""
        settings = body.get("service_settings")
        if body.get("service") != "elser" or not isinstance(settings, dict):
            return {}
        if "model_id" in settings or "deployment_id" in settings:
            return {}
        return {
            "Warning": f'299 Elasticsearch-{self._version} "The [elser] service is deprecated and'
            " will be removed in a future release. Use the [elasticsearch] service instead, with"
            f' [model_id] set to [{ELSER_MODEL_ID}] in the [service_settings]"'
        }

    def refuse(self, request: Request) -> Answer:
        """Answer as if there were no such path: a switch of the vendor's cloud only."""
        raise NoHandler(f"no handler found for uri [{request.uri}] and method [{request.method}]")


def actor_of(request: Request) -> str | None:
    """Name who asks, for the record; nobody where authentication is off."""
    principal = request.principal
    return None if principal.kind == "anonymous" else principal.username


def _task_type(request: Request) -> TaskType | None:
    return parse_task_type(request.path_values.get("task_type"))


def _time_limit(request: Request) -> tuple[float | None, str | None]:
    text = request.query.get("timeout")
    return (None, None) if text is None else parse_timeout(text)
