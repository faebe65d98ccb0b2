"""Interfaces between packages that may not import each other; the L4 modules wire them."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import msgspec

from inferry.calls import Event, HttpCall, HttpReply
from inferry.commands import Command, StagedFile
from inferry.deployment_stats import DeploymentStats
from inferry.domain import Deadline, Endpoint, InputType, Json, LocalResult, Result, TaskType
from inferry.records import (
    Announced,
    Change,
    DeploymentRecord,
    DeploymentSpec,
    Record,
    StoredFile,
    Supplied,
    TrainedModelRecord,
)
from inferry.service import Auth, Framing

T = TypeVar("T")


class Store(Protocol):
    """The durable registry. One writer per host."""

    async def load(self) -> list[Record]:
        """Give every record."""

    async def write(self, changes: Sequence[Change]) -> None:
        """Apply `changes` in one transaction, durable on return.

        Raises `VersionConflict` when a revision is not the expected one, `StoreFailure` otherwise.
        """

    async def value(self, name: str, make: Callable[[], str]) -> str:
        """Give the stored value of `name`, made and stored on first use (e.g. `cluster_uuid`)."""

    async def keep(self, name: str, value: str) -> None:
        """Store `value` as the value of `name`."""

    async def close(self) -> None:
        """Finish what is under way and let go of the database."""


class Vault(Protocol):
    """Seals secrets and resolves references to them."""

    def seal(self, secrets: dict[str, str], *, owner: str) -> bytes:
        """Encrypt `secrets`, bound to the endpoint id `owner`; checks references, keeps them."""

    def open(self, sealed: bytes, *, owner: str) -> dict[str, str]:
        """Decrypt and resolve references. Raises a named error when the master key is lost."""

    def merge(self, sealed: bytes, secrets: dict[str, str], *, owner: str) -> bytes:
        """Seal what `sealed` holds with `secrets` laid over it; references stay references.

        Raises as `open` does when the master key is lost.
        """


class MasterKeys(Protocol):
    """The keys of a vault: the newest seals, former ones still open."""

    @property
    def has_former(self) -> bool:
        """Whether there are keys beside the newest."""

    def renew(self) -> None:
        """Make a new key, kept beside the former ones, and seal with it from now on.

        Raises `SecretsUnreadable` when the key is not kept here.
        """

    def reseal(self, sealed: bytes, *, owner: str) -> bytes | None:
        """Seal with the newest key what a former one sealed; None when it is already.

        Raises `SecretsUnreadable`.
        """

    def retire(self) -> None:
        """Forget the former keys, for good."""


class Exchange(msgspec.Struct, frozen=True):
    """One call with what is needed to sign it and to bound it in time.

    group: whose retries and failures are counted together, the host when empty.
    """

    call: HttpCall
    endpoint: Endpoint
    auth: Auth | None
    deadline: Deadline
    group: str = ""


class EventStream(Protocol):
    """An open stream of a provider."""

    def events(self) -> AsyncGenerator[list[Event]]:
        """Give the events as they arrive, those that come together in one list, never empty.

        Raises `UpstreamError` when the stream breaks.
        """


class Outbound(Protocol):
    """The only door to the outside: egress check, credentials, retries, breaker."""

    async def exchange(self, exchange: Exchange, read: Callable[[HttpReply], T]) -> T:
        """Send and give `read(reply)`.

        `read` is pure; an `UpstreamError` it raises is retried as its `retry` says, inside the
        deadline. Raises `DeadlineExceeded`, `UpstreamUnreachable`, `BadRequest` (egress), and
        what `read` raises.
        """

    def stream(
        self, exchange: Exchange, *, framing: Framing, refuse: Callable[[HttpReply], Exception]
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open a stream; a status other than 2xx raises `refuse(reply)`. Leaving closes it."""


class Limiter(Protocol):
    """Spaces calls of one rate-limit group."""

    async def acquire(self, group: str, requests_per_minute: float, *, deadline: Deadline) -> float:
        """Wait for a permit and give the seconds waited.

        Raises `QueueFull`, or `DeadlineExceeded` when the permit would come too late.
        """


