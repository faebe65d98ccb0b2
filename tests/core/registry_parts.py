"""What a registry needs beside itself.

A store in memory, a vault that shows what it seals, small services, and a probe that answers as it
is told.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferry.calls import Credential, HttpCall, HttpReply
from inferry.commands import DeleteEndpoint, PutEndpoint, StagedFile, UpdateEndpoint
from inferry.concurrency import Nursery
from inferry.core.registry import Registry
from inferry.core.snapshot import Snapshot
from inferry.deployment_stats import DeploymentStats
from inferry.domain import (
    Completion,
    Deadline,
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    Ranking,
    Result,
    SparseEmbeddings,
    TaskType,
)
from inferry.errors import (
    AlreadyExists,
    BadRequest,
    InferenceError,
    InvalidRequest,
    NotDeployed,
    NotFound,
    SecretsUnreadable,
    UnusableModel,
    VersionConflict,
)
from inferry.fields import Field
from inferry.id_patterns import fits
from inferry.modeling import Protection
from inferry.records import (
    Announced,
    Change,
    DeploymentRecord,
    DeploymentSpec,
    Drop,
    Put,
    Record,
    StoredFile,
    Supplied,
    TrainedModelRecord,
)
from inferry.service import HttpTask, Service
from inferry.services import elasticsearch
from inferry.vectors import JsonVector

API_KEY = Field("api_key", "str", secret=True, required=True, updatable=True)
SECOND_KEY = Field("second_key", "str", secret=True, updatable=True)
MODEL_ID = Field("model_id", "str", required=True)
URL = Field("url", "url")
DIMENSIONS = Field("dimensions", "int", at_least=1)
SIMILARITY = Field("similarity", "str", choices=("cosine", "dot_product", "l2_norm"))
REGION = Field("region", "str", required=True)
REQUESTS_PER_MINUTE = Field("rate_limit.requests_per_minute", "long", at_least=1)
USER = Field("user", "str")
TEAM = Field("team", "str")

WIDTH = 3


def build(request: InferenceRequest) -> HttpCall:
    body: dict[str, Any] = {"model": request.endpoint.service_settings["model_id"]}
    if request.endpoint.dimensions_set_by_user:
        body["dimensions"] = request.endpoint.service_settings["dimensions"]
    if request.chat is not None:
        body["messages"] = request.chat.messages
    key = request.endpoint.secrets["api_key"]
    return HttpCall(
        "POST",
        f"https://provider.test/v1?account={key}",
        {"Content-Type": "application/json"},
        msgspec.json.encode(body),
    )


def parse(reply: HttpReply, request: InferenceRequest) -> Result:
    raise AssertionError("the probe of these tests does not send")


def sign(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    yield from ()
    return Credential({"X-Key": endpoint.secrets["api_key"]}, math.inf)


def sign_after_token(
    call: HttpCall, endpoint: Endpoint, now: float
) -> Generator[HttpCall, HttpReply, Credential]:
    yield HttpCall("POST", "https://provider.test/token")
    raise AssertionError("a dry run fetches no token")


def check_keys(endpoint: Endpoint) -> list[str]:
    if "second_key" in endpoint.secrets and "url" not in endpoint.service_settings:
        return ["[service_settings] does not contain the required setting [url]"]
    return []


def http_task(*fields: Field, **more: Any) -> HttpTask:
    return HttpTask(
        build,
        parse,
        service_settings=(API_KEY, SECOND_KEY, MODEL_ID, URL, *fields, REQUESTS_PER_MINUTE),
        task_settings=(USER, TEAM),
        **more,
    )


HOSTED = Service(
    name="hosted",
    title="Hosted",
    auth=sign,
    check=check_keys,
    requests_per_minute=500,
    tasks={
        TaskType.TEXT_EMBEDDING: http_task(
            DIMENSIONS, SIMILARITY, requests_per_minute=3000, default_similarity="dot_product"
        ),
        TaskType.SPARSE_EMBEDDING: http_task(),
        TaskType.RERANK: http_task(),
        TaskType.COMPLETION: http_task(),
        TaskType.CHAT_COMPLETION: http_task(),
    },
)
TOKENS = Service(
    name="tokens", title="Tokens", auth=sign_after_token, tasks={TaskType.RERANK: http_task()}
)
BEDROCK = Service(name="amazonbedrock", title="B", tasks={TaskType.COMPLETION: http_task(REGION)})
LOCAL, ELSER = elasticsearch.SERVICE, elasticsearch.ELSER
SERVICES = {service.name: service for service in (HOSTED, TOKENS, BEDROCK, LOCAL, ELSER)}


class MemoryStore:
    """A store that forgets. fails: raised by the next write."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Record] = {}
        self.values: dict[str, str] = {}
        self.fails: Exception | None = None

    async def load(self) -> list[Record]:
        return list(self.rows.values())

    async def write(self, changes: Sequence[Change]) -> None:
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        for change in changes:
            if isinstance(change, Put):
                key = (str(change.record.__struct_config__.tag), change.record.key)
            else:
                key = (change.kind, change.key)
            found = self.rows.get(key)
            if change.expects not in (None, found.revision if found else 0):
                raise VersionConflict(f"[{key[1]}]: version conflict")
            if isinstance(change, Put):
                self.rows[key] = change.record
            else:
                self.rows.pop(key, None)

    async def value(self, name: str, make: Callable[[], str]) -> str:
        return self.values.setdefault(name, make())

    async def keep(self, name: str, value: str) -> None:
        self.values[name] = value

    async def close(self) -> None:
        self.rows.clear()


