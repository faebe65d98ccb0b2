"""What is stored of deployments, so that the next server has them as they were left.

What callers started has an assignment. Of any other deployment, the endpoint that made it says
with its settings how it runs, and whether it was stopped. Call what stores within its lock.
"""

from __future__ import annotations

import msgspec

from inferry.core.deployment_settings import spec_of, with_allocations
from inferry.core.ledger import Ledger
from inferry.core.preconfigured import RESERVED_IDS
from inferry.domain import Settings
from inferry.records import AssignmentRecord, DeploymentSpec, Drop, EndpointRecord, Put


class Assignments:
    """The stored side of deployments."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def is_of_endpoint(self, deployment_id: str) -> bool:
        """Tell whether an endpoint has made this deployment."""
        if deployment_id in self._ledger.assignments:
            return False
        return deployment_id in RESERVED_IDS or self._ledger.endpoint(deployment_id) is not None

    async def create(self, spec: DeploymentSpec) -> AssignmentRecord:
        """Store what a caller starts, and that it has not run yet."""
        revision = self._ledger.next_revision()
        record = AssignmentRecord(spec, created_at_ms=revision, is_starting=True, revision=revision)
        await self._ledger.commit(Put(record, expects=0))
        return record

    async def note_run(self, record: AssignmentRecord) -> None:
        """Store that what was created has run, unless it was stopped meanwhile."""
        current = self._same(record)
        if current is not None:
            await self._replace(msgspec.structs.replace(current, is_starting=False))

    async def forget(self, record: AssignmentRecord) -> None:
        """Remove what was created and did not run, unless it was stopped meanwhile."""
        current = self._same(record)
        if current is not None:
            await self._drop(current)

    async def change(self, spec: DeploymentSpec) -> None:
        """Store the allocations of a deployment."""
        assignment = self._ledger.assignments.get(spec.deployment_id)
        if assignment is not None:
            await self._replace(msgspec.structs.replace(assignment, spec=spec))
            return
        endpoint = self._ledger.endpoint(spec.deployment_id)
        if endpoint is not None:
            adaptive = spec.adaptive_allocations
            given: Settings = (
                {"num_allocations": spec.num_allocations}
                if adaptive is None
                else {"adaptive_allocations": adaptive}
            )
            settings = with_allocations(endpoint.service_settings, given)
            await self._replace(msgspec.structs.replace(endpoint, service_settings=settings))

    async def stop(self, deployment_id: str) -> None:
        """Forget an assignment, or note with an endpoint that its deployment shall not run."""
        assignment = self._ledger.assignments.get(deployment_id)
        if assignment is not None:
            await self._drop(assignment)
            return
        endpoint = self._ledger.endpoint(deployment_id)
        if endpoint is not None and not endpoint.is_starting:  # else it goes with its deployment
            await self._replace(msgspec.structs.replace(endpoint, is_stopped=True))

    async def start_again(self, endpoint: EndpointRecord, allocations: Settings) -> DeploymentSpec:
        """Note with an endpoint that its deployment runs again, and give how.

        allocations: settings that replace those of the endpoint, if there are any.
        """
        settings = endpoint.service_settings
        if allocations:
            settings = with_allocations(settings, allocations)
        started = msgspec.structs.replace(endpoint, service_settings=settings, is_stopped=False)
        await self._replace(started)
        return spec_of(started)

    def _same(self, record: AssignmentRecord) -> AssignmentRecord | None:
        """Give an assignment as it is now, None when it is gone, or another has its id."""
        current = self._ledger.assignments.get(record.spec.deployment_id)
        if current is None or current.created_at_ms != record.created_at_ms:
            return None
        return current

    async def _replace(self, record: AssignmentRecord | EndpointRecord) -> None:
        """Store a record in place of its present revision."""
        revision = self._ledger.next_revision(after=record.revision)
        revised = msgspec.structs.replace(record, revision=revision)
        await self._ledger.commit(Put(revised, expects=record.revision))

    async def _drop(self, record: AssignmentRecord) -> None:
        drop = Drop("assignment", record.spec.deployment_id, expects=record.revision)
        await self._ledger.commit(drop)
