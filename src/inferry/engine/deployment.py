"""The life of one deployment in the supervisor: found, loaded, watched, started again, ended."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec

from inferry.children import Backoff, Child
from inferry.concurrency import in_own_thread
from inferry.deployment_stats import DeploymentStats, WorkerStats
from inferry.engine.controller import Work
from inferry.engine.launcher import Launcher
from inferry.engine.messages import CHECK, SCALE, STATS
from inferry.engine.tally_book import TallyBook
from inferry.engine.workshop import Workshop
from inferry.errors import InferenceError, InternalError, NotDeployed
from inferry.ipc import ChannelClosed
from inferry.modeling import ModelSource, Progress, Protection
from inferry.records import DeploymentRecord, DeploymentSpec, Put
from inferry.telemetry import get_logger
from inferry.unix_sockets import listen_at

_LONGEST_PAUSE_S = 60.0
_CHECK_S = 10.0
_FAILED_CHECKS = 3
_HOPELESS_CHECKS = 6  # a run that lasts for two minutes has no end: nothing else stops it
_NS_PER_MS = 1_000_000

Outcome: TypeAlias = "asyncio.Future[DeploymentRecord]"


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
        self._launcher = Launcher(workshop, spec.deployment_id)
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
                if child is None:
                    if not self.spec.num_allocations:  # whoever waits asks again, and wakes it
                        self._outcome.set_result(self.record)
                        self._expect_start()
                    continue
                await child.peer.closed()
                if self._is_let_go:
                    self._is_let_go = False
                    continue
                died = child
                await self._note_death(child)
            await backoff.pause(died)
            self._expect_start()

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

    async def clear_cache(self) -> None:
        """Publish that what is kept of its answers counts no more."""
        await self._publish(clearings=self.record.clearings + 1)

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
            if self._child is not None and self._failed_checks >= _HOPELESS_CHECKS:
                self._launcher.condemn(self._child, "it does not answer any more")
        else:
            self._failed_checks = 0

    def weigh(self) -> None:
        """End a worker that takes more of the host than it may; it is started again."""
        self._launcher.weigh(self._child)

    async def stats(self) -> DeploymentStats:
        """Ask the worker what it has done, and add what those before it had."""
        body = await self._tell(STATS)
        worker = _read_stats(body)
        totals = self._book.take(
            worker, now_s=time.monotonic(), now_ms=time.time_ns() // _NS_PER_MS
        )
        return DeploymentStats(self.record, self.restarts, worker, self.protection, totals)

    async def work(self) -> Work | None:
        """Tell what was done since the last call, None at the first."""
        await self.stats()
        return self._book.work()

    # --- starting ----------------------------------------------------------------------------

    async def _bring_up(self) -> Child | None:
        """Find the model, start a worker and have it load; publish that it answers.

        Gives None when it was let go meanwhile, and nobody reaches what the worker listens on.
        """
        source = await self._find()
        if self._listening is None:
            self._listening = listen_at(self._path)
        listening = self._listening
        await self._launcher.prepare(source, self.spec, listening, self._report)
        self._report("waiting for other models to load")
        async with self._workshop.loading:
            self._report("loading the model")
            child, facts = await self._launcher.load(source, self.spec, listening)
        if self._listening is not listening or not self.spec.num_allocations:
            self._close_socket()
            await child.end()
            return None
        self._child, self.protection = child, facts.protection
        self._failed_checks = 0
        get_logger().info(
            "deployment started",
            deployment_id=self.spec.deployment_id,
            pid=child.process.pid,
            arithmetic=str(facts.arithmetic),
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
            arithmetic=facts.arithmetic,
            cosine=facts.cosine,
        )
        self._outcome.set_result(self.record)
        return child

    async def _find(self) -> ModelSource:
        library, model_id = self._workshop.library, self.spec.model_id
        self._report("looking for the model")
        source = await asyncio.to_thread(library.find, model_id)
        if source is None:
            self._report("downloading the model")
            source = await in_own_thread(
                partial(library.fetch, model_id, self._report_download, self._stop_fetching)
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

    def _report_download(self, progress: Progress) -> None:
        """Note how far a download is; called by its thread."""
        self._loop.call_soon_threadsafe(self._report, f"downloading the model, {progress}")

    async def _note_failure(self, failure: InferenceError) -> None:
        """Publish that it does not run, and why."""
        get_logger().error(
            "a deployment did not start, trying again later",
            deployment_id=self.spec.deployment_id,
            reason=str(failure),
        )
        await self._publish(state="failed", socket=None, reason=str(failure))
        self._close_socket()  # now: whoever is turned away knows that there is none any more
        self._outcome.set_exception(failure)
        self._outcome.exception()  # whoever waits sees it; there may be nobody

    async def _rest(self, spec: DeploymentSpec) -> None:
        """End the worker: nobody is sent to it any more, and who was sent is told to ask again."""
        self._wanted.clear()
        self._failed_checks = 0
        self._is_let_go = self._child is not None
        self._expect_start()
        await self._publish(spec=spec, state="started", progress="", socket=None, reason=None)
        get_logger().info("a deployment rests", deployment_id=spec.deployment_id)
        self._close_socket()
        await self._end_child()
        self._book.close()

    async def _note_death(self, child: Child) -> None:
        """Publish that it starts again; who has sent work to the dead worker sends it once more."""
        await self._end_child()
        await self._launcher.note_end(child, self.spec.model_id)
        self.restarts += 1
        get_logger().error(
            "a model worker ended, starting another",
            deployment_id=self.spec.deployment_id,
            pid=child.process.pid,
            returncode=child.process.returncode,
            restarts=self.restarts,
        )
        self._expect_start()
        if self.spec.num_allocations:  # else it was let go meanwhile
            await self._publish(state="starting")

    def _expect_start(self) -> None:
        """Let who comes now wait for the next start; who waits already goes on waiting for it."""
        if self._outcome.done():
            self._outcome = self._loop.create_future()

    # --- the worker --------------------------------------------------------------------------

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
