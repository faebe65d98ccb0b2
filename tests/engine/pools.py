"""A pool with fake workers, and what surrounds it: a library of folders, and a publication."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

from inferry.concurrency import Nursery
from inferry.domain import Deadline, DenseEmbeddings, InputType, TaskType
from inferry.engine.client import LocalEngine
from inferry.engine.cores import Cores
from inferry.engine.pool import Pool
from inferry.engine.workshop import Workshop
from inferry.errors import NotFound, UnusableModel
from inferry.modeling import ModelSource, ModuleFiles, Progress
from inferry.records import Change, DeploymentRecord, DeploymentSpec
from inferry.sections import TelemetrySection
from inferry.vectors import FloatVector

ROOT = Path(__file__).parents[2]


class Folders:
    """A library of the folders below one. downloads: what a fetch waits for, and is told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.may_download = Event()
        self.stopped = Event()

    def find(self, model_id: str) -> ModelSource | None:
        if model_id == "far":
            return None
        if not (self.root / model_id).is_dir():
            raise NotFound(f"there is no model [{model_id}]")
        is_module = (self.root / model_id / "module").exists()
        module = ModuleFiles("a" * 64, "b" * 64) if is_module else None
        return ModelSource(model_id, self.root / model_id, module=module)

    def check_task(self, source: ModelSource) -> TaskType:
        if source.task_type not in (None, TaskType.TEXT_EMBEDDING):
            raise UnusableModel("it does something else")
        return TaskType.TEXT_EMBEDDING

    def task_promised(self, model_id: str) -> TaskType | None:
        return TaskType.TEXT_EMBEDDING if model_id == "far" else None

    def fetch(self, model_id: str, report: Callable[[Progress], None], stop: Event) -> ModelSource:
        report(Progress(12_000_000, 91_000_000))
        while not self.may_download.wait(0.01):
            if stop.is_set():
                self.stopped.set()
                raise NotFound("it was stopped")
        (self.root / model_id).mkdir(exist_ok=True)
        return ModelSource(model_id, self.root / model_id)


class Yard:
    """A pool, an engine that follows it as one of an API process does, and what was published."""

    def __init__(
        self,
        root: Path,
        nursery: Nursery,
        *,
        cores: int = 2,
        module: str = "tests.engine.fake_worker",
        **more: Any,
    ) -> None:
        self.library = Folders(root)
        self.published: list[Change] = []
        self.engine = LocalEngine(nursery)
        self.changed = asyncio.Condition()
        self.model("m")
        self.pool = Pool(
            Workshop(
                library=self.library,
                publish=self.publish,
                nursery=nursery,
                cores=Cores(cores),
                module=module,
                sockets=root / "workers",
                graphs=root / "graphs",
                telemetry=TelemetrySection(),
                environment={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT),
                    "OPENAI_API_KEY": "marker",
                },
                **more,
            )
        )

    def model(self, model_id: str, *files: str) -> Path:
        """Make a model, with files that tell its worker what to do."""
        folder = self.library.root / model_id
        folder.mkdir()
        for name in files:
            (folder / name).touch()
        return folder

    async def publish(self, changes: Sequence[Change]) -> None:
        self.published += changes
        self.engine.apply(changes)
        async with self.changed:
            self.changed.notify_all()

    async def start(self, deployment_id: str = "d", model_id: str = "m", **more: Any):
        return await self.pool.start(spec(deployment_id, model_id), **more)

    async def wait_for(self, deployment_id: str, state: str) -> DeploymentRecord:
        """Wait until a deployment is published in a state."""
        known = self.engine._deployments
        async with self.changed:
            await self.changed.wait_for(
                lambda: deployment_id in known and known[deployment_id].state == state
            )
        return known[deployment_id]

    async def embed(self, *texts: str, deployment_id: str = "d", **more: Any) -> DenseEmbeddings:
        result = await self.engine.infer(
            deployment_id,
            texts,
            query=more.get("query"),
            input_type=more.get("input_type", InputType.INGEST),
            deadline=more.get("deadline", Deadline.after(60, "60s")),
        )
        assert isinstance(result, DenseEmbeddings)
        return result


def spec(deployment_id: str = "d", model_id: str = "m", **more: Any) -> DeploymentSpec:
    return DeploymentSpec(
        deployment_id, model_id, **{"num_allocations": 1, "num_threads": 1} | more
    )


def rows_of(embeddings: DenseEmbeddings) -> list[list[float]]:
    buffers = [vector.buffer for vector in embeddings.vectors if isinstance(vector, FloatVector)]
    return [list(memoryview(buffer).cast("f")) for buffer in buffers]


async def hold_open(gate: Path) -> int:
    """Wait until somebody reads from a pipe, who goes on when it is closed."""
    while True:
        try:
            return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody does yet
            await asyncio.sleep(0)


@asynccontextmanager
async def open_yard(root: Path, **more: Any) -> AsyncIterator[Yard]:
    """Give a pool; its workers are gone at the end."""
    async with Nursery() as nursery:
        yard = Yard(root, nursery, **more)
        async with yard.pool:
            yield yard
