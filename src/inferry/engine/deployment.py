"""The life of one deployment in the supervisor: found, loaded, watched, started again, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import msgspec

from inferry.bootstrap import environment_of_children
from inferry.children import Backoff, Child, start_child
from inferry.concurrency import Nursery
from inferry.deployment_stats import DeploymentStats, WorkerStats
from inferry.engine.batching import Lane
from inferry.engine.controller import Work
from inferry.engine.cores import Cores, Holder
from inferry.engine.messages import (
    CHECK,
    GIVE_BACK,
    HURRY,
    LEASE,
    LOAD,
    PREPARE,
    RECALL,
    SCALE,
    STATS,
    Load,
    ModelFacts,
    encode_load,
)
from inferry.engine.tally_book import TallyBook
from inferry.errors import InferenceError, InternalError, NotDeployed, UnusableModel
from inferry.ipc import ChannelClosed, Handler
from inferry.modeling import (
    ModelLibrary,
    ModelSource,
    ModuleFiles,
    Precision,
    Protection,
    RuntimeOptions,
    cache_of_folder,
)
from inferry.protocols import Publish
from inferry.records import DeploymentRecord, DeploymentSpec, Put
from inferry.sections import TelemetrySection
from inferry.telemetry import get_logger
from inferry.unix_sockets import listen_at

_LONGEST_PAUSE_S = 60.0
_CHECK_S = 10.0
_PREPARE_S = 900.0
_FAILED_CHECKS = 3
_NS_PER_MS = 1_000_000
_MOST_THREADS, _MOST_THREADS_PER_CORE = 256, 16  # far more than any runtime starts
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

NoteViolation: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Told the deployment and the model that tried what its sandbox forbids."""

