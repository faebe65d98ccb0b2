"""What the store keeps, or the supervisor alone, and tells the processes: one type per kind.

Records are immutable; a change replaces a record and raises its revision.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from inferry.domain import TaskType
from inferry.modeling import Arithmetic


class EndpointRecord(msgspec.Struct, frozen=True, tag="endpoint"):
    """An inference endpoint. `secrets` are sealed; times are milliseconds since the epoch.

    is_starting: its model has not run yet; if it does not start, the endpoint goes again.
    is_stopped: somebody stopped its deployment, which runs no more until somebody starts it.
    """

    inference_id: str
    task_type: str
    service: str
    service_settings: dict[str, Any]
    task_settings: dict[str, Any]
    chunking_settings: dict[str, Any] | None
    origin: str = "api"
    revision: int = 1
    secrets: bytes | None = msgspec.field(default=None)
    dimensions_set_by_user: bool = False
    created_at_ms: int = 0
    updated_at_ms: int = 0
    is_starting: bool = False
    is_stopped: bool = False

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.inference_id


class DeploymentSpec(msgspec.Struct, frozen=True):
    """A local model that is to run. dimensions: a width below the model's own, None for that.

    task_type: what it shall do, None for whatever its files say.
    num_allocations: batches that run at once, none while it rests; num_threads: of each.
    queue_capacity: texts that may wait. cache_size: as the caller wrote it; nothing is kept.
    """

    deployment_id: str
    model_id: str
    num_allocations: int
    num_threads: int
    adaptive_allocations: dict[str, Any] | None = None
    dimensions: int | None = None
    task_type: TaskType | None = None
    queue_capacity: int = 10_000
    cache_size: str | None = None
    priority: str = "normal"


class AssignmentRecord(msgspec.Struct, frozen=True, tag="assignment"):
    """A deployment that somebody started for itself, rather than with an endpoint.

    is_starting: it has not run yet; if it does not start, it goes again.
    """

    spec: DeploymentSpec
    created_at_ms: int
    is_starting: bool = False
    revision: int = 1

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.spec.deployment_id


class DeploymentRecord(msgspec.Struct, frozen=True, tag="deployment"):
    """A local model that runs, or is about to; never stored.

    state: starting, started or failed; started also while it rests, with no allocations. progress:
    of a start, for people. socket: path where its worker answers or will in a moment, None where it
    does not. reason: why it failed. task_type, dimensions, similarity and arithmetic: of the model,
    as loaded last. cosine: the least to f32 on the probe texts, None at f32 and where nobody knows.
    started_at_ms: since the epoch. model_bytes: of the files of its folder. clearings: how often
    callers cleared what is kept of its answers.
    """

    spec: DeploymentSpec
    state: str = "starting"
    progress: str = ""
    socket: str | None = None
    reason: str | None = None
    task_type: TaskType | None = None
    dimensions: int | None = None
    similarity: str | None = None
    arithmetic: Arithmetic | None = None
    cosine: float | None = None
    started_at_ms: int | None = None
    model_bytes: int = 0
    clearings: int = 0
    revision: int = 1

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.spec.deployment_id


class StoredFile(msgspec.Struct, frozen=True):
    """A file that is whole. sha256: in hexadecimal digits."""

    sha256: str
    size_bytes: int


class Supplied(msgspec.Struct, frozen=True):
    """The files of a built-in model that are here. vocabulary: of a TorchScript module only."""

    definition: StoredFile
    vocabulary: StoredFile | None = None


class Announced(msgspec.Struct, frozen=True):
    """What the first part of a definition said of all of them."""

    total_parts: int
    total_definition_length: int


class TrainedModelRecord(msgspec.Struct, frozen=True, tag="trained_model"):
    """A model that somebody uploaded. config: as its PUT gave it, defaults filled in.

    announced: once a part has come; definition: once all have, and are one file; vocabulary: once
    it has come. is_built_in: nobody uploads it, it is downloaded; then `definition` has no digest
    where it is more than one file. aliases: other names of it.
    """

    model_id: str
    config: dict[str, Any]
    create_time_ms: int
    created_by: str | None = None
    announced: Announced | None = None
    definition: StoredFile | None = None
    vocabulary: StoredFile | None = None
    is_built_in: bool = False
    aliases: list[str] = []
    revision: int = 1

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.model_id

    @property
    def is_whole(self) -> bool:
        """Whether everything has come that it takes to run it."""
        has_vocabulary = self.vocabulary is not None or self.is_built_in
        return self.definition is not None and has_vocabulary

    @property
    def is_module(self) -> bool:
        """Whether it is a TorchScript module, which runs as its configuration says."""
        return not self.is_built_in or self.vocabulary is not None


class RoleDescriptor(msgspec.Struct, frozen=True, rename={"global_": "global"}):
    """Privileges: a role's, or those an API key is limited to.

    Only `cluster` has an effect here; the rest is stored and returned as it came.
    """

    cluster: list[str] = []
    indices: list[Any] = []
    applications: list[Any] = []
    run_as: list[str] = []
    metadata: dict[str, Any] = {}
    description: str | None = None
    global_: dict[str, Any] | None = None
    remote_indices: list[Any] = []
    remote_cluster: list[Any] = []


class RoleRecord(msgspec.Struct, frozen=True, tag="role"):
    """A role that an administrator defined."""

    name: str
    descriptor: RoleDescriptor
    revision: int = 1

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.name


class UserRecord(msgspec.Struct, frozen=True, tag="user"):
    """A user. `password_hash` is a slow hash in its usual text form."""

    username: str
    password_hash: str
    roles: list[str]
    full_name: str | None = None
    email: str | None = None
    metadata: dict[str, Any] = {}
    enabled: bool = True
    reserved: bool = False
    revision: int = 1

    def __repr__(self) -> str:
        return f"UserRecord(username={self.username!r}, revision={self.revision})"

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.username


class ApiKeyRecord(msgspec.Struct, frozen=True, tag="api_key"):
    """An API key: effective rights are `limited_by` (the owner's at creation) ∩ descriptors."""

    id: str
    name: str
    digest: bytes
    owner: str
    role_descriptors: dict[str, RoleDescriptor]
    limited_by: dict[str, RoleDescriptor]
    creation_ms: int
    expiration_ms: int | None = None
    invalidation_ms: int | None = None
    metadata: dict[str, Any] = {}
    revision: int = 1

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.id


class LockoutRecord(msgspec.Struct, frozen=True, tag="lockout"):
    """A pair of user and address that failed to log in too often; never stored.

    pair: as `security.lockouts` makes it. until_s: when it ends, on the monotonic clock.
    """

    pair: bytes
    until_s: float
    revision: int = 1

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.pair.hex()


class RegionPolicyRecord(msgspec.Struct, frozen=True, tag="region_policy"):
    """The one region policy. `policy` is the document as the caller gave it."""

    policy: dict[str, Any]
    created_at_ms: int
    created_by: str | None = None
    updated_at_ms: int | None = None
    updated_by: str | None = None
    revision: int = 1

    @property
    def key(self) -> str:
        """There is only one."""
        return "region_policy"


class ReferenceRecord(msgspec.Struct, frozen=True, tag="reference"):
    """Something that uses endpoints: a pipeline or an index."""

    name: str
    kind: str
    inference_ids: list[str]
    revision: int = 1

    @property
    def key(self) -> str:
        """The record's key among its kind."""
        return self.name


Record: TypeAlias = (
    EndpointRecord
    | AssignmentRecord
    | DeploymentRecord
    | RoleRecord
    | UserRecord
    | ApiKeyRecord
    | LockoutRecord
    | RegionPolicyRecord
    | ReferenceRecord
    | TrainedModelRecord
)


class Put(msgspec.Struct, frozen=True, tag="put"):
    """A record that was made or replaced.

    expects: revision that the store must hold for it (0: none), else `VersionConflict`.
    """

    record: Record
    expects: int | None = None


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """A record that is gone. kind: the record's tag."""

    kind: str
    key: str
    expects: int | None = None


Change: TypeAlias = Put | Drop
