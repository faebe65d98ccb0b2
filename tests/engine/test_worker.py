"""A worker process as the supervisor and the API processes see it."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from inferry.children import Child, start_child
from inferry.concurrency import Nursery, run_all
from inferry.deployment_stats import WorkerStats
from inferry.domain import InputType, TaskType
from inferry.engine.jobs import Lane
from inferry.engine.messages import (
    CHECK,
    GIVE_BACK,
    HURRY,
    INFER,
    LEASE,
    LOAD,
    RECALL,
    SCALE,
    STATS,
    Infer,
    Inferred,
    Load,
    ModelFacts,
    encode_load,
)
from inferry.errors import DeadlineExceeded, InternalError, UnusableModel
from inferry.ipc import ChannelClosed, Handler, Peer, connect_peer
from inferry.modeling import Arithmetic, ModelSource, RuntimeOptions
from inferry.sections import TelemetrySection
from inferry.unix_sockets import listen_at
from tests.engine.fake_models import DIMENSIONS, row_of
from tests.engine.fake_worker import FREE

ROOT = Path(__file__).parents[2]


class Supervisor:
    """Lends cores to whoever asks. asked: for which lanes."""

    def __init__(self) -> None:
        self.asked: list[Lane] = []
        self.given_back = asyncio.Event()

    @property
    def handlers(self) -> dict[str, Handler]:
        return {LEASE: self._lease, HURRY: self._lease, GIVE_BACK: self._take_back}

    async def _lease(self, body: bytes) -> bytes:
        self.asked.append(msgspec.msgpack.decode(body, type=Lane))
        return b""

    async def _take_back(self, _: bytes) -> bytes:
        self.given_back.set()
        return b""


class Worker:
    """A process with a fake model, the supervisor that started it, and one API process."""

    def __init__(
        self, folder: Path, supervisor: Supervisor, child: Child, nursery: Nursery
    ) -> None:
        self.folder, self.supervisor, self.child = folder, supervisor, child
        self._nursery = nursery
        self.process = psutil.Process(child.process.pid)

    async def load(self, *, streams: int = 1, allocations: int = 1) -> ModelFacts:
        order = Load(
            ModelSource("model", self.folder),
            RuntimeOptions(threads=1, streams=streams),
            allocations,
            TelemetrySection(),
        )
        return msgspec.msgpack.decode(await self.control(LOAD, encode_load(order)), type=ModelFacts)

    async def control(self, name: str, body: bytes = b"") -> bytes:
        return await self.child.peer.call(name, body)

    async def stats(self) -> WorkerStats:
        return msgspec.msgpack.decode(await self.control(STATS), type=WorkerStats)

    async def wait_until(self, is_so: Callable[[WorkerStats], bool]) -> None:
        while not is_so(await self.stats()):
            pass

    async def connect(self) -> Peer:
        return await connect_peer(self.folder / "s", nursery=self._nursery)


@asynccontextmanager
async def run_process(folder: Path) -> AsyncIterator[Worker]:
    supervisor = Supervisor()
    with listen_at(folder / "s") as listening:
        async with Nursery() as nursery:
            child = await start_child(
                "tests.engine.fake_worker",
                [listening],
                supervisor.handlers,
                nursery=nursery,
                environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            )
            yield Worker(folder, supervisor, child, nursery)
            await child.end()


@pytest.fixture
async def worker(tmp_path):
    async with run_process(tmp_path) as one:
        yield one


async def embed(
    peer: Peer, *texts: str, lane: Lane = Lane.INGEST, deadline: float = math.inf
) -> Inferred:
    call = Infer(lane, deadline, InputType.INGEST, list(texts))
    return msgspec.msgpack.decode(
        await peer.call(INFER, msgspec.msgpack.encode(call)), type=Inferred
    )


def rows_of(inferred: Inferred) -> list[list[float]]:
    assert inferred.task_type is TaskType.TEXT_EMBEDDING
    return [list(answer.cast("f")) for answer in inferred.answers]


def let_go(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")


async def test_it_tells_what_the_model_is_and_embeds_texts(worker) -> None:
    facts = await worker.load()
    peer = await worker.connect()
    texts = ["a", "", "x" * 70, "ä" * 10]

    embedded = await embed(peer, *texts)

    assert facts == ModelFacts(
        TaskType.TEXT_EMBEDDING, DIMENSIONS, 64, "cosine", Arithmetic("f32"), None, FREE
    )
    assert rows_of(embedded) == [row_of(text) for text in texts]
    assert embedded.tokens == 1 + 0 + 64 + 20
    assert embedded.truncated == [2]


async def test_many_callers_get_their_own_answers(worker) -> None:
    await worker.load(streams=2, allocations=2)
    peers = [await worker.connect() for _ in range(3)]

    async def ask(number: int) -> bool:
        texts = [f"{number} {n}" for n in range(number % 7 + 1)]
        return rows_of(await embed(peers[number % 3], *texts)) == [row_of(text) for text in texts]

    assert all(await run_all(ask(number) for number in range(300)))
    stats = await worker.stats()
    assert stats.number_of_pending_requests == 0
    assert stats.batches < stats.inference_count


async def test_it_can_be_reached_after_its_garbage_was_collected(worker) -> None:
    await worker.load()
    await worker.control(CHECK)  # in which it collects it

    assert rows_of(await embed(await worker.connect(), "a")) == [row_of("a")]


async def test_a_model_that_cannot_be_loaded_is_named(worker) -> None:
    (worker.folder / "broken").touch()

    with pytest.raises(UnusableModel, match=r"the model \[model\] is broken"):
        await worker.load()


async def test_nobody_is_answered_before_the_model_is_loaded(worker) -> None:
    with pytest.raises(InternalError, match="not loaded"):
        await worker.control(STATS)


async def test_texts_of_callers_that_give_up_or_go_away_are_dropped(worker) -> None:
    os.mkfifo(worker.folder / "gate")
    await worker.load()
    peer, other = await worker.connect(), await worker.connect()
    async with Nursery() as callers:
        callers.start(embed(peer, "hold gate"))
        leaving = callers.start(embed(other, *["a"] * 50))
        await worker.wait_until(lambda stats: stats.number_of_pending_requests == 51)
        leaving.cancel()
        await worker.wait_until(lambda stats: stats.abandoned_count == 50)
        callers.start(embed(other, *["b"] * 50))
        await worker.wait_until(lambda stats: stats.number_of_pending_requests == 51)

        other.close()

        await worker.wait_until(lambda stats: stats.abandoned_count == 100)
        await asyncio.to_thread(let_go, worker.folder, "gate")

    assert rows_of(await embed(peer, "c")) == [row_of("c")]
    assert (await worker.stats()).inference_count <= 2


async def test_what_is_late_is_told_so(worker) -> None:
    await worker.load()

    with pytest.raises(DeadlineExceeded):
        await embed(await worker.connect(), "a", deadline=0.0)


async def test_a_check_runs_the_model_unless_something_has_just_run(worker) -> None:
    await worker.load()

    await worker.control(CHECK)
    await worker.control(CHECK)

    assert (await worker.stats()).batches == 1


async def test_its_slots_can_be_scaled_as_far_as_it_has_streams(worker) -> None:
    await worker.load(streams=4)

    found = []
    for wanted in (3, 9, 1):
        await worker.control(SCALE, msgspec.msgpack.encode(wanted))
        found.append((await worker.stats()).slots)

    assert found == [3, 4, 1]


async def test_it_borrows_cores_and_gives_them_back_when_they_are_recalled(worker) -> None:
    await worker.load()
    await embed(await worker.connect(), "a", lane=Lane.SEARCH)
    assert worker.supervisor.asked  # for the search, or for warming, when that was first

    await worker.control(RECALL, msgspec.msgpack.encode(Lane.SEARCH))

    await worker.supervisor.given_back.wait()


async def test_it_ends_with_its_channel_even_while_a_batch_runs(worker) -> None:
    os.mkfifo(worker.folder / "gate")
    await worker.load()
    peer = await worker.connect()
    async with Nursery() as callers:
        call = callers.start(embed(peer, "hold gate"))
        while not (worker.folder / "ran").exists():
            await worker.stats()

        worker.child.peer.close()

        assert await worker.child.process.wait() == 0
        with pytest.raises(ChannelClosed):
            await call


async def test_it_can_gain_no_privilege_and_leaves_no_core_dump(worker) -> None:
    await worker.load()

    status = Path(f"/proc/{worker.process.pid}/status").read_text()

    assert "NoNewPrivs:\t1" in status
    assert worker.process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert set(worker.process.environ()) <= {"PATH", "PYTHONPATH", "LC_CTYPE"}


async def test_a_worker_is_gone_where_nobody_waits_for_its_end_any_more(worker):
    worker.process.suspend()
    async with Nursery() as callers:
        ending = callers.start(worker.child.end())
        await worker.child.peer.closed()
        ending.cancel()
        await asyncio.wait([ending])

    assert ending.cancelled()
    assert worker.child.process.returncode == -signal.SIGKILL