Outcome: TypeAlias = "asyncio.Future[DeploymentRecord]"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all deployments of a host share.

    module: what a worker process runs. sockets, graphs: directories of sockets and of what workers
    keep, each in a folder of its own. private: what a worker may see nothing else of.
    memory_limit: bytes of one worker, 0 for no limit. loading: held while a model loads.
    preparing: held while a TorchScript module is converted.
    """

    library: ModelLibrary
    publish: Publish
    nursery: Nursery
    cores: Cores
    module: str
    sockets: Path
    graphs: Path
    telemetry: TelemetrySection
    precision: Precision | str = "auto"
    memory_limit: int = 0
    private: Path | None = None
    allow_unsandboxed: bool = False
    note_violation: NoteViolation | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    loading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    preparing: defaultdict[ModuleFiles, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )

    def cache_of(self, source: ModelSource) -> Path:
        """Make the folder that only workers of one model write to and read from."""
        folder = cache_of_folder(self.graphs, source.folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


class Deployment:
    """A local model that is meant to run. record: as it is, and but for its progress is published.

    socket_name: of its own in the directory of sockets.
    """

    def __init__(self, spec: DeploymentSpec, workshop: Workshop, *, socket_name: str) -> None:
        self.record = DeploymentRecord(spec, started_at_ms=time.time_ns() // _NS_PER_MS)
        self.restarts = 0
        self.protection = Protection(missing="it has not started")
        self._workshop = workshop
        self._path = workshop.sockets / socket_name
        self._listening: socket.socket | None = None
        self._child: Child | None = None
        self._loading_child: Child | None = None
        self._stop_fetching = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._outcome: Outcome = self._loop.create_future()
        self._failed_checks = 0
        self._book = TallyBook()
        self._scaling = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._is_let_go = False
        if spec.num_allocations:
            self._wanted.set()

    @property
    def spec(self) -> DeploymentSpec:
        """Give what is wanted now."""
        return self.record.spec

    @property
    def is_up(self) -> bool:
        """Whether the last checks, or one of them, found it answering; true before the first."""
        return self._failed_checks < _FAILED_CHECKS

    async def started(self) -> DeploymentRecord:
        """Wait until the start that is under way ends. Raises what it failed with."""
        return await asyncio.shield(self._outcome)

    async def keep(self, *, is_proven: bool) -> InferenceError:
        """Start the model and start it again whenever its worker dies.

        Ends only with the failure of a model that has never run; `is_proven` says that this one
        has, before, and so is tried again and again.
        """
        backoff = Backoff(longest_s=_LONGEST_PAUSE_S)
        while True:
            await self._wanted.wait()
            died: Child | None = None
            try:
                child = await self._bring_up()
            except (InferenceError, OSError) as error:
                failure = _failure(error, self.spec)
                if not is_proven:
                    return failure
                await self._note_failure(failure)
            else:
                is_proven = True
                if not self.spec.num_allocations:  # it was let go while it started
                    await self.scale(self.spec)
                await child.peer.closed()
                if self._is_let_go:
                    self._is_let_go = False
                    continue
                died = child
                await self._note_death(child)
            await backoff.pause(died)
            if self._outcome.done():
                self._outcome = self._loop.create_future()

    async def scale(self, spec: DeploymentSpec) -> None:
        """Change the allocations, of a worker that runs at once; with none, the worker ends."""
        async with self._scaling:
            if not spec.num_allocations:
                await self._rest(spec)
            elif not self.spec.num_allocations:
                await self._publish(spec=spec, state="starting")
                self._wanted.set()
            else:
                await self._publish(spec=spec)
                await self._tell(SCALE, spec.num_allocations)

    async def wake(self) -> None:
        """Give a deployment that rests its first allocations."""
        spec = self.spec
        if not spec.num_allocations:
            adaptive = spec.adaptive_allocations or {}
            least = adaptive.get("min_number_of_allocations") or 1
            await self.scale(msgspec.structs.replace(spec, num_allocations=least))

    async def end(self, failure: InferenceError | None = None) -> None:
        """End the worker; whoever waits for a start gets `failure`."""
        self._stop_fetching.set()
        self._close_socket()
        await self._end_child()
        if not self._outcome.done():
            self._outcome.set_exception(failure or not_deployed(self.spec.deployment_id))
            self._outcome.exception()  # whoever waits sees it; there may be nobody

    async def check(self) -> None:
        """Have the worker run a text, and count when it fails."""
        is_new = self.record.state == "starting" and not self.restarts
        if is_new or not self.spec.num_allocations:
            return
        try:
            if self._child is None:
                raise ChannelClosed("there is no worker")
            async with asyncio.timeout(_CHECK_S):
                await self._child.peer.call(CHECK)
        except (InferenceError, TimeoutError) as error:
            self._failed_checks += 1
            get_logger().warning(
                "a check of a deployment failed",
                deployment_id=self.spec.deployment_id,
                reason=str(error) or "no answer in time",
                times=self._failed_checks,
            )
        else:
            self._failed_checks = 0

    def weigh(self) -> None:
        """End a worker that takes more of the host than it may; it is started again."""
        child, limit = self._child or self._loading_child, self._workshop.memory_limit
        if child is None:
            return
        resident, threads = _weight(child.process.pid)
        most_threads = _MOST_THREADS + _MOST_THREADS_PER_CORE * self._workshop.cores.total
        if 0 < limit < resident:
            get_logger().error(
                "a model worker is above [engine.memory_limit], ending it",
                deployment_id=self.spec.deployment_id,
                resident_bytes=resident,
                limit_bytes=limit,
            )
            child.kill()
        elif threads > most_threads:
            get_logger().error(
                "a model worker starts threads without end, ending it",
                deployment_id=self.spec.deployment_id,
                threads=threads,
                most_threads=most_threads,
            )
            child.kill()

    async def stats(self) -> DeploymentStats:
        """Ask the worker what it has done, and add what those before it had."""
        body = await self._tell(STATS)
        worker = _read_stats(body)
        totals = self._book.take(
            worker, now_s=time.monotonic(), now_ms=time.time_ns() // _NS_PER_MS
        )
        return DeploymentStats(self.record, self.restarts, worker, self.protection, totals)

    async def work(self) -> Work:
        """Tell what was done since the last call."""
        await self.stats()
        return self._book.work()

    # --- starting ----------------------------------------------------------------------------

    async def _bring_up(self) -> Child:
        """Find the model, start a worker and have it load; publish that it answers."""
        source = await self._find()
        self._report("waiting for other models to load")
        async with self._workshop.loading:
            if self._listening is None:
                self._listening = listen_at(self._path)
            await self._prepare(source, self._listening)
            self._report("loading the model")
            child, facts = await self._load(source, self._listening)
        self._child, self.protection = child, facts.protection
        self._failed_checks = 0
        get_logger().info(
            "deployment started",
            deployment_id=self.spec.deployment_id,
            pid=child.process.pid,
            precision=facts.precision,
            cosine=facts.cosine,
            protection=str(facts.protection),
            seconds=round(time.monotonic() - child.started_at, 2),
        )
        await self._publish(
            state="started",
            progress="",
            socket=str(self._path),
            reason=None,
            task_type=facts.task_type,
            dimensions=facts.dimensions,
            similarity=facts.similarity,
            precision=facts.precision,
        )
        self._outcome.set_result(self.record)
        return child

    async def _find(self) -> ModelSource:
        library, model_id = self._workshop.library, self.spec.model_id
        self._report("looking for the model")
        source = await asyncio.to_thread(library.find, model_id)
        if source is None:
            self._report("downloading the model")
            source = await asyncio.to_thread(
                library.fetch, model_id, self._report_download, self._stop_fetching
            )
        size = await asyncio.to_thread(_size_bytes, source.folder)
        self.record = msgspec.structs.replace(self.record, model_bytes=size)
        spec = self.spec
        return replace(
            source,
            task_type=spec.task_type or source.task_type,
            dimensions=spec.dimensions or source.dimensions,
        )

    def _report(self, progress: str) -> None:
        self.record = msgspec.structs.replace(self.record, progress=progress)

    def _report_download(self, progress: str) -> None:
        """Note how far a download is; called by its thread."""
        self._loop.call_soon_threadsafe(self._report, f"downloading the model, {progress}")

    async def _prepare(self, source: ModelSource, listening: socket.socket) -> None:
        """Have a worker of its own make what is loaded of a TorchScript module, once for all."""
        shop, module = self._workshop, source.module
        if module is None:
            return
        cache_dir = shop.cache_of(source)
        async with shop.preparing[module]:
            if module.prepared_in(cache_dir).is_dir():
                return
            self._report("converting the model")
            started_at = time.monotonic()
            options = RuntimeOptions(threads=shop.cores.total, cache_dir=cache_dir)
            try:
                async with asyncio.timeout(_PREPARE_S):
                    child, _ = await self._order(PREPARE, source, options, listening)
            except TimeoutError as error:
                raise UnusableModel(
                    f"The model [{source.name}] cannot be used: to convert it took more than"
                    f" [{_PREPARE_S:g}s]"
                ) from error
            await child.end()
            get_logger().info(
                "model converted",
                model_id=self.spec.model_id,
                seconds=round(time.monotonic() - started_at, 2),
            )

    async def _load(
        self, source: ModelSource, listening: socket.socket
    ) -> tuple[Child, ModelFacts]:
        """Start a worker and have it load. Raises `UnusableModel`, `InternalError`."""
        shop, total = self._workshop, self._workshop.cores.total
        threads = min(self.spec.num_threads, total)
        options = RuntimeOptions(
            threads=threads,
            streams=max(1, total // threads),
            precision=shop.precision,  # type: ignore[arg-type]  # checked with the configuration
            cache_dir=shop.cache_of(source),
        )
        child, answer = await self._order(LOAD, source, options, listening)
        try:
            return child, msgspec.msgpack.decode(answer, type=ModelFacts)
        except msgspec.MsgspecError as error:
            await child.end()
            raise InternalError(
                f"the worker of the deployment [{self.spec.deployment_id}] answers what cannot be "
                "read"
            ) from error

    async def _order(
        self, name: str, source: ModelSource, options: RuntimeOptions, listening: socket.socket
    ) -> tuple[Child, bytes]:
        """Start a worker and give it its order; one that does not carry it out is ended."""
        shop = self._workshop
        order = Load(
            source,
            options,
            self.spec.num_allocations,
            shop.telemetry,
            self.spec.queue_capacity,
            private=shop.private,
            allow_unsandboxed=shop.allow_unsandboxed,
        )
        holder = Holder(options.threads, self._recall)
        child = await start_child(
            shop.module,
            [listening],
            _lending(shop.cores, holder),
            nursery=shop.nursery,
            environment=environment_of_children(shop.environment),
            is_stranger=True,
        )
        shop.nursery.start(_release_with(child, shop.cores, holder))
        self._loading_child = child
        try:
            return child, await child.peer.call(name, encode_load(order))
        except BaseException as error:
            await child.end()
            if isinstance(error, ChannelClosed):
                await self._note_forbidden_call(child)
                raise InternalError(
                    f"the worker of the deployment [{self.spec.deployment_id}] ended while it "
                    f"loaded the model [{source.name}]; the log of the server may say why"
                ) from error
            raise
        finally:
            self._loading_child = None

    async def _note_failure(self, failure: InferenceError) -> None:
        """Publish that it does not run, and why."""
        get_logger().error(
            "a deployment did not start, trying again later",
            deployment_id=self.spec.deployment_id,
            reason=str(failure),
        )
        self._close_socket()
        await self._publish(state="failed", socket=None, reason=str(failure))
        self._outcome.set_exception(failure)
        self._outcome.exception()  # whoever waits sees it; there may be nobody

    async def _rest(self, spec: DeploymentSpec) -> None:
        """End the worker: nobody is sent to it any more, and who was sent is told to ask again."""
        self._wanted.clear()
        self._failed_checks = 0
        self._is_let_go = self._child is not None
        if self._outcome.done():
            self._outcome = self._loop.create_future()
        await self._publish(spec=spec, state="started", progress="", socket=None, reason=None)
        get_logger().info("a deployment rests", deployment_id=spec.deployment_id)
        self._close_socket()
        await self._end_child()
        self._book.close()

    async def _note_forbidden_call(self, child: Child) -> None:
        """Say so when the kernel ended a worker for a call that no model needs."""
        if child.process.returncode == -signal.SIGSYS:
            get_logger().error(
                "a model tried what its sandbox forbids, and the kernel ended its worker",
                deployment_id=self.spec.deployment_id,
                model_id=self.spec.model_id,
                pid=child.process.pid,
            )
            if self._workshop.note_violation is not None:
                await self._workshop.note_violation(self.spec.deployment_id, self.spec.model_id)

    async def _note_death(self, child: Child) -> None:
        """Publish that it starts again; who has sent work to the dead worker sends it once more."""
        await self._end_child()
        await self._note_forbidden_call(child)
        self.restarts += 1
        get_logger().error(
            "a model worker ended, starting another",
            deployment_id=self.spec.deployment_id,
            pid=child.process.pid,
            returncode=child.process.returncode,
            restarts=self.restarts,
        )
        self._outcome = self._loop.create_future()
        await self._publish(state="starting")

    # --- the worker --------------------------------------------------------------------------

    def _recall(self, lane: Lane) -> None:
        self._workshop.nursery.start(self._tell(RECALL, lane))

    async def _tell(self, name: str, number: int | None = None) -> bytes:
        """Call the worker, if there is one."""
        if self._child is None:
            return b""
        body = b"" if number is None else msgspec.msgpack.encode(number)
        with suppress(ChannelClosed):
            return await self._child.peer.call(name, body)
        return b""

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()

    def _close_socket(self) -> None:
        """Turn away whoever waits for a worker to accept."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
            self._path.unlink(missing_ok=True)

    async def _publish(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(
            self.record, **changes, revision=self.record.revision + 1
        )
        await self._workshop.publish([Put(self.record)])


def not_deployed(deployment_id: str) -> NotDeployed:
    """Say that nothing runs under this id."""
    return NotDeployed(f"[{deployment_id}] is not deployed")


def _lending(cores: Cores, holder: Holder) -> Mapping[str, Handler]:
    """Answer a worker that asks for cores."""

    async def lease(body: bytes) -> bytes:
        await cores.lease(holder, _lane(body))
        return b""

    async def hurry(body: bytes) -> bytes:
        cores.hurry(holder, _lane(body))
        return b""

    async def give_back(_: bytes) -> bytes:
        cores.give_back(holder)
        return b""

    return {LEASE: lease, HURRY: hurry, GIVE_BACK: give_back}


async def _release_with(child: Child, cores: Cores, holder: Holder) -> None:
    """Take the cores of a worker back when it ends."""
    await child.peer.closed()
    cores.leave(holder)


def _lane(body: bytes) -> Lane:
    return msgspec.msgpack.decode(body, type=Lane)


def _failure(error: InferenceError | OSError, spec: DeploymentSpec) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    failure = InternalError(
        f"the worker of the deployment [{spec.deployment_id}] cannot be started: {error.strerror}"
    )
    failure.__cause__ = error
    return failure


def _size_bytes(folder: Path) -> int:
    """Add up the files of a model."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def _read_stats(body: bytes) -> WorkerStats | None:
    """Read what a worker says of itself; None for one that is not there or talks nonsense."""
    with suppress(msgspec.MsgspecError):
        return msgspec.msgpack.decode(body, type=WorkerStats) if body else None
    return None


def _weight(pid: int) -> tuple[int, int]:
    """Give the resident bytes and the threads of a process, zeros of one that has just ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        threads = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17]
    except (OSError, IndexError):
        return 0, 0
    return int(pages) * _PAGE_BYTES, int(threads)