class OpenVault:
    """A vault that seals nothing, so that tests see references. key: what opens its seals.

    former: keys that open too, until they are retired.
    """

    def __init__(self) -> None:
        self.key = "first"
        self.former: list[str] = []
        self.known = {"${env:INFERRY_SECRET_A}": "resolved-a"}

    def seal(self, secrets: dict[str, str], *, owner: str) -> bytes:
        for value in secrets.values():
            if value.startswith("${") and value not in self.known:
                raise BadRequest("a reference that the rules do not allow")
        return msgspec.json.encode([self.key, owner, secrets])

    def open(self, sealed: bytes, *, owner: str) -> dict[str, str]:
        secrets = self._raw(sealed, owner)
        return {name: self.known.get(value, value) for name, value in secrets.items()}

    def merge(self, sealed: bytes, secrets: dict[str, str], *, owner: str) -> bytes:
        return self.seal(self._raw(sealed, owner) | secrets, owner=owner)

    def _raw(self, sealed: bytes, owner: str) -> dict[str, str]:
        key, sealed_for, secrets = msgspec.json.decode(sealed, type=tuple[str, str, dict[str, str]])
        if key not in (self.key, *self.former) or sealed_for != owner:
            raise SecretsUnreadable("the master key that sealed the secrets is lost")
        return secrets

    @property
    def has_former(self) -> bool:
        return bool(self.former)

    def renew(self) -> None:
        self.former.append(self.key)
        self.key += "'"

    def reseal(self, sealed: bytes, *, owner: str) -> bytes | None:
        secrets = self._raw(sealed, owner)
        resealed = self.seal(secrets, owner=owner)
        return None if resealed == sealed else resealed

    def retire(self) -> None:
        self.former.clear()


class TellingProbe:
    """A probe that records what it is asked. result: given instead of the usual.

    fails: raised. fails_once: raised by the next probe only.

    gate: when set, every probe waits for it, after it has told `arrived`.
    """

    def __init__(self) -> None:
        self.asked: list[Endpoint] = []
        self.deadlines: list[Deadline] = []
        self.fails: Exception | None = None
        self.fails_once: Exception | None = None
        self.result: Result | None = None
        self.gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()

    async def __call__(self, endpoint: Endpoint, deadline: Deadline) -> Result:
        self.asked.append(endpoint)
        self.deadlines.append(deadline)
        if self.gate is not None:
            self.arrived.set()
            await self.gate.wait()
        failure = self.fails_once or self.fails
        self.fails_once = None
        if failure is not None:
            raise failure
        return self.result or usual_result(endpoint.task_type)


