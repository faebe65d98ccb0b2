"""Creates, changes and deletes endpoints.

Writes on one endpoint wait for each other: a second PUT of an id that is being created waits for
the first, and what an update or DELETE saw when it came in, it must still find when its turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from inferry.commands import DeleteEndpoint, Deletion, PutEndpoint, UpdateEndpoint
from inferry.core.definition import (
    Definition,
    check_together,
    check_update_body,
    check_update_target,
    define_endpoint,
    redefine_endpoint,
)
from inferry.core.dry_run import encode_dry_run
from inferry.core.endpoint_json import encode_item
from inferry.core.ledger import Ledger
from inferry.core.local_models import LocalModels
from inferry.core.lookup import (
    check_id_pattern,
    check_new_id,
    check_task_type,
    endpoint_not_found,
    parse_task_type,
)
from inferry.core.preconfigured import RESERVED_IDS, preconfigured_endpoints
from inferry.core.probing import probed
from inferry.core.regions import check_region
from inferry.core.sealing import Sealer
from inferry.domain import Deadline, Endpoint, TaskType
from inferry.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    InferenceError,
    InvalidSettings,
    NotFound,
    StoreFailure,
    VersionConflict,
)
from inferry.protocols import Probe
from inferry.records import Drop, EndpointRecord, Put
from inferry.service import HttpTask, LocalTask, Service, Task


@dataclass(frozen=True, slots=True)
class WriteRules:
    """What the operator set, and the clock (seconds since the epoch).

    skip_validation: store without a probe. timeout_s, generative_timeout_s: of a PUT that names
    none. update_timeout_s: the same for `_update`.
    """

    clock: Callable[[], float]
    skip_validation: bool = False
    timeout_s: float = 30.0
    generative_timeout_s: float = 120.0
    update_timeout_s: float = 30.0


class EndpointWriter:
    """Carries out PUT, `_update` and DELETE; call it where no cancellation reaches."""

    def __init__(
        self,
        ledger: Ledger,
        sealer: Sealer,
        services: Mapping[str, Service],
        probe: Probe,
        local: LocalModels,
        *,
        rules: WriteRules,
    ) -> None:
        self._ledger = ledger
        self._sealer = sealer
        self._services = services
        self._probe = probe
        self._local = local
        self._locks = ledger.locks
        self._rules = rules
        self._built_in = {record.inference_id: record for record in preconfigured_endpoints()}

    async def create(self, command: PutEndpoint) -> bytes:
        """Create an endpoint and give its JSON object, or the answer of a dry run."""
        inference_id = command.inference_id
        check_new_id(inference_id)
        task_type = command.task_type
        if task_type is None and command.body.get("task_type") is None:
            task_type = await self._local.task_type_of(command.body)
        definition = define_endpoint(
            inference_id, command.body, self._services, task_type=task_type
        )
        deadline = self._deadline(command, self._timeout_of(definition.endpoint.task_type))
        while True:
            async with self._locks.hold(inference_id, deadline):
                found = self._ledger.endpoint(inference_id)
                if found is None:
                    self._local.check_id(inference_id)
                    record, endpoint = await self._validated(definition, deadline)
                    if command.dry_run:
                        now = self._rules.clock()
                        service, task = definition.service, definition.task
                        return encode_dry_run(record, endpoint, service, task, now=now)
                    await self._store(Put(record, expects=0))
                    break
                if not found.is_starting:
                    raise _already_exists(inference_id)
            await self._local.wait_for_start(inference_id, deadline)
        return encode_item(await self._local.bring_up(record, deadline))

    async def update(self, command: UpdateEndpoint) -> bytes:
        """Change an endpoint in place and give its JSON object."""
        inference_id = command.inference_id
        if inference_id not in RESERVED_IDS:
            check_id_pattern(inference_id)
        check_update_body(command.body)
        seen = self._ledger.endpoint(inference_id)
        deadline = self._deadline(command, self._rules.update_timeout_s)
        async with self._locks.hold(inference_id, deadline):
            record = self._current(inference_id, seen)
            if record is None:
                raise _cannot_be_updated(inference_id)
            check_update_target(record, command.body, command.task_type)
            changed = await self._changed(record, command, deadline)
            if changed is not record:
                await self._store(Put(changed, expects=record.revision))
                if changed.service_settings != record.service_settings:
                    await self._local.follow(changed)
        return encode_item(changed)

    async def delete(self, command: DeleteEndpoint) -> Deletion:
        """Delete an endpoint, or on a dry run tell what uses it."""
        inference_id = command.inference_id
        asked = parse_task_type(command.task_type)
        seen = self._ledger.endpoint(inference_id)
        async with self._locks.hold(inference_id):
            built_in = self._built_in.get(inference_id)
            if built_in is not None and not command.force:
                raise BadRequest(
                    f"[{inference_id}] is a reserved inference endpoint. "
                    "Use the force=true query parameter to delete the inference endpoint."
                )
            record = built_in or self._current(inference_id, seen)
            if record is None:
                raise endpoint_not_found(inference_id)
            check_task_type(asked, record.task_type)
            users = self._ledger.references.users(inference_id)
            refusal = users.refusal(inference_id)
            if command.dry_run:
                return Deletion(
                    acknowledged=False,
                    pipelines=list(users.pipelines),
                    indexes=list(users.indexes),
                    error_message=refusal,
                )
            if refusal and not command.force:
                raise Conflict(refusal)
            if built_in is None:
                await self._ledger.commit(Drop("endpoint", inference_id, expects=record.revision))
            await self._local.stop(record)
        return Deletion(acknowledged=True, pipelines=[], indexes=[])

    async def secrets(self, inference_id: str, revision: int) -> dict[str, str]:
        """Give the resolved secrets of the endpoint that had `revision`.

        What an update changed since is in them; an endpoint that was deleted and created again is
        another one.
        """
        if inference_id in RESERVED_IDS:
            return {}
        record = self._ledger.endpoint(inference_id)
        if record is None:
            raise endpoint_not_found(inference_id)
        if not record.created_at_ms <= revision <= record.revision:
            raise _overtaken(record, revision)
        return await self._sealer.open(record)

    async def _validated(
        self, definition: Definition, deadline: Deadline
    ) -> tuple[EndpointRecord, Endpoint]:
        """Seal the secrets and probe; give what to store, and the endpoint with its secrets.

        The probe of a local model is its start, which comes when the endpoint is stored.
        """
        endpoint = definition.endpoint
        self._check_region(endpoint)
        if isinstance(definition.task, LocalTask):
            record = _new_record(endpoint, None, self._ledger.next_revision())
            return await self._local.check_new(record), endpoint
        sealed, secrets = await self._sealer.seal(dict(endpoint.secrets), endpoint.inference_id)
        endpoint = replace(endpoint, secrets=secrets)
        if not self._rules.skip_validation:
            endpoint = await probed(endpoint, definition.task, self._probe, deadline)
        return _new_record(endpoint, sealed, self._ledger.next_revision()), endpoint

    async def _changed(
        self, record: EndpointRecord, command: UpdateEndpoint, deadline: Deadline
    ) -> EndpointRecord:
        """Lay the update over `record` and probe; gives `record` itself when nothing changes."""
        service, task = self._task_of(record)
        endpoint, sent = redefine_endpoint(record, command.body, task)
        is_as_before = (
            endpoint.service_settings == record.service_settings
            and endpoint.task_settings == record.task_settings
        )
        if is_as_before and await self._sealer.holds(record, sent):
            return record
        sealed, secrets = await self._sealer.reseal(record, sent, task)
        endpoint = replace(endpoint, secrets=secrets)
        problems = check_together(service, endpoint)
        if problems:
            raise InvalidSettings.of(list(map(str, problems)))
        self._check_region(endpoint)
        if isinstance(task, HttpTask) and not self._rules.skip_validation:
            endpoint = await probed(endpoint, task, self._probe, deadline)
        revision = self._ledger.next_revision(after=record.revision)
        changed = msgspec.structs.replace(
            record,
            service_settings=dict(endpoint.service_settings),
            task_settings=dict(endpoint.task_settings),
            secrets=sealed,
            revision=revision,
            updated_at_ms=revision,
        )
        if isinstance(task, LocalTask):
            self._local.check_update(changed)
        return changed

    async def _store(self, put: Put) -> None:
        inference_id = put.record.key
        try:
            await self._ledger.commit(put)
        except VersionConflict as error:
            raise _already_exists(inference_id) if put.expects == 0 else error from error
        except StoreFailure as error:
            raise StoreFailure(f"Failed to store inference endpoint [{inference_id}]") from error

    def _task_of(self, record: EndpointRecord) -> tuple[Service, Task]:
        service = self._services.get(record.service)
        if service is None:
            raise BadRequest(f"Unknown service [{record.service}]")
        task = service.tasks.get(TaskType(record.task_type))
        if task is None:
            raise BadRequest(
                f"The [{record.service}] service does not support task type [{record.task_type}]"
            )
        return service, task

    def _current(self, inference_id: str, seen: EndpointRecord | None) -> EndpointRecord | None:
        """Give the record as it is now. Raises `VersionConflict` when it is not what was seen."""
        record = self._ledger.endpoint(inference_id)
        if seen is not None and record is not None and record.revision != seen.revision:
            raise _overtaken(record, seen.revision)
        return record

    def _check_region(self, endpoint: Endpoint) -> None:
        check_region(
            self._ledger.region_policy,
            inference_id=endpoint.inference_id,
            service=endpoint.service,
            service_settings=endpoint.service_settings,
        )

    def _timeout_of(self, task_type: TaskType) -> float:
        rules = self._rules
        return rules.generative_timeout_s if task_type.is_generative else rules.timeout_s

    def _deadline(self, command: PutEndpoint | UpdateEndpoint, default_s: float) -> Deadline:
        """Start the clock of `command`; a negative timeout counts as none."""
        if command.timeout_s is None or command.timeout_s < 0:
            return Deadline.after(default_s, f"{default_s:g}s", command.inference_id)
        timeout = command.timeout or f"{command.timeout_s:g}s"
        return Deadline.after(command.timeout_s, timeout, command.inference_id)


def _new_record(endpoint: Endpoint, sealed: bytes | None, revision: int) -> EndpointRecord:
    chunking = endpoint.chunking_settings
    return EndpointRecord(
        inference_id=endpoint.inference_id,
        task_type=endpoint.task_type,
        service=endpoint.service,
        service_settings=dict(endpoint.service_settings),
        task_settings=dict(endpoint.task_settings),
        chunking_settings=None if chunking is None else dict(chunking),
        origin=endpoint.origin,
        revision=revision,
        secrets=sealed,
        dimensions_set_by_user=endpoint.dimensions_set_by_user,
        created_at_ms=revision,
        updated_at_ms=revision,
    )


def _overtaken(record: EndpointRecord, seen: int) -> VersionConflict:
    return VersionConflict(
        f"[{record.inference_id}]: version conflict, required revision [{seen}], "
        f"current revision [{record.revision}]"
    )


def _already_exists(inference_id: str) -> AlreadyExists:
    return AlreadyExists(f"Inference endpoint [{inference_id}] already exists")


def _cannot_be_updated(inference_id: str) -> InferenceError:
    if inference_id in RESERVED_IDS:
        return Conflict(
            f"The inference endpoint [{inference_id}] cannot be updated: its model is not deployed"
        )
    return NotFound(f"The inference endpoint [{inference_id}] does not exist and cannot be updated")
