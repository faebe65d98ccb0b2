"""Starts the worker processes of a deployment, and gives each its order."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from inferry.bootstrap import environment_of_children
from inferry.children import Child, start_child
from inferry.engine.cores import Cores, Holder
from inferry.engine.footprint import excess_of, footprint_of, is_overfull
from inferry.engine.jobs import Lane
from inferry.engine.messages import (
    GIVE_BACK,
    HURRY,
    LEASE,
    LOAD,
    PREPARE,
    RECALL,
    Load,
    ModelFacts,
    encode_load,
)
from inferry.engine.workshop import Workshop
from inferry.errors import InferenceError, InternalError, UnusableModel
from inferry.ipc import ChannelClosed, Handler
from inferry.modeling import ModelSource, RuntimeOptions
from inferry.records import DeploymentSpec
from inferry.telemetry import get_logger

_LONGEST_BATCH_S = 25.0
"""A batch of a large model on a slow core takes seconds; requests wait for 30 by default."""


class Launcher:
    """Starts workers of one deployment."""

    def __init__(self, workshop: Workshop, deployment_id: str) -> None:
        self._workshop = workshop
        self._deployment_id = deployment_id
        self._ordered: Child | None = None
        self._holders: dict[Child, Holder] = {}
        self._guilty: tuple[Child, str] | None = None
        self._folder: Path | None = None  # that the worker writes to

    async def prepare(
        self,
        source: ModelSource,
        spec: DeploymentSpec,
        listening: socket.socket,
        report: Callable[[str], None],
    ) -> None:
        """Have a worker of its own make what is loaded of a TorchScript module, once for all.

        What an earlier version made stays in use where that fails, for want of PyTorch for one.
        Raises `UnusableModel`, `InternalError`.
        """
        shop, module = self._workshop, source.module
        if module is None:
            return
        cache_dir = shop.cache_of(source)
        async with shop.preparing[module]:
            if module.prepared_in(cache_dir).is_dir():
                return
            report("waiting for other models to be converted")
            async with shop.converting:
                report("converting the model")
                options = RuntimeOptions(threads=shop.cores.total, cache_dir=cache_dir)
                try:
                    child, _ = await self._order(PREPARE, source, spec, options, listening)
                except InferenceError as error:
                    if module.found_in(cache_dir) is None:
                        raise
                    get_logger().warning(
                        "a model cannot be converted anew, it runs as it did",
                        model_id=spec.model_id,
                        reason=str(error),
                    )
                    return
            await child.end()
            get_logger().info(
                "model converted",
                model_id=spec.model_id,
                seconds=round(time.monotonic() - child.started_at, 2),
            )

    async def load(
        self, source: ModelSource, spec: DeploymentSpec, listening: socket.socket
    ) -> tuple[Child, ModelFacts]:
        """Start a worker and have it load. Raises `UnusableModel`, `InternalError`."""
        shop, total = self._workshop, self._workshop.cores.total
        threads = min(spec.num_threads, total)
        options = RuntimeOptions(
            threads=threads,
            streams=max(1, total // threads),
            precision=shop.precision,  # type: ignore[arg-type]  # checked with the configuration
            cache_dir=shop.cache_of(source),
        )
        child, answer = await self._order(LOAD, source, spec, options, listening)
        try:
            return child, msgspec.msgpack.decode(answer, type=ModelFacts)
        except msgspec.MsgspecError as error:
            await child.end()
            raise InternalError(
                f"the worker of the deployment [{self._deployment_id}] answers what cannot be read"
            ) from error

    def weigh(self, running: Child | None) -> None:
        """End a worker that takes more of the host than it may; it is started again."""
        child = running or self._ordered
        if child is None or child not in self._holders:
            return
        excess = excess_of(
            footprint_of(child.process.pid, self._folder),
            memory_limit=self._workshop.memory_limit,
            cores=self._workshop.cores.total,
        )
        if excess is not None:
            self.condemn(child, excess)
        elif self._holders[child].owes_for_s() > _LONGEST_BATCH_S:
            self.condemn(child, f"others waited [{_LONGEST_BATCH_S:g}s] for cores that it keeps")

    def condemn(self, child: Child, reason: str) -> None:
        """End a worker for what no model may do; `note_end` tells of it."""
        get_logger().error(
            "a model worker does what none may, ending it",
            deployment_id=self._deployment_id,
            reason=reason,
        )
        self._guilty = child, reason
        child.kill()

    async def note_end(self, child: Child, model_id: str) -> str | None:
        """Note in the audit log what a worker that has ended did, and say it; None for nothing."""
        reason = None
        if self._guilty is not None and self._guilty[0] is child:
            reason = self._guilty[1]
            await asyncio.to_thread(self._tidy)
        elif child.process.returncode == -signal.SIGSYS:
            reason = "it made a system call that its sandbox forbids"
            get_logger().error(
                "a model tried what its sandbox forbids, and the kernel ended its worker",
                deployment_id=self._deployment_id,
                model_id=model_id,
                pid=child.process.pid,
            )
        if reason is not None and self._workshop.note_violation is not None:
            await self._workshop.note_violation(self._deployment_id, model_id, reason)
        return reason

    def _tidy(self) -> None:
        """Remove what a worker that has ended wrote, if that is too much; it is made anew."""
        if self._folder is not None and is_overfull(self._folder):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)

    async def _order(
        self,
        name: str,
        source: ModelSource,
        spec: DeploymentSpec,
        options: RuntimeOptions,
        listening: socket.socket,
    ) -> tuple[Child, bytes]:
        """Start a worker and give it its order; one that does not carry it out is ended."""
        order = encode_load(self._load_of(source, spec, options))
        self._folder = options.cache_dir
        child = await self._start(listening)
        self._ordered = child
        try:
            async with asyncio.timeout(self._workshop.start_timeout_s):
                return child, await child.peer.call(name, order)
        except TimeoutError as error:
            limit_s = self._workshop.start_timeout_s
            reason = f"to {name} it took more than [engine.start_timeout] of [{limit_s:g}s]"
            self.condemn(child, reason)
            await self._end(child, spec.model_id)
            raise UnusableModel(f"The model [{source.name}] cannot be used: {reason}") from error
        except ChannelClosed as error:
            reason = await self._end(child, spec.model_id) or "the log of the server may say why"
            raise InternalError(
                f"the worker of the deployment [{self._deployment_id}] ended while it "
                f"loaded the model [{source.name}]; {reason}"
            ) from error
        except BaseException:
            await child.end()
            raise
        finally:
            self._ordered = None

    async def _end(self, child: Child, model_id: str) -> str | None:
        await child.end()
        return await self.note_end(child, model_id)

    def _load_of(self, source: ModelSource, spec: DeploymentSpec, options: RuntimeOptions) -> Load:
        shop = self._workshop
        return Load(
            source,
            options,
            spec.num_allocations,
            shop.telemetry,
            spec.queue_capacity,
            private=shop.private,
            allow_unsandboxed=shop.allow_unsandboxed,
        )

    async def _start(self, listening: socket.socket) -> Child:
        """Start a worker that asks for cores and, whenever it ends, holds none any more."""
        shop = self._workshop
        holder = Holder(lambda lane: self._recall(holder, lane))
        child = await start_child(
            shop.module,
            [listening],
            _lending(shop.cores, holder),
            nursery=shop.nursery,
            environment=environment_of_children(shop.environment),
            is_stranger=True,
        )
        self._holders[child] = holder
        shop.nursery.start(self._release_with(child, holder))
        return child

    def _recall(self, holder: Holder, lane: Lane) -> None:
        """Ask a worker for a lease back: it may have one before it has said that it is loaded."""
        for child, held in self._holders.items():
            if held is holder:
                self._workshop.nursery.start(_recall_from(child, lane))

    async def _release_with(self, child: Child, holder: Holder) -> None:
        """Take the cores of a worker back when it ends."""
        await child.peer.closed()
        del self._holders[child]
        self._workshop.cores.leave(holder)


async def _recall_from(child: Child, lane: Lane) -> None:
    with suppress(ChannelClosed):  # its leases are taken back then
        await child.peer.call(RECALL, msgspec.msgpack.encode(lane))


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


def _lane(body: bytes) -> Lane:
    return msgspec.msgpack.decode(body, type=Lane)
