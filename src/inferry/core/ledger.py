"""The supervisor's copy of what is stored, and the only way to change it.

Endpoints are kept packed, about as small as their JSON: a hundred thousand of them stay below the
memory of a tenth as many decoded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from inferry.core.deployment_settings import LOCAL_SERVICES
from inferry.core.locks import KeyedLocks
from inferry.core.model_configs import model_named
from inferry.core.references import References
from inferry.core.regions import SERVICES_WITH_REGION
from inferry.errors import InferenceError
from inferry.protocols import Publish, Store
from inferry.records import (
    AssignmentRecord,
    Change,
    Drop,
    EndpointRecord,
    Put,
    Record,
    ReferenceRecord,
    RegionPolicyRecord,
    TrainedModelRecord,
)
from inferry.telemetry import get_logger

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(EndpointRecord).decode


class Ledger:
    """Endpoints, uploaded models, assignments, region policy and references as the store has them.

    locks: by the id of an endpoint or a deployment; hold one from a look at it to the change that
    rests on the look. model_locks: the same by the id of a model in `_ml/trained_models`.
    clock: seconds since the epoch.
    """

    def __init__(self, store: Store, publish: Publish, clock: Callable[[], float]) -> None:
        self._store = store
        self._publish = publish
        self._clock = clock
        self._last_revision = 0
        self.locks = KeyedLocks()
        self.model_locks = KeyedLocks()
        self._endpoints: dict[str, bytes] = {}
        self._with_region: set[str] = set()
        self._local: set[str] = set()
        self.trained_models: dict[str, TrainedModelRecord] = {}
        self.assignments: dict[str, AssignmentRecord] = {}
        self.region_policy: RegionPolicyRecord | None = None
        self.references = References()

    def load(self, records: Iterable[Record]) -> None:
        """Take over what the store holds; records of other kinds are left alone."""
        for record in records:
            self._put(record)

    def records(self) -> Iterator[Record]:
        """Give every record that is kept here, as of now; sealed secrets are left out."""
        for packed in list(self._endpoints.values()):
            yield msgspec.structs.replace(_unpack(packed), secrets=None)
        if self.region_policy is not None:
            yield self.region_policy
        yield from list(self.references)
        yield from list(self.trained_models.values())

    def model_named(self, name: str) -> TrainedModelRecord | None:
        """Give the model of `_ml/trained_models` that has an id or another name."""
        return model_named(self.trained_models, name)

    def endpoint(self, inference_id: str) -> EndpointRecord | None:
        """Give the record of an endpoint, None when there is none."""
        packed = self._endpoints.get(inference_id)
        return None if packed is None else _unpack(packed)

    def endpoints_with_region(self) -> Iterator[EndpointRecord]:
        """Give the endpoints of services whose settings name a region, sorted by id."""
        for inference_id in sorted(self._with_region):
            yield _unpack(self._endpoints[inference_id])

    def local_endpoints(self) -> Iterator[EndpointRecord]:
        """Give the endpoints whose models run here, sorted by id."""
        for inference_id in sorted(self._local):
            yield _unpack(self._endpoints[inference_id])

    def endpoints_with_secrets(self) -> Iterator[EndpointRecord]:
        """Give the endpoints that have sealed secrets."""
        for packed in list(self._endpoints.values()):
            record = _unpack(packed)
            if record.secrets is not None:
                yield record

    async def replace_secrets(self, endpoints: Sequence[EndpointRecord]) -> None:
        """Store endpoints that differ from those here in how their secrets are sealed.

        Nobody else sees a difference, so the revision stays and nothing is published. Raises as
        `commit`.
        """
        await self._store.write([Put(record, expects=record.revision) for record in endpoints])
        for record in endpoints:
            now = self.endpoint(record.inference_id)
            if now is not None and now.revision == record.revision:
                self._put(record)

    def next_revision(self, *, after: int = 0) -> int:
        """Give the time in milliseconds, or the next number when that one was given already.

        So an id that is deleted and created again never has a revision twice, and nothing that is
        kept under id and revision outlives the endpoint.
        """
        self._last_revision = max(int(self._clock() * 1000), self._last_revision + 1, after + 1)
        return self._last_revision

    async def commit(self, *changes: Change) -> None:
        """Store `changes`, then remember and publish them.

        Call it where no cancellation reaches. Raises `VersionConflict` or `StoreFailure` when
        nothing was changed; once stored, the changes stand whatever becomes of their publication.
        """
        await self._store.write(changes)
        for change in changes:
            if isinstance(change, Put):
                self._put(change.record)
            else:
                self._drop(change)
        try:
            await self._publish([_public(change) for change in changes])
        except (InferenceError, OSError, EOFError) as error:
            get_logger().error("a stored change was not published", reason=str(error))

    def _put(self, record: Record) -> None:
        if isinstance(record, EndpointRecord):
            # A copy of the key: the record's own string would keep the memory around it from being
            # given back when the records of the start are gone, 1.3 MB for 1,000 endpoints.
            key = record.inference_id.encode().decode()
            self._endpoints[key] = _pack(record)
            if record.service in SERVICES_WITH_REGION:
                self._with_region.add(record.inference_id)
            if record.service in LOCAL_SERVICES:
                self._local.add(key)
        elif isinstance(record, RegionPolicyRecord):
            self.region_policy = record
        elif isinstance(record, ReferenceRecord):
            self.references.put(record)
        elif isinstance(record, TrainedModelRecord):
            self.trained_models[record.model_id] = record
        elif isinstance(record, AssignmentRecord):
            self.assignments[record.key] = record

    def _drop(self, drop: Drop) -> None:
        if drop.kind == "endpoint":
            self._endpoints.pop(drop.key, None)
            self._with_region.discard(drop.key)
            self._local.discard(drop.key)
        elif drop.kind == "region_policy":
            self.region_policy = None
        elif drop.kind == "reference":
            self.references.drop(drop.key)
        elif drop.kind == "trained_model":
            self.trained_models.pop(drop.key, None)
        elif drop.kind == "assignment":
            self.assignments.pop(drop.key, None)


def _public(change: Change) -> Change:
    if isinstance(change, Put) and isinstance(change.record, EndpointRecord):
        return Put(msgspec.structs.replace(change.record, secrets=None))
    return change