class ToldDeployments:
    """Deployments that start when they are told to.

    absent: models that are not here. tasks: what models do that do not do everything. fails:
    raised by every start. gate: when set, every start waits for it. publish: told what runs.
    """

    def __init__(self, publish: Callable[[Sequence[Change]], Awaitable[None]]) -> None:
        self.running: dict[str, DeploymentRecord] = {}
        self.absent: set[str] = set()
        self.tasks: dict[str, TaskType] = {}
        self.fails: InferenceError | None = None
        self.gate: asyncio.Event | None = None
        self.starts: list[tuple[DeploymentSpec, bool]] = []
        self.scaled: list[DeploymentSpec] = []
        self._publish = publish
        self._ended: dict[str, asyncio.Event] = {}

    async def check(self, model_id: str, task_type: TaskType | None = None) -> TaskType | None:
        await asyncio.sleep(0)
        if model_id in self.absent:
            raise NotFound(f"the model [{model_id}] is not here")
        can = self.tasks.get(model_id, task_type)
        if task_type is not None and can is not task_type:
            raise UnusableModel(f"[{model_id}] is for [{can}]")
        return can

    async def start(self, spec: DeploymentSpec, *, is_proven: bool = False) -> DeploymentRecord:
        self.starts.append((spec, is_proven))
        starting = DeploymentRecord(spec, progress="half way")
        self.running[spec.deployment_id] = starting
        await self._publish([Put(starting)])
        await self._wait(spec.deployment_id)
        if self.fails is not None:
            del self.running[spec.deployment_id]
            raise self.fails
        if spec.deployment_id not in self.running:
            raise NotDeployed(f"[{spec.deployment_id}] is not deployed")
        is_dense = spec.task_type in (None, TaskType.TEXT_EMBEDDING)
        dimensions = (spec.dimensions or WIDTH) if is_dense else None
        started = msgspec.structs.replace(
            self.running[spec.deployment_id],
            state="started",
            task_type=spec.task_type,
            dimensions=dimensions,
            similarity="dot_product",
        )
        self.running[spec.deployment_id] = started
        await self._publish([Put(started)])
        return started

    async def _wait(self, deployment_id: str) -> None:
        ended = self._ended.setdefault(deployment_id, asyncio.Event())
        if self.gate is not None:
            async with Nursery() as nursery:
                waits = [nursery.start(one.wait()) for one in (self.gate, ended)]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)

    async def scale(self, spec: DeploymentSpec) -> None:
        self.scaled.append(spec)
        record = msgspec.structs.replace(self.running[spec.deployment_id], spec=spec)
        self.running[spec.deployment_id] = record
        await self._publish([Put(record)])

    async def clear_cache(self, deployment_id: str) -> None:
        found = self.running[deployment_id]
        cleared = msgspec.structs.replace(found, clearings=found.clearings + 1)
        self.running[deployment_id] = cleared
        await self._publish([Put(cleared)])

    async def stop(self, deployment_id: str) -> None:
        if self.running.pop(deployment_id, None) is not None:
            self._ended.pop(deployment_id, asyncio.Event()).set()
            await self._publish([Drop("deployment", deployment_id)])

    async def stats(self) -> list[DeploymentStats]:
        await asyncio.sleep(0)
        return [DeploymentStats(one, 0, None, Protection()) for one in self.running.values()]

    def find(self, deployment_id: str) -> DeploymentRecord | None:
        return self.running.get(deployment_id)

    def records(self) -> list[DeploymentRecord]:
        return list(self.running.values())


class MemoryFiles:
    """The files of uploaded models, and what was received, in memory. fails: raised by takes."""

    def __init__(self) -> None:
        self.received: dict[str, bytes] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.fails: Exception | None = None

    def stage(self, content: bytes | memoryview) -> StagedFile:
        name = str(len(self.received))
        self.received[name] = bytes(content)
        return StagedFile(name, hashlib.sha256(content).hexdigest(), len(content))

    def discard(self, staged: StagedFile) -> None:
        self.received.pop(staged.name, None)

    def create(self, model_id: str, metadata: Mapping[str, Any]) -> None:
        self.models[model_id] = {"metadata": metadata, "parts": {}}

    def take_part(
        self,
        model_id: str,
        part: int,
        staged: StagedFile,
        announced: Announced,
        *,
        is_first: bool,
    ) -> StoredFile | None:
        if self.fails is not None:
            raise self.fails
        if is_first:
            self.drop_parts(model_id)
        parts = self.models[model_id]["parts"]
        content = self.received.pop(staged.name)
        if parts.get(part, content) != content:
            raise AlreadyExists(f"chunked doc [{model_id}][{part}] already exists")
        taken = parts | {part: content}
        whole = b"".join(taken[number] for number in sorted(taken))
        is_last = len(taken) == announced.total_parts
        if is_last and len(whole) != announced.total_definition_length:
            raise InvalidRequest(f"they have [{len(whole)}] bytes together")
        parts[part] = content
        if not is_last:
            return None
        self.models[model_id]["model"] = whole
        return StoredFile(hashlib.sha256(whole).hexdigest(), len(whole))

    def drop_parts(self, model_id: str) -> None:
        self.models[model_id]["parts"] = {}

    def take_vocabulary(self, model_id: str, staged: StagedFile) -> StoredFile:
        self.models[model_id]["vocabulary"] = self.received.pop(staged.name)
        return StoredFile(staged.sha256, staged.size_bytes)

    def remove(self, model_id: str) -> None:
        self.models.pop(model_id, None)


