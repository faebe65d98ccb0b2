"""Deployments that callers start, stop and change by themselves, whether or not an endpoint does.

What was started so runs again with the server, and what was stopped does not (`assignments` says
how that is stored). Writes on one deployment wait for each other; the id of a deployment is that of
no endpoint and of no other model.
"""

from __future__ import annotations

import asyncio

import msgspec

from inferry.commands import (
    ClearDeploymentCache,
    FetchStats,
    StartModel,
    StopModel,
    UpdateModel,
)
from inferry.concurrency import Nursery, within
from inferry.core.assignments import Assignments
from inferry.core.built_in_models import BuiltInModels
from inferry.core.deployment_settings import (
    deployment_of,
    is_attached,
    model_of,
    spec_of_start,
    spec_when_updated,
)
from inferry.core.ledger import Ledger
from inferry.core.model_configs import id_problems
from inferry.core.preconfigured import RESERVED_IDS
from inferry.core.trained_models import model_not_found
from inferry.deployment_stats import HostStats
from inferry.domain import Deadline, Json
from inferry.errors import (
    BadRequest,
    Conflict,
    DeadlineExceeded,
    IllegalArgument,
    InferenceError,
    InvalidRequest,
    NoSuchPackage,
    NotDeployed,
    NotFound,
    StartFailed,
    StillStarting,
)
from inferry.id_patterns import fits, patterns_of
from inferry.modeling import listed_id
from inferry.protocols import Deployments
from inferry.records import (
    AssignmentRecord,
    DeploymentRecord,
    DeploymentSpec,
    EndpointRecord,
)
from inferry.telemetry import get_logger


