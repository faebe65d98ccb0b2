"""The deployments of a host, in the supervisor: each a worker process with one model."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from inferry.concurrency import run_all
from inferry.deployment_stats import DeploymentStats
from inferry.domain import TaskType
from inferry.engine.controller import Bounds, Controller
from inferry.engine.deployment import Deployment, not_deployed
from inferry.engine.workshop import Workshop
from inferry.errors import UnusableModel
from inferry.modeling import MODEL_TYPES, ModelLibrary
from inferry.records import DeploymentRecord, DeploymentSpec, Drop, Put

_CHECK_EVERY_S = 10.0
_WEIGH_EVERY_S = 0.2  # a worker may take a gigabyte a second
_LOOK_EVERY_S = 10.0


@dataclass(eq=False, slots=True)
class _Kept:
    """A deployment, the task that keeps it, and what follows its load, if something does."""

    deployment: Deployment
    keeper: asyncio.Task[None]
    controller: Controller | None = None


class Pool:
    """Starts, scales and stops deployments. Use as an async context manager; leaving ends all."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._kept: dict[str, _Kept] = {}
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Pool:
        shop = self._workshop
        for directory in (shop.sockets, shop.graphs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_behind in shop.sockets.glob("*.sock"):
            left_behind.unlink()
        return self

    async def __aexit__(self, *_: object) -> None:
        kept, self._kept = self._kept, {}
        for one in kept.values():
            one.keeper.cancel()
        await run_all(one.deployment.end() for one in kept.values())

    async def check(self, model_id: str, task_type: TaskType | None = None) -> TaskType | None:
        """Refuse a model that cannot be here, without loading or downloading it.

        task_type: what it shall do, None for whatever it does. Gives what it does, None while its
        files are not on this machine.
        Raises `NotFound` with the command that provides it, `IllegalArgument`, `UnusableModel`.
        """
        return await asyncio.to_thread(_check, self._workshop.library, model_id, task_type)

    async def start(self, spec: DeploymentSpec, *, is_proven: bool = False) -> DeploymentRecord:
        """Start a model, or join its start, and give it when it runs.

        A model that has never run and does not is forgotten again; one that `is_proven` is tried
        until it is stopped. Goes on when the caller is cancelled. Raises what the start failed
        with: `NotFound`, `UnusableModel`, `InternalError`, ...
        """
        kept = self._kept.get(spec.deployment_id)
        if kept is None:
            kept = await self._begin(spec, is_proven=is_proven)
        elif not kept.deployment.spec.num_allocations:
            if kept.controller is not None:
                kept.controller.note_start()
            await kept.deployment.wake()
        return await kept.deployment.started()

    async def scale(self, spec: DeploymentSpec) -> None:
        """Change how many allocations a deployment has. Raises `NotDeployed`."""
        kept = self._kept.get(spec.deployment_id)
        if kept is None:
            raise not_deployed(spec.deployment_id)
        await kept.deployment.scale(spec)

    async def stop(self, deployment_id: str) -> None:
        """End a deployment, if there is one; what it was asked is lost."""
        kept = self._kept.pop(deployment_id, None)
        if kept is not None:
            kept.keeper.cancel()
            await self._forget(kept.deployment)
            await kept.deployment.end()

    async def clear_cache(self, deployment_id: str) -> None:
        """Have every API process forget the answers of a deployment. Raises `NotDeployed`."""
        kept = self._kept.get(deployment_id)
        if kept is None:
            raise not_deployed(deployment_id)
        await kept.deployment.clear_cache()

    def find(self, deployment_id: str) -> DeploymentRecord | None:
        """Give a deployment as it is now."""
        kept = self._kept.get(deployment_id)
        return None if kept is None else kept.deployment.record

    def records(self) -> Iterator[DeploymentRecord]:
        """Give every deployment as it is published."""
        for kept in list(self._kept.values()):
            yield kept.deployment.record

    def why_not_ready(self) -> str | None:
        """Name a deployment that has been up and does not answer any more, None without one."""
        for deployment_id, kept in self._kept.items():
            if not kept.deployment.is_up:
                return f"the deployment [{deployment_id}] does not answer"
        return None

    async def stats(self) -> list[DeploymentStats]:
        """Tell what every deployment has done."""
        return await run_all(kept.deployment.stats() for kept in list(self._kept.values()))

    async def watch(self) -> None:
        """Check and weigh the workers and follow their load, for ever."""
        await run_all([self._check_all(), self._weigh_all(), self._follow_loads()])

    async def follow_load(self, interval_s: float = _LOOK_EVERY_S) -> None:
        """Look what was done in the last `interval_s`, and scale what shall follow its load."""
        idle_s = self._workshop.idle_s
        await run_all([_adapt(kept, interval_s, idle_s) for kept in self._kept.values()])

    async def _begin(self, spec: DeploymentSpec, *, is_proven: bool) -> _Kept:
        name = f"{next(self._numbers)}.sock"
        deployment = Deployment(spec, self._workshop, socket_name=name)
        keeper = self._workshop.nursery.start(self._keep(deployment, is_proven=is_proven))
        kept = self._kept[spec.deployment_id] = _Kept(deployment, keeper)
        await self._workshop.publish([Put(deployment.record)])
        return kept

    async def _keep(self, deployment: Deployment, *, is_proven: bool) -> None:
        failure = await deployment.keep(is_proven=is_proven)
        deployment_id = deployment.spec.deployment_id
        kept = self._kept.get(deployment_id)
        if kept is None or kept.deployment is not deployment:
            return  # it was stopped meanwhile
        del self._kept[deployment_id]
        await self._forget(deployment)
        await deployment.end(failure)

    async def _forget(self, deployment: Deployment) -> None:
        await self._workshop.publish([Drop("deployment", deployment.spec.deployment_id)])

    async def _check_all(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await run_all([kept.deployment.check() for kept in self._kept.values()])

    async def _follow_loads(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.follow_load()

    async def _weigh_all(self) -> None:
        while True:
            await asyncio.sleep(_WEIGH_EVERY_S)
            for kept in self._kept.values():
                kept.deployment.weigh()


def _check(library: ModelLibrary, model_id: str, task_type: TaskType | None) -> TaskType | None:
    found = library.find(model_id)
    if found is None:
        promised = library.task_promised(model_id)
        if promised is not None and task_type not in (None, promised):
            raise UnusableModel(
                f"Deployed model [{model_id}] with type [{MODEL_TYPES[promised]}] does not match"
                f" the requested task type [{task_type}]"
            )
        return promised
    return library.check_task(replace(found, task_type=task_type or found.task_type))


async def _adapt(kept: _Kept, interval_s: float, idle_s: float) -> None:
    """Give a deployment the allocations that its load asks for, if they follow it."""
    deployment = kept.deployment
    work = await deployment.work()
    adaptive = deployment.spec.adaptive_allocations or {}
    if adaptive.get("enabled") is not True:
        kept.controller = None
        return
    bounds = Bounds(
        adaptive.get("min_number_of_allocations"), adaptive.get("max_number_of_allocations")
    )
    if kept.controller is None:
        kept.controller = Controller(bounds, idle_s)
    kept.controller.bounds = bounds
    if work is None or deployment.record.state != "started":
        return
    spec = deployment.spec
    wanted = kept.controller.next_allocations(spec.num_allocations, work, interval_s)
    if wanted != spec.num_allocations:
        await deployment.scale(msgspec.structs.replace(spec, num_allocations=wanted))