class Deployments(Protocol):
    """The local models that run on this host, in the supervisor."""

    async def check(self, model_id: str, task_type: TaskType | None = None) -> TaskType | None:
        """Refuse a model that cannot be here, without loading or downloading it.

        task_type: what it shall do, None for whatever it does. Gives what it does, None while its
        files are not on this machine.
        Raises `NotFound` with the command that provides it, `IllegalArgument`, `UnusableModel`.
        """

    async def start(self, spec: DeploymentSpec, *, is_proven: bool = False) -> DeploymentRecord:
        """Start a model, or join its start, and give it when it runs.

        A model that has never run and does not is forgotten again; one that `is_proven` is tried
        until it is stopped; one that rests is given allocations. Goes on when the caller is
        cancelled. Raises what the start failed with: `NotFound`, `UnusableModel`, ...
        """

    async def scale(self, spec: DeploymentSpec) -> None:
        """Change how many allocations a deployment has. Raises `NotDeployed`."""

    async def stop(self, deployment_id: str) -> None:
        """End a deployment, if there is one."""

    async def clear_cache(self, deployment_id: str) -> None:
        """Have every API process forget the answers of a deployment. Raises `NotDeployed`."""

    def find(self, deployment_id: str) -> DeploymentRecord | None:
        """Give a deployment as it is now, with the progress of its start."""

    def records(self) -> Iterable[DeploymentRecord]:
        """Give every deployment as it is now."""

    async def stats(self) -> list[DeploymentStats]:
        """Tell what every deployment has done."""


class Incoming(Protocol):
    """Where an API process puts what it has received, for the supervisor to take. It blocks."""

    def stage(self, content: bytes | memoryview) -> StagedFile:
        """Write `content` to disk. Raises `StoreFailure`, and then nothing of it remains."""

    def discard(self, staged: StagedFile) -> None:
        """Remove a file that nobody took."""


class ModelFiles(Protocol):
    """The files of uploaded models, in the supervisor. It blocks, and raises `StoreFailure`."""

    def create(self, model_id: str, metadata: Mapping[str, Json]) -> None:
        """Make the folder of a model, empty but for its configuration."""

    def take_part(
        self,
        model_id: str,
        part: int,
        staged: StagedFile,
        announced: Announced,
        *,
        is_first: bool,
    ) -> StoredFile | None:
        """Take over a part; give the definition when it was the last one that was missing.

        is_first: no other is known of; what is there a crash left, and it is deleted. Raises
        `AlreadyExists` when there is another part of this number, and `InvalidRequest` for the last
        one when all together are not as long as announced.
        """

    def drop_parts(self, model_id: str) -> None:
        """Delete the parts, which are one file by now."""

    def take_vocabulary(self, model_id: str, staged: StagedFile) -> StoredFile:
        """Take over the vocabulary."""

    def remove(self, model_id: str) -> None:
        """Delete a model with everything that was received of it."""


class ModelSupply(Protocol):
    """Brings built-in models to this machine, from where the operator says; in the supervisor."""

    async def is_package(self, model_id: str) -> bool:
        """Tell whether an id stands for a package of a repository. Raises nothing."""

    async def listed(self, patterns: Collection[str]) -> list[TrainedModelRecord]:
        """List the models that are folders of this machine, as `_ml/trained_models` shows them.

        patterns: of `inferry.id_patterns`; no file is read of models that none of them means.
        """

    async def bring(
        self, model_id: str, learn: Callable[[dict[str, Json]], Awaitable[None]]
    ) -> Supplied:
        """Download a model, unless it is here, and give its files; one call for an id at a time.

        learn: told what the model is once that is known, as the body of `PUT _ml/trained_models`
        says it. Raises `NotFound` with the command that provides it, `IllegalArgument` for no
        model's id, `ShuttingDown`, and what went wrong.
        """

    def progress(self) -> dict[str, str]:
        """Tell of each model that is being brought how far it is, for people."""

    async def remove(self, model_id: str) -> None:
        """Stop to bring a model, and delete the package that was downloaded for it."""


class Engine(Protocol):
    """Runs local models for an API process."""

    async def infer(
        self,
        deployment_id: str,
        texts: Sequence[str],
        *,
        query: str | None = None,
        config: Mapping[str, Json] | None = None,
        input_type: InputType,
        deadline: Deadline,
    ) -> LocalResult:
        """Run `texts`, at least one; searches and rankings go before everything else.

        query: what the texts are ranked by, None for models that take single texts. A ranking is
        in the order of the texts. config: the inference config of this request, None for the
        model's own.

        Raises `NotDeployed`, `WorkerLost` when the work is lost and may be sent again, `QueueFull`,
        `DeadlineExceeded`, and `BadRequest` for texts that the model cannot take.
        """


class Writer(Protocol):
    """The supervisor's single writer, as an API process sees it."""

    async def submit(self, command: Command) -> Any:
        """Run `command` to its end, whatever becomes of the caller, and give its reply."""


Publish = Callable[[Sequence[Change]], Awaitable[None]]
"""Makes every API process of the host serve the changes; returns when all do."""

Probe = Callable[[Endpoint, Deadline], Awaitable[Result]]
"""One real inference with an endpoint that is not stored yet."""