class ToldSupply:
    """Brings built-in models when it is told to.

    packages: ids that stand for a package. fails: raised before, fails_late: after it is known what
    a model is. known: when set, a model waits for it before that; gate: in between.
    """

    def __init__(self) -> None:
        self.packages: set[str] = set()
        self.folders: list[TrainedModelRecord] = []
        self.asked: list[str] = []
        self.removed: list[str] = []
        self.told: dict[str, str] = {}
        self.fails: InferenceError | None = None
        self.fails_late: InferenceError | None = None
        self.known: asyncio.Event | None = None
        self.gate: asyncio.Event | None = None

    async def is_package(self, model_id: str) -> bool:
        await asyncio.sleep(0)
        return model_id in self.packages

    async def listed(self, patterns: Collection[str]) -> list[TrainedModelRecord]:
        await asyncio.sleep(0)
        return [one for one in self.folders if any(fits(one.model_id, each) for each in patterns)]

    async def bring(
        self, model_id: str, learn: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> Supplied:
        await asyncio.sleep(0)
        self.asked.append(model_id)
        if self.fails is not None:
            raise self.fails
        if self.known is not None:
            await self.known.wait()
        config = {"text_expansion": {"tokenization": {"bert": {"do_lower_case": True}}}}
        package = {"packaged_model_id": model_id[1:], "size": 3, "sha256": "ab"}
        await learn({"model_type": "pytorch", "inference_config": config, **package})
        if self.gate is not None:
            await self.gate.wait()
        if self.fails_late is not None:
            raise self.fails_late
        return Supplied(StoredFile("ab", 3), StoredFile("cd", 2))

    def progress(self) -> dict[str, str]:
        return dict(self.told)

    async def remove(self, model_id: str) -> None:
        await asyncio.sleep(0)
        self.removed.append(model_id)
        if self.known is not None:
            self.known.set()


def usual_result(task_type: TaskType) -> Result:
    if task_type is TaskType.TEXT_EMBEDDING:
        return DenseEmbeddings((JsonVector(b"[1,2,3]", WIDTH),))
    if task_type is TaskType.SPARSE_EMBEDDING:
        return SparseEmbeddings(({"a": 1.0},))
    if task_type is TaskType.RERANK:
        return Ranking(())
    return Completion(("hi",))


@dataclass
class House:
    """A registry with its surroundings, and a snapshot that follows it."""

    nursery: Nursery
    store: MemoryStore = field(default_factory=MemoryStore)
    vault: OpenVault = field(default_factory=OpenVault)
    probe: TellingProbe = field(default_factory=TellingProbe)
    snapshot: Snapshot = field(default_factory=Snapshot)
    published: list[Sequence[Change]] = field(default_factory=list)
    publish_fails: Exception | None = None
    skip_validation: bool = False
    now: float = 1_000.0

    def __post_init__(self) -> None:
        self.deployments = ToldDeployments(self.publish)
        self.files = MemoryFiles()
        self.supply = ToldSupply()
        self.registry = Registry(
            self.store,
            self.vault,
            SERVICES,
            self.probe,
            self.publish,
            deployments=self.deployments,
            files=self.files,
            incoming=self.files,
            supply=self.supply,
            nursery=self.nursery,
            starts=self.nursery,
            skip_validation=self.skip_validation,
            clock=lambda: self.now,
        )

    async def publish(self, changes: Sequence[Change]) -> None:
        await asyncio.sleep(0)
        if self.publish_fails is not None:
            raise self.publish_fails
        self.published.append(changes)
        self.snapshot.apply(changes)

    async def put(
        self,
        inference_id: str = "a",
        body: dict[str, Any] | None = None,
        *,
        task_type: str | None = "completion",
        **more: Any,
    ) -> dict[str, Any]:
        command = PutEndpoint(
            inference_id,
            task_type,
            f"/_inference/{task_type}/{inference_id}",
            hosted() if body is None else body,
            **more,
        )
        answer: dict[str, Any] = msgspec.json.decode(await self.registry.put_endpoint(command))
        return answer

    async def update(
        self, body: dict[str, Any], *, task_type: str | None = None, **more: Any
    ) -> dict[str, Any]:
        command = UpdateEndpoint("a", task_type, body, **more)
        answer: dict[str, Any] = msgspec.json.decode(await self.registry.update_endpoint(command))
        return answer

    async def delete(
        self, inference_id: str = "a", *, task_type: str | None = None, **more: Any
    ) -> dict[str, Any]:
        command = DeleteEndpoint(inference_id, task_type, **more)
        answer: dict[str, Any] = msgspec.to_builtins(await self.registry.delete_endpoint(command))
        return answer


def local(model_id: str | None = "m", **settings: Any) -> dict[str, Any]:
    """Give the body of a PUT of a local model that is fine, but for what `settings` changes."""
    usual = {"model_id": model_id, "num_allocations": 1, "num_threads": 1} | settings
    given = {name: value for name, value in usual.items() if value is not None}
    return {"service": "elasticsearch", "service_settings": given}


def hosted(*, task_settings: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Give the body of a PUT that is fine, `settings` added to its service settings."""
    body: dict[str, Any] = {
        "service": "hosted",
        "service_settings": {"api_key": "marker-key", "model_id": "m"} | settings,
    }
    return body if task_settings is None else body | {"task_settings": task_settings}


async def let_others_come_in() -> None:
    """Let everything that was started run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def open_house(**more: Any) -> AsyncIterator[House]:
    """Give a house whose jobs end with the block."""
    async with Nursery() as nursery:
        yield House(nursery, **more)
