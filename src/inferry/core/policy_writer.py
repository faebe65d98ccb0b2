"""Sets and removes the region policy, and registers what uses endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from inferry.commands import PutReference, PutRegionPolicy
from inferry.core.ledger import Ledger
from inferry.core.locks import KeyedLocks
from inferry.core.references import check_reference
from inferry.core.regions import (
    encode_region_policy,
    is_allowed,
    no_region_policy,
    parse_region_policy,
    region_of,
)
from inferry.domain import Json
from inferry.errors import Conflict, NotFound, VersionConflict
from inferry.records import Drop, Put, ReferenceRecord, RegionPolicyRecord

_SHOWN_IDS = 10
_POLICY = "region_policy"
_NAME = "reference/"


class PolicyWriter:
    """Carries out the commands of region policy and references; clock: seconds since the epoch."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._locks = KeyedLocks()

    async def put_policy(self, command: PutRegionPolicy) -> bytes:
        """Set the region policy from the body of its PUT and give the stored document as JSON."""
        document = parse_region_policy(command.policy)
        async with self._locks.hold(_POLICY):
            if not command.force:
                self._refuse_denial(document)
            stored = self._ledger.region_policy
            record = self._next_policy(stored, document, command.actor)
            try:
                await self._ledger.commit(Put(record, expects=stored.revision if stored else 0))
            except VersionConflict as error:
                raise Conflict(
                    "Failed to put region policy due to a concurrent update conflict. Please retry."
                ) from error
        return encode_region_policy(record)

    async def delete_policy(self) -> None:
        """Remove the region policy."""
        async with self._locks.hold(_POLICY):
            stored = self._ledger.region_policy
            if stored is None:
                raise no_region_policy()
            await self._ledger.commit(Drop(_POLICY, stored.key, expects=stored.revision))

    async def put_reference(self, command: PutReference) -> None:
        """Register something that uses endpoints, in place of what had its name."""
        check_reference(command.name, command.kind, command.inference_ids)
        async with self._locks.hold(_NAME + command.name):
            stored = self._ledger.references.get(command.name)
            revision = stored.revision if stored else 0
            record = ReferenceRecord(
                command.name, command.kind, list(command.inference_ids), revision + 1
            )
            await self._ledger.commit(Put(record, expects=revision))

    async def delete_reference(self, name: str) -> None:
        """Forget something that used endpoints."""
        async with self._locks.hold(_NAME + name):
            stored = self._ledger.references.get(name)
            if stored is None:
                raise NotFound(f"No reference is registered under the name [{name}]")
            await self._ledger.commit(Drop("reference", name, expects=stored.revision))

    def _refuse_denial(self, document: Mapping[str, Json]) -> None:
        denied = []
        for record in self._ledger.endpoints_with_region():
            region = region_of(record.service, record.service_settings)
            if region is not None and not is_allowed(document, region):
                denied.append(record.inference_id)
        if denied:
            shown = denied[:_SHOWN_IDS] + ["..."] * (len(denied) > _SHOWN_IDS)
            raise Conflict(
                f"The region policy would deny [{len(denied)}] inference endpoints in use: "
                f"[{', '.join(shown)}]. "
                "Use the force=true query parameter to apply it nevertheless."
            )

    def _next_policy(
        self, stored: RegionPolicyRecord | None, document: dict[str, Json], actor: str | None
    ) -> RegionPolicyRecord:
        now_ms = int(self._clock() * 1000)
        if stored is None:
            return RegionPolicyRecord(document, now_ms, actor)
        return msgspec.structs.replace(
            stored,
            policy=document,
            updated_at_ms=now_ms,
            updated_by=actor,
            revision=stored.revision + 1,
        )