class DeploymentWriter:
    """Carries out the deployment verbs; call it where no cancellation reaches.

    nursery: of starts, whoever waits for them. node: what this host is called.
    """

    def __init__(
        self,
        ledger: Ledger,
        assignments: Assignments,
        deployments: Deployments,
        built_in: BuiltInModels,
        *,
        nursery: Nursery,
        node: str,
    ) -> None:
        self._ledger = ledger
        self._assignments = assignments
        self._deployments = deployments
        self._built_in = built_in
        self._nursery = nursery
        self._node = node

    async def start(self, command: StartModel) -> DeploymentRecord:
        """Start a model and wait as far as the caller wants.

        The deployment of an endpoint that was stopped is started as the endpoint has it, with the
        allocations of `command` if it names some.

        Raises `NotFound`, `InvalidRequest`, `Conflict`, `StartFailed`, and `StillStarting` when the
        time comes first: it goes on starting.
        """
        if (named := self._ledger.model_named(command.model_id)) is not None:
            command = msgspec.structs.replace(command, model_id=named.model_id)
        spec = spec_of_start(command)
        async with self._ledger.locks.hold(spec.deployment_id):
            endpoint = self._ledger.endpoint(spec.deployment_id)
            if endpoint is not None and endpoint.is_stopped:
                started = await self._begin_again(endpoint, command)
            else:
                started = await self._begin(spec)
        if command.wait_for != "starting":
            deadline = Deadline.after(command.timeout_s, command.timeout)
            try:
                with within(deadline):
                    return await asyncio.shield(started)
            except DeadlineExceeded as error:
                raise StillStarting(
                    f"Timed out after [{command.timeout}] waiting for model deployment to start. "
                    "Use the trained model stats API to track the state of the deployment and try "
                    "again once it has started."
                ) from error
        found = self._deployments.find(spec.deployment_id)
        return found or DeploymentRecord(spec, started_at_ms=self._ledger.next_revision())

    async def wake(self, deployment_id: str) -> None:
        """Start what rests, or join its start. Raises `NotDeployed`, and why it did not start."""
        found = self._deployments.find(deployment_id)
        if found is None:
            raise NotDeployed(f"[{deployment_id}] is not deployed")
        await self._deployments.start(found.spec)

    async def stop(self, command: StopModel) -> None:
        """Stop what an expression means.

        Raises `NotFound`, and without `force` `Conflict` when an endpoint uses it.
        """
        found = await self._meant(command)
        if not command.force:
            for deployment_id in found:
                self._check_use(deployment_id)
        for deployment_id in found:
            async with self._ledger.locks.hold(deployment_id):
                await self._assignments.stop(deployment_id)
                await self._deployments.stop(deployment_id)

    async def update(self, command: UpdateModel) -> DeploymentRecord:
        """Change the allocations of a deployment. Raises `NotFound`, `InvalidRequest`."""
        deployment_id = self._require(command.deployment_id)
        async with self._ledger.locks.hold(deployment_id):
            current = self._deployments.find(deployment_id)
            if current is None:
                raise _no_deployment(command.deployment_id)
            spec = spec_when_updated(current.spec, command)
            await self._assignments.change(spec)
            await self._deployments.scale(spec)
        return self._deployments.find(deployment_id) or current

    async def clear_cache(self, command: ClearDeploymentCache) -> None:
        """Let nothing be answered from what is kept of a deployment. Raises `NotFound`."""
        await self._deployments.clear_cache(self._require(command.deployment_id))

    async def stats(self, _: FetchStats) -> HostStats:
        """Tell what every deployment has done, and how far downloads are."""
        return HostStats(await self._deployments.stats(), self._built_in.progress())

    def resume(self) -> None:
        """Start what was started before this server, and go on with what had not run yet."""
        for assignment in list(self._ledger.assignments.values()):
            is_new = assignment.is_starting
            self._nursery.start(self._prove(assignment) if is_new else self._again(assignment.spec))

    # --- starting ----------------------------------------------------------------------------

    async def _begin(self, spec: DeploymentSpec) -> asyncio.Task[DeploymentRecord]:
        """Store a new deployment and start it; call it within its lock."""
        await self._check_start(spec)
        return self._nursery.start(self._prove(await self._assignments.create(spec)))

    async def _begin_again(
        self, endpoint: EndpointRecord, command: StartModel
    ) -> asyncio.Task[DeploymentRecord]:
        """Start what was stopped of an endpoint; call it within its lock."""
        inference_id, model_id = endpoint.inference_id, model_of(endpoint)
        named = self._ledger.model_named(model_id)
        if command.model_id != (named.model_id if named else model_id):
            raise BadRequest(
                f"The deployment [{inference_id}] is that of the inference endpoint"
                f" [{inference_id}], which uses the model [{model_id}] and not [{command.model_id}]"
            )
        allocations: dict[str, Json] = {}
        if command.adaptive_allocations is not None:
            allocations = {"adaptive_allocations": command.adaptive_allocations}
        elif command.number_of_allocations is not None:
            allocations = {"num_allocations": command.number_of_allocations}
        spec = await self._assignments.start_again(endpoint, allocations)
        return self._nursery.start(self._again(spec))

    async def _prove(self, record: AssignmentRecord) -> DeploymentRecord:
        """Start a model for the first time; what does not run is forgotten."""
        spec = record.spec
        self._built_in.accompany(spec.model_id)
        try:
            started = await self._deployments.start(spec)
        except InferenceError as error:
            get_logger().warning(
                "a deployment did not start, it is removed",
                deployment_id=spec.deployment_id,
                reason=str(error),
            )
            async with self._ledger.locks.hold(spec.deployment_id):
                await self._assignments.forget(record)
            if isinstance(error, NotDeployed):
                raise Conflict(
                    f"The deployment [{spec.deployment_id}] was stopped while it started"
                ) from error
            raise self._failed(spec, error) from error
        async with self._ledger.locks.hold(spec.deployment_id):
            await self._assignments.note_run(record)
        return started

    async def _again(self, spec: DeploymentSpec) -> DeploymentRecord:
        """Start a model that has run before; where it does not, it is tried again and again."""
        self._built_in.accompany(spec.model_id)
        try:
            return await self._deployments.start(spec, is_proven=True)
        except InferenceError as error:
            get_logger().error(
                "a local model did not start",
                deployment_id=spec.deployment_id,
                reason=str(error),
            )
            raise self._failed(spec, error) from error

    def _failed(self, spec: DeploymentSpec, error: InferenceError) -> InferenceError:
        """Say why a start failed: there is no such model, it does not fit together, or else."""
        if isinstance(error, NoSuchPackage):
            return NotFound(f"{model_not_found(spec.model_id)}: {error}")
        if isinstance(error, Conflict):
            return Conflict(str(error))
        return StartFailed(
            "Could not start trained model deployment, the following nodes failed with errors "
            f"[{{{self._node}={error}}}]"
        )

    async def _check_start(self, spec: DeploymentSpec) -> None:
        """Refuse a model that is not here or not whole, and an id that something has."""
        deployment_id, model_id = spec.deployment_id, spec.model_id
        chosen = deployment_id.removeprefix(".") if deployment_id != model_id else None
        if chosen is not None and (problems := id_problems("deployment_id", chosen)):
            raise InvalidRequest.of(problems)
        uploaded = self._ledger.trained_models.get(model_id)
        if uploaded is not None and uploaded.is_built_in:
            uploaded = None  # what lacks is downloaded
        if uploaded is not None and uploaded.definition is None:
            if uploaded.announced is None:
                raise NotFound(f"Could not find trained model definition [{model_id}]")
            raise BadRequest(
                "Model definition truncated. Unable to deserialize trained model definition "
                f"[{model_id}]"
            )
        if uploaded is not None and uploaded.vocabulary is None:
            raise NotFound(f"Could not find vocabulary document [{model_id}_vocabulary]")
        try:
            await self._deployments.check(model_id)
        except IllegalArgument as error:
            raise model_not_found(model_id) from error
        is_endpoint = deployment_id in RESERVED_IDS or self._ledger.endpoint(deployment_id)
        is_other_model = deployment_id != model_id and (
            deployment_id.startswith(".") or self._ledger.model_named(deployment_id) is not None
        )
        if is_endpoint or is_other_model:
            raise BadRequest(
                f"Model IDs must be unique. Requested model ID [{deployment_id}] matches existing "
                "model IDs but must not."
            )
        is_running = self._deployments.find(deployment_id) is not None
        if is_running or deployment_id in self._ledger.assignments:
            raise Conflict(
                f"Cannot start deployment [{deployment_id}] because it has already been started"
            )

    # --- stopping and changing ---------------------------------------------------------------

    async def _meant(self, command: StopModel) -> list[str]:
        """Give the ids of the deployments that an expression means: ids, patterns, a model's id."""
        running = {one.spec.deployment_id for one in self._deployments.records()}
        running |= set(self._ledger.assignments)
        meant: dict[str, None] = {}
        for pattern in patterns_of(command.expression):
            if "*" in pattern:
                found = sorted(one for one in running if fits(one, pattern))
                if not found and not command.allow_no_match:
                    raise _no_deployment(pattern)
                meant |= dict.fromkeys(found)
            elif (one := self._one(pattern)) is not None:
                meant[one.spec.deployment_id] = None
            elif pattern in self._ledger.assignments:
                meant[pattern] = None
            elif pattern not in self._ledger.trained_models:
                await self._check_known(pattern)
        return list(meant)

    async def _check_known(self, model_id: str) -> None:
        """Let a model be stopped that does not run; refuse an id that nothing has."""
        try:
            await self._deployments.check(model_id)
        except InferenceError as error:
            raise _no_deployment(model_id) from error

    def _one(self, given: str) -> DeploymentRecord | None:
        """Give the deployment of an id, or the only one of a model. Raises `BadRequest`."""
        found = self._deployments.find(given)
        if found is not None:
            return found
        is_uploaded = given in self._ledger.trained_models
        of_model = [
            one
            for one in self._deployments.records()
            if one.spec.model_id == given
            or (not is_uploaded and listed_id(one.spec.model_id) == given)
        ]
        if len(of_model) > 1:
            ids = [one.spec.deployment_id for one in of_model]
            raise BadRequest(
                f"The model [{given}] has several deployments [{', '.join(ids)}]: name one of them"
            )
        return of_model[0] if of_model else None

    def _require(self, given: str) -> str:
        """Give the id of the deployment that `_one` finds. Raises `NotFound`, `BadRequest`."""
        found = self._one(given)
        if found is None:
            raise _no_deployment(given)
        return found.spec.deployment_id

    def _check_use(self, deployment_id: str) -> None:
        """Refuse to stop what an endpoint uses."""
        if self._assignments.is_of_endpoint(deployment_id):
            raise Conflict(
                f"Cannot stop deployment [{deployment_id}] as it was created by inference endpoint "
                f"[{deployment_id}]"
            )
        users = [
            one.inference_id
            for one in self._ledger.local_endpoints()
            if is_attached(one.service_settings)
            and deployment_of(one.inference_id, one.service_settings) == deployment_id
        ]
        if users:
            raise Conflict(
                f"Cannot stop deployment [{deployment_id}] as it is used by inference endpoints "
                f"[{', '.join(users)}]; use force to stop the deployment"
            )


def _no_deployment(deployment_id: str) -> NotFound:
    return NotFound(f"No known model deployment with id [{deployment_id}]")
