"""What API processes ask of the supervisor, which alone writes.

Each command names the type of its reply in `Reply`. Bodies are what the wire carried, already
parsed strictly; the supervisor decides, so that one place holds the rules. One table, long since
there are many: whoever reads the channel knows all of them, and nothing else.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from inferry.deployment_stats import HostStats
from inferry.key_limits import KeyLimits
from inferry.origin import Origin
from inferry.records import DeploymentRecord, RoleDescriptor, TrainedModelRecord


class Command(msgspec.Struct, frozen=True, tag=True):
    """Base of the commands; the tag is the class name."""

    Reply: ClassVar[Any] = None


# --- endpoints ---------------------------------------------------------------------------------


class PutEndpoint(Command, frozen=True):
    """Create an endpoint. The reply is its JSON object.

    task_type: from the URL, None when the URL has none. url: for messages.
    dry_run: validate and probe, store nothing; the reply then shows what would be stored and sent.
    """

    Reply: ClassVar[Any] = bytes
    inference_id: str
    task_type: str | None
    url: str
    body: dict[str, Any]
    timeout_s: float | None = None
    timeout: str | None = None
    dry_run: bool = False
    actor: str | None = None

    def __repr__(self) -> str:
        return f"PutEndpoint(inference_id={self.inference_id!r})"


class UpdateEndpoint(Command, frozen=True):
    """Change an endpoint in place. The reply is its JSON object."""

    Reply: ClassVar[Any] = bytes
    inference_id: str
    task_type: str | None
    body: dict[str, Any]
    timeout_s: float | None = None
    timeout: str | None = None
    actor: str | None = None

    def __repr__(self) -> str:
        return f"UpdateEndpoint(inference_id={self.inference_id!r})"


class Deletion(msgspec.Struct, frozen=True):
    """What a DELETE did, or would do; `error_message` is None except on a dry run."""

    acknowledged: bool
    pipelines: list[str]
    indexes: list[str]
    error_message: str | None = None


class DeleteEndpoint(Command, frozen=True):
    """Delete an endpoint."""

    Reply: ClassVar[Any] = Deletion
    inference_id: str
    task_type: str | None
    dry_run: bool = False
    force: bool = False
    actor: str | None = None


class FetchSecrets(Command, frozen=True):
    """Give the resolved secrets of an endpoint to the process that calls its provider."""

    Reply: ClassVar[Any] = dict[str, str]
    inference_id: str
    revision: int


class Rotated(msgspec.Struct, frozen=True):
    """What a new master key sealed. unreadable: ids of endpoints that no former key opens."""

    resealed: int
    unreadable: list[str]


class RotateMasterKey(Command, frozen=True):
    """Replace the master key and seal every secret with the new one."""

    Reply: ClassVar[Any] = Rotated


class StartModel(Command, frozen=True):
    """Start a deployment of a model (`_start`); the reply is how it is then.

    deployment_id: None for the model's own id. number_of_allocations: None for one, or for as many
    as `adaptive_allocations` says. wait_for: starting, started or fully_allocated. timeout_s,
    timeout: in seconds, and as the caller wrote it.
    """

    Reply: ClassVar[Any] = DeploymentRecord
    model_id: str
    deployment_id: str | None = None
    number_of_allocations: int | None = None
    threads_per_allocation: int = 1
    queue_capacity: int = 10_000
    cache_size: str | None = None
    priority: str = "normal"
    adaptive_allocations: dict[str, Any] | None = None
    wait_for: str = "started"
    timeout_s: float = 20.0
    timeout: str = "20s"
    actor: str | None = None


class StopModel(Command, frozen=True):
    """Stop deployments (`_stop`): ids and patterns between commas, or the id of a model with one.

    force: also those that endpoints use.
    """

    expression: str
    allow_no_match: bool = True
    force: bool = False
    actor: str | None = None


class UpdateModel(Command, frozen=True):
    """Change the allocations of a deployment (`_update`); the reply is how it is then."""

    Reply: ClassVar[Any] = DeploymentRecord
    deployment_id: str
    number_of_allocations: int | None = None
    adaptive_allocations: dict[str, Any] | None = None
    actor: str | None = None


class ClearDeploymentCache(Command, frozen=True):
    """Answer nothing more from what is kept of the answers of a deployment (`cache/_clear`)."""

    deployment_id: str
    actor: str | None = None


class FetchModels(Command, frozen=True):
    """List the models of this machine that nobody uploaded, and that are no packages.

    patterns: of `inferry.id_patterns`, one of which means the id that a model is listed under.
    """

    Reply: ClassVar[Any] = list[TrainedModelRecord]
    patterns: list[str]


class FetchStats(Command, frozen=True):
    """Tell what every deployment has done, and how far downloads are."""

    Reply: ClassVar[Any] = HostStats


class WakeDeployment(Command, frozen=True):
    """Start a deployment that rests, or join its start; the reply comes when it runs."""

    deployment_id: str


class StartDeployment(Command, frozen=True):
    """Start the local model of an endpoint, or join its start; the reply comes when it runs."""

    inference_id: str


# --- region policy and references --------------------------------------------------------------


class PutRegionPolicy(Command, frozen=True):
    """Set the region policy. The reply is the stored document as JSON."""

    Reply: ClassVar[Any] = bytes
    policy: dict[str, Any]
    force: bool = False
    actor: str | None = None


class DeleteRegionPolicy(Command, frozen=True):
    """Remove the region policy."""

    actor: str | None = None


class PutReference(Command, frozen=True):
    """Register something that uses endpoints; kind is `pipeline` or `index`."""

    name: str
    kind: str
    inference_ids: list[str]
    actor: str | None = None


class DeleteReference(Command, frozen=True):
    """Forget something that used endpoints."""

    name: str
    actor: str | None = None


# --- uploaded models ---------------------------------------------------------------------------


class PutTrainedModel(Command, frozen=True):
    """Create a model whose parts come later, or download a built-in one. The reply is the record.

    wait_for_completion: of the download. timeout_s, timeout: in seconds, and as the caller wrote
    it.
    """

    Reply: ClassVar[Any] = TrainedModelRecord
    model_id: str
    body: dict[str, Any]
    wait_for_completion: bool = False
    timeout_s: float = 30.0
    timeout: str = "30s"
    actor: str | None = None

    def __repr__(self) -> str:
        return f"PutTrainedModel(model_id={self.model_id!r})"


class StagedFile(msgspec.Struct, frozen=True):
    """A file that a process has written where the supervisor finds it. name: in that place."""

    name: str
    sha256: str
    size_bytes: int


class PutDefinitionPart(Command, frozen=True):
    """Take a part of a model's definition; the file is the supervisor's from here on."""

    model_id: str
    part: int
    total_parts: int
    total_definition_length: int
    file: StagedFile
    actor: str | None = None


class PutVocabulary(Command, frozen=True):
    """Take the vocabulary of a model. merges, scores: how many there are."""

    model_id: str
    words: int
    merges: int
    scores: int
    file: StagedFile
    actor: str | None = None


class DeleteTrainedModel(Command, frozen=True):
    """Remove a model with all its files; with `force` also one that is in use."""

    model_id: str
    force: bool = False
    actor: str | None = None


class PutModelAlias(Command, frozen=True):
    """Give a model another name; with `reassign` also one that another model has."""

    model_id: str
    alias: str
    reassign: bool = False
    actor: str | None = None


class DeleteModelAlias(Command, frozen=True):
    """Take another name from a model."""

    model_id: str
    alias: str
    actor: str | None = None


# --- API keys, users and roles -----------------------------------------------------------------


class NewApiKey(msgspec.Struct, frozen=True):
    """A key that was made. `secret` is shown this once; the server keeps a digest only."""

    id: str
    name: str
    secret: str
    encoded: str
    expiration_ms: int | None = None

    def __repr__(self) -> str:
        return f"NewApiKey(id={self.id!r}, name={self.name!r})"


class CreateApiKey(Command, frozen=True):
    """Make an API key of the user `owner`.

    owner_key_id: the key that the caller came with, None for one who came with a password.
    expiration: a duration as the wire writes it (`30d`). role_descriptors: None or empty means
    everything that the owner may do now.
    """

    Reply: ClassVar[Any] = NewApiKey
    owner: str
    name: str | None = None
    expiration: str | None = None
    role_descriptors: dict[str, RoleDescriptor] | None = None
    metadata: dict[str, Any] | None = None
    owner_key_id: str | None = None


class Invalidation(msgspec.Struct, frozen=True):
    """Ids of the keys that ended now, and of those that had ended before."""

    invalidated: list[str]
    previously_invalidated: list[str]


class KeyCriteria(msgspec.Struct, frozen=True):
    """Which API keys are meant: those that meet everything that is given.

    name: may end with `*`. owned_by: the caller's user name, where only own keys are meant.
    """

    ids: list[str] | None = None
    name: str | None = None
    username: str | None = None
    realm_name: str | None = None
    owned_by: str | None = None


class InvalidateApiKeys(Command, frozen=True):
    """End API keys for good. Without any criterion it is refused."""

    Reply: ClassVar[Any] = Invalidation
    criteria: KeyCriteria


class PutUser(Command, frozen=True):
    """Create or replace a user; tells whether it is new. No password keeps the stored one."""

    Reply: ClassVar[Any] = bool
    username: str
    roles: list[str] | None
    password: str | None = None
    password_hash: str | None = None
    full_name: str | None = None
    email: str | None = None
    metadata: dict[str, Any] = {}
    enabled: bool = True

    def __repr__(self) -> str:
        return f"PutUser(username={self.username!r})"


class DeleteUser(Command, frozen=True):
    """Remove a user; tells whether there was one."""

    Reply: ClassVar[Any] = bool
    username: str


class SetPassword(Command, frozen=True):
    """Change the password of a user."""

    username: str
    password: str | None = None
    password_hash: str | None = None

    def __repr__(self) -> str:
        return f"SetPassword(username={self.username!r})"


class SetUserEnabled(Command, frozen=True):
    """Let a user in, or keep it out."""

    username: str
    enabled: bool


class PutRole(Command, frozen=True):
    """Create or replace a role; tells whether it is new."""

    Reply: ClassVar[Any] = bool
    name: str
    descriptor: RoleDescriptor


class DeleteRole(Command, frozen=True):
    """Remove a role; tells whether there was one."""

    Reply: ClassVar[Any] = bool
    name: str


class NoteFailedLogin(Command, frozen=True):
    """Count a failed login; the reply is the seconds that the pair is locked out, 0 if it is not.

    pair: of user and address, as `security.lockouts` makes it.
    """

    Reply: ClassVar[Any] = float
    pair: bytes


class Refusal(msgspec.Struct, frozen=True):
    """A request that was not let in, or asked for what its caller may not do.

    event: as the audit log names it. at_s: since the epoch.
    """

    event: str
    reason: str
    origin: Origin
    at_s: float


class NoteRefusals(Command, frozen=True):
    """Write refusals into the audit log. dropped: how many there were beside these."""

    refusals: list[Refusal]
    dropped: int = 0


class Admission(msgspec.Struct, frozen=True):
    """Whether a key may run something. limit: the one that is used up, for `wait_s`, else empty."""

    limit: str = ""
    wait_s: float = 0.0


class AdmitKey(Command, frozen=True):
    """Count a request of an API key that has limits, unless one of them is used up."""

    Reply: ClassVar[Any] = Admission
    key_id: str
    limits: KeyLimits


class SpendKeyTokens(Command, frozen=True):
    """Count the tokens of a request that was admitted."""

    key_id: str
    tokens: int


class KeyUsage(msgspec.Struct, frozen=True):
    """What an API key with limits used today, in UTC. refused: requests above a limit."""

    id: str
    requests: int
    refused: int
    tokens: int


class FetchKeyUsage(Command, frozen=True):
    """Tell what the API keys with limits used today."""

    Reply: ClassVar[Any] = list[KeyUsage]


# --- rate limits -------------------------------------------------------------------------------


class Grant(msgspec.Struct, frozen=True):
    """Permits: `tokens` may be used at once, until `holds_s` from now; ask again after `wait_s`."""

    tokens: int
    holds_s: float
    wait_s: float


class TakeTokens(Command, frozen=True):
    """Ask for up to `wanted` permits of a rate-limit group.

    owner: the endpoint that asks, so that its newest limit replaces its former one.
    """

    Reply: ClassVar[Any] = Grant
    group: str
    requests_per_minute: float
    wanted: int
    owner: str = ""
