"""Endpoints and the local models that run them: brought up with their endpoint, and ended with it.

An endpoint is stored before its model starts. Until it has run once, the endpoint is marked: a
start that fails takes the endpoint with it, and one that a crash cut off is resumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from inferry.concurrency import Nursery, within
from inferry.core.built_in_models import BuiltInModels
from inferry.core.deployment_settings import (
    LOCAL_SERVICES,
    deployment_of,
    is_attached,
    model_of,
    settings_when_attached,
    settings_when_measured,
    spec_of,
    spec_when_followed,
    with_all_said,
)
from inferry.core.ledger import Ledger
from inferry.core.lookup import endpoint_not_found
from inferry.core.preconfigured import preconfigured_endpoints
from inferry.core.trained_models import inference_config_of
from inferry.domain import Deadline, Json, TaskType
from inferry.errors import (
    BadRequest,
    Conflict,
    DeadlineExceeded,
    InferenceError,
    NotDeployed,
    NotFound,
    StillStarting,
)
from inferry.modeling import MODEL_TYPES
from inferry.protocols import Deployments
from inferry.records import DeploymentRecord, Drop, EndpointRecord, Put
from inferry.telemetry import get_logger


class LocalModels:
    """Keeps deployments in step with endpoints.

    nursery: of starts, whoever waits for them. skip_start: PUT starts nothing, nor does the start
    of the server; the first run does.
    """

    def __init__(
        self,
        ledger: Ledger,
        deployments: Deployments,
        built_in: BuiltInModels,
        *,
        nursery: Nursery,
        skip_start: bool,
    ) -> None:
        self._ledger = ledger
        self._deployments = deployments
        self._built_in_models = built_in
        self._nursery = nursery
        self._skip_start = skip_start
        self._starting: dict[str, asyncio.Task[EndpointRecord]] = {}
        self._built_in = {record.inference_id: record for record in preconfigured_endpoints()}

    def check_id(self, inference_id: str) -> None:
        """Refuse the id of a deployment, or a name of an uploaded model, for a new endpoint."""
        is_model = self._ledger.model_named(inference_id) is not None
        is_started = inference_id in self._ledger.assignments
        if is_model or is_started or self._deployments.find(inference_id) is not None:
            raise BadRequest(
                "Inference endpoint IDs must be unique. Requested inference endpoint ID "
                f"[{inference_id}] matches existing trained model ID(s) but must not."
            )

    async def task_type_of(self, body: Mapping[str, Json]) -> TaskType | None:
        """Give what the model does that the body of a PUT names, as far as that is known.

        Raises `NotFound`, `IllegalArgument`, `UnusableModel`, `BadRequest` where there is no such
        model, or it runs no endpoint.
        """
        settings = body.get("service_settings")
        service = body.get("service")
        if not isinstance(service, str) or not isinstance(settings, dict):
            return None
        if service not in LOCAL_SERVICES:
            return None
        if service == "elser":
            return TaskType.SPARSE_EMBEDDING
        deployment_id, model_id = settings.get("deployment_id"), settings.get("model_id")
        if isinstance(deployment_id, str):
            found = self._deployments.find(deployment_id)
            if found is None:
                raise _no_deployment(deployment_id)
            self._check_task(found.spec.model_id, found.task_type)
            return found.task_type
        if not isinstance(model_id, str):
            return None
        task_type = await self._deployments.check(model_id)
        self._check_task(model_id, task_type)
        return task_type

    async def check_new(self, record: EndpointRecord) -> EndpointRecord:
        """Refuse an endpoint whose model cannot run here; give it with its settings complete.

        Raises `NotFound`, `IllegalArgument`, `UnusableModel`, `InvalidRequest`, `BadRequest`.
        """
        if is_attached(record.service_settings):
            deployment = self._deployment_to_attach(record)
            settings = settings_when_attached(record.service_settings, deployment)
            return msgspec.structs.replace(record, service_settings=settings)
        await self._check(record)
        return msgspec.structs.replace(
            record,
            service_settings=with_all_said(record.service_settings),
            is_starting=not self._skip_start,
        )

    async def bring_up(self, record: EndpointRecord, deadline: Deadline) -> EndpointRecord:
        """Start the model of a new, stored endpoint; give the endpoint as it is then.

        Raises `StillStarting` when `deadline` comes first, and the start goes on; or what the
        start failed with, and then the endpoint is gone again.
        """
        if not record.is_starting:
            return record
        inference_id = record.inference_id
        start = self._begin(record)
        try:
            with within(deadline):
                return await asyncio.shield(start)
        except DeadlineExceeded as error:
            found = self._deployments.find(inference_id)
            progress = found.progress if found is not None and found.progress else "starting"
            raise StillStarting(
                f"The inference endpoint [{inference_id}] is created, but its model "
                f"[{model_of(record)}] did not start within [{deadline.timeout}]: {progress}. "
                "It goes on starting"
            ) from error

    async def wait_for_start(self, inference_id: str, deadline: Deadline) -> None:
        """Wait until a start that is under way ends, however it does. Raises `DeadlineExceeded`."""
        start = self._starting.get(inference_id)
        if start is not None:
            with within(deadline):
                await asyncio.wait([start])

    async def start(self, inference_id: str) -> DeploymentRecord:
        """Start the model of an endpoint that is to run, unless it runs.

        Only those of preconfigured endpoints are deployed by a run; others are with their PUT.
        Raises `NotFound`, `NotDeployed`, and what the start failed with.
        """
        record = self._local(inference_id)
        deployment_id = deployment_of(inference_id, record.service_settings)
        found = self._deployments.find(deployment_id)
        if found is not None:  # it starts, or rests
            return await self._deployments.start(found.spec)
        is_skipped = self._skip_start and not record.is_stopped
        is_lazy = is_skipped or inference_id in self._built_in
        if is_attached(record.service_settings) or not is_lazy:
            raise NotDeployed(
                f"[{deployment_id}], which runs the inference endpoint [{inference_id}], "
                "is not deployed"
            )
        return await self._bring_up(record)

    async def follow(self, record: EndpointRecord) -> None:
        """Give a deployment the allocations that its endpoint has now.

        A number that follows the load stays, as far as the new bounds let it.
        """
        found = self._deployments.find(record.inference_id)
        if record.service in LOCAL_SERVICES and found is not None:
            await self._deployments.scale(spec_when_followed(found.spec, spec_of(record)))

    async def stop(self, record: EndpointRecord) -> None:
        """End the deployment of an endpoint that is gone, unless it is another's."""
        is_local = record.service in LOCAL_SERVICES
        if is_local and not is_attached(record.service_settings):
            await self._deployments.stop(record.inference_id)

    def resume(self, stored: Iterable[str], preload: Iterable[str]) -> None:
        """Start what shall run from the start of the server on; what does not is logged.

        What somebody stopped stays so.
        stored: ids of local endpoints. preload: of those to start though they are not stored.
        """
        wanted = dict.fromkeys(preload)
        for inference_id in stored:
            record = self._ledger.endpoint(inference_id)
            assert record is not None
            if record.is_starting:
                self._begin(record)
            elif record.is_stopped:
                wanted.pop(inference_id, None)
            elif not self._skip_start and not is_attached(record.service_settings):
                wanted[inference_id] = None
        for inference_id in wanted:
            self._nursery.start(self._start_at_boot(inference_id))

    def check_update(self, record: EndpointRecord) -> None:
        """Refuse to change the allocations of a deployment that is another's."""
        if is_attached(record.service_settings):
            deployment_id = deployment_of(record.inference_id, record.service_settings)
            raise Conflict(
                f"The deployment [{deployment_id}] of the inference endpoint "
                f"[{record.inference_id}] was not created by it and cannot be changed through it"
            )
        spec_of(record)

    # --- starting ----------------------------------------------------------------------------

    def _begin(self, record: EndpointRecord) -> asyncio.Task[EndpointRecord]:
        """Start the model of an endpoint that has never run; the task ends when that is decided."""
        inference_id = record.inference_id
        start = self._nursery.start(self._prove(record))
        self._starting[inference_id] = start
        start.add_done_callback(lambda _: self._starting.pop(inference_id, None))
        return start

    async def _prove(self, record: EndpointRecord) -> EndpointRecord:
        """Start a model; keep the endpoint if it runs, else remove it and raise why."""
        self._built_in_models.accompany(model_of(record))
        try:
            deployment = await self._deployments.start(spec_of(record))
            settings_when_measured(record.service_settings, deployment)
        except InferenceError as error:
            get_logger().warning(
                "a local model did not start, its endpoint is removed",
                inference_id=record.inference_id,
                reason=str(error),
            )
            if await self._undo(record):
                raise
            raise endpoint_not_found(record.inference_id) from error
        return await self._keep(record, deployment)

    async def _undo(self, record: EndpointRecord) -> bool:
        """Remove an endpoint whose model did not start; False when somebody else did."""
        async with self._ledger.locks.hold(record.inference_id):
            current = self._same(record)
            if current is None:
                return False
            drop = Drop("endpoint", record.inference_id, expects=current.revision)
            await self._ledger.commit(drop)
            await self._deployments.stop(record.inference_id)
            return True

    async def _keep(self, record: EndpointRecord, deployment: DeploymentRecord) -> EndpointRecord:
        """Note that the model has run, and what it showed."""
        async with self._ledger.locks.hold(record.inference_id):
            current = self._same(record)
            if current is None:
                raise endpoint_not_found(record.inference_id)
            proven = msgspec.structs.replace(
                current,
                service_settings=settings_when_measured(current.service_settings, deployment),
                is_starting=False,
                revision=self._ledger.next_revision(after=current.revision),
            )
            await self._ledger.commit(Put(proven, expects=current.revision))
            return proven

    def _same(self, record: EndpointRecord) -> EndpointRecord | None:
        """Give the endpoint as it is now, None when it is gone, or another has its id."""
        current = self._ledger.endpoint(record.inference_id)
        if current is None or current.created_at_ms != record.created_at_ms:
            return None
        return current

    def _local(self, inference_id: str) -> EndpointRecord:
        """Give an endpoint whose model runs here. Raises `NotFound`."""
        record = self._ledger.endpoint(inference_id) or self._built_in.get(inference_id)
        if record is None or record.service not in LOCAL_SERVICES:
            raise endpoint_not_found(inference_id)
        return record

    async def _bring_up(self, record: EndpointRecord) -> DeploymentRecord:
        await self._check(record)
        self._built_in_models.accompany(model_of(record))
        is_proven = record.inference_id not in self._built_in and not record.is_starting
        return await self._deployments.start(spec_of(record), is_proven=is_proven)

    async def _start_at_boot(self, inference_id: str) -> None:
        try:
            await self._bring_up(self._local(inference_id))
        except InferenceError as error:
            get_logger().error(
                "a local model did not start", inference_id=inference_id, reason=str(error)
            )

    async def _check(self, record: EndpointRecord) -> None:
        """Refuse a model that is not here, or cannot do what is asked of it."""
        spec_of(record)
        await self._deployments.check(model_of(record), TaskType(record.task_type))

    def _check_task(self, model_id: str, task_type: TaskType | None) -> None:
        """Refuse an upload that no endpoint runs. task_type: what it does, if that is known."""
        uploaded = self._ledger.trained_models.get(model_id)
        if uploaded is None or task_type is not None:
            return
        kind, _ = inference_config_of(uploaded)
        if kind not in MODEL_TYPES.values():
            raise BadRequest(
                f"Deployed model [{model_id}] has type [{kind}] which does not map to any supported"
                " task types"
            )

    def _deployment_to_attach(self, record: EndpointRecord) -> DeploymentRecord:
        """Find the deployment that a new endpoint names. Raises `NotFound`, `BadRequest`."""
        settings: Mapping[str, Json] = record.service_settings
        deployment_id = deployment_of(record.inference_id, settings)
        found = self._deployments.find(deployment_id)
        if found is None:
            raise _no_deployment(deployment_id)
        model_id = settings.get("model_id", found.spec.model_id)
        if model_id != found.spec.model_id:
            raise BadRequest(
                f"Deployment [{deployment_id}] uses model [{found.spec.model_id}] which does not "
                f"match the model [{model_id}]"
            )
        task_type = found.task_type or found.spec.task_type
        self._check_task(found.spec.model_id, task_type)
        if task_type is not None and task_type != record.task_type:
            raise BadRequest(
                f"Deployed model [{found.spec.model_id}] with type [{MODEL_TYPES[task_type]}] "
                f"does not match the requested task type [{record.task_type}]"
            )
        return found


def _no_deployment(deployment_id: str) -> NotFound:
    return NotFound(f"Cannot find deployment [{deployment_id}]")
