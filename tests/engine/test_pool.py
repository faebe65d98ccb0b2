"""Deployments in the supervisor: started, found by API processes, started again, stopped."""

from __future__ import annotations

import asyncio
import os
import stat
from functools import partial
from itertools import accumulate
from pathlib import Path

import msgspec
import psutil
import pytest

from inferry.concurrency import Nursery, run_all
from inferry.domain import Deadline, InputType, TaskType
from inferry.engine.cores import Holder
from inferry.engine.deployment import Deployment
from inferry.engine.jobs import Lane
from inferry.engine.launcher import Launcher
from inferry.engine.messages import STATS
from inferry.errors import (
    DeadlineExceeded,
    IllegalArgument,
    InternalError,
    NotDeployed,
    NotFound,
    UnusableModel,
    WorkerLost,
)
from inferry.records import DeploymentRecord, Drop, Put
from inferry.unix_sockets import listen_at
from tests.engine.fake_models import row_of
from tests.engine.pools import Yard, hold_open, open_yard, rows_of, spec


@pytest.fixture
async def yard(tmp_path):
    async with open_yard(tmp_path) as one:
        yield one


def worker_of(yard: Yard, deployment_id: str = "d") -> psutil.Process:
    child = yard.pool._kept[deployment_id].deployment._child
    assert child is not None
    return psutil.Process(child.process.pid)


def states(yard: Yard) -> list[str]:
    return [
        change.record.state if isinstance(change, Put) else "gone"  # type: ignore[union-attr]
        for change in yard.published
    ]


# --- starting ----------------------------------------------------------------------------------


async def test_a_model_that_was_started_answers(yard) -> None:
    record = await yard.start()

    assert (record.state, record.dimensions, record.similarity) == ("started", 4, "cosine")
    assert rows_of(await yard.embed("a", "b")) == [row_of("a"), row_of("b")]
    assert states(yard) == ["starting", "started"]


async def test_equal_starts_are_one(yard) -> None:
    records = await run_all(yard.start() for _ in range(5))

    assert len({record.socket for record in records}) == 1
    assert states(yard) == ["starting", "started"]


async def test_a_start_goes_on_when_its_caller_gives_up(yard) -> None:
    async with Nursery() as callers:
        callers.start(yard.start())
        await yard.wait_for("d", "starting")

    await yard.wait_for("d", "started")


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        (["broken"], UnusableModel, r"the model \[sick\] is broken"),
        (["deadly"], InternalError, r"ended while it loaded the model \[sick\]"),
    ],
)
async def test_a_model_that_never_ran_and_does_not_start_leaves_nothing(yard, files, error, words):
    yard.model("sick", *files)

    with pytest.raises(error, match=words):
        await yard.start(model_id="sick")

    assert yard.pool.find("d") is None
    assert yard.published[-1] == Drop("deployment", "d")
    assert list(yard.pool._workshop.sockets.iterdir()) == []


async def test_a_model_that_is_not_there_is_named(yard) -> None:
    with pytest.raises(NotFound, match=r"no model \[none\]"):
        await yard.pool.check("none")
    with pytest.raises(NotFound, match=r"no model \[none\]"):
        await yard.start(model_id="none")


async def test_a_model_that_would_do_something_else_is_refused_before_it_is_downloaded(yard):
    assert await yard.pool.check("far") is TaskType.TEXT_EMBEDDING
    with pytest.raises(UnusableModel, match=r"\[text_embedding\] does not match .* \[rerank\]"):
        await yard.pool.check("far", TaskType.RERANK)


async def test_a_model_that_ran_before_is_tried_until_it_starts(yard) -> None:
    folder = yard.model("sick", "broken")

    with pytest.raises(UnusableModel):
        await yard.start(model_id="sick", is_proven=True)
    failed = await yard.wait_for("d", "failed")
    with pytest.raises(NotDeployed):
        await yard.embed("a")
    (folder / "broken").unlink()
    await yard.wait_for("d", "started")

    assert failed.reason == "the model [sick] is broken"
    assert rows_of(await yard.embed("a")) == [row_of("a")]


async def test_a_download_tells_how_far_it_is_and_can_be_stopped(yard) -> None:
    async with Nursery() as callers:
        started = callers.start(yard.start(model_id="far"))
        while (found := yard.pool.find("d")) is None or "12 of 91 MB" not in found.progress:
            await asyncio.sleep(0)

        await yard.pool.stop("d")

        with pytest.raises(NotDeployed):
            await started
    assert await asyncio.to_thread(yard.library.stopped.wait, 30)


async def test_a_model_is_started_once_it_is_downloaded(yard) -> None:
    yard.library.may_download.set()

    record = await yard.start(model_id="far")

    assert record.state == "started"
    assert record.progress == ""


# --- running -----------------------------------------------------------------------------------


async def test_what_is_not_deployed_is_told_so(yard) -> None:
    with pytest.raises(NotDeployed, match=r"\[d\] is not deployed"):
        await yard.embed("a")


async def test_a_text_that_is_too_long_is_reported_with_the_tokens_used(yard) -> None:
    await yard.start()

    embeddings = await yard.embed("a", "x" * 65, "b" * 64)

    assert embeddings.truncated == (1,)
    assert embeddings.usage is not None
    assert embeddings.usage.input_tokens == 1 + 64 + 64


async def test_our_own_deadline_is_told_in_its_own_words(yard) -> None:
    await yard.start()

    with pytest.raises(DeadlineExceeded, match=r"timed out after \[0s\] for inference id \[e\]"):
        await yard.embed("a", deadline=Deadline.after(-1, "0s", "e"))


async def test_a_surrogate_that_stands_alone_is_refused(yard) -> None:
    await yard.start()

    with pytest.raises(IllegalArgument, match="surrogate"):
        await yard.embed("a\ud800")


async def test_scaling_reaches_the_worker_and_is_published(yard) -> None:
    await yard.start()

    await yard.pool.scale(spec(num_allocations=7))

    (stats,) = await yard.pool.stats()
    assert stats.worker is not None
    assert stats.worker.slots == 2  # as many as there are cores
    assert stats.deployment.spec.num_allocations == 7
    last = yard.published[-1]
    assert isinstance(last, Put)
    assert last.record == yard.pool.find("d")


async def test_clearing_the_cache_is_published(yard) -> None:
    await yard.start()

    await yard.pool.clear_cache("d")

    last = yard.published[-1]
    assert isinstance(last, Put)
    assert isinstance(last.record, DeploymentRecord)
    assert (last.record.state, last.record.clearings) == ("started", 1)
    with pytest.raises(NotDeployed):
        await yard.pool.clear_cache("e")


# --- ends --------------------------------------------------------------------------------------


async def test_a_worker_that_dies_is_replaced_and_the_work_can_be_sent_again(yard) -> None:
    await yard.start()
    await yard.embed("a")
    worker = worker_of(yard)

    with pytest.raises(WorkerLost, match=r"the worker of the deployment \[d\] has ended"):
        await yard.embed("die")

    assert rows_of(await yard.embed("a")) == [row_of("a")]
    assert not worker.is_running()
    (stats,) = await yard.pool.stats()
    assert stats.restarts == 1
    assert states(yard) == ["starting", "started", "starting", "started"]


async def test_who_waits_for_a_successor_that_does_not_start_is_sent_to_ask_why(yard) -> None:
    await yard.start()
    (yard.library.root / "m" / "broken").touch()
    with pytest.raises(WorkerLost):
        await yard.embed("die")

    with pytest.raises(NotDeployed):
        await yard.embed("a")

    with pytest.raises(UnusableModel, match=r"\[m\] is broken"):
        await yard.start()


async def test_a_stopped_deployment_loses_its_work_and_is_gone(yard) -> None:
    os.mkfifo(yard.library.root / "m" / "gate")
    await yard.start()
    worker = worker_of(yard)
    async with Nursery() as callers:
        waiting = callers.start(yard.embed("hold gate"))
        while not (yard.library.root / "m" / "ran").exists():
            await yard.pool.stats()

        await yard.pool.stop("d")

        with pytest.raises(WorkerLost):
            await waiting
    with pytest.raises(NotDeployed):
        await yard.embed("a")
    with pytest.raises(NotDeployed):
        await yard.pool.scale(spec())
    assert not worker.is_running()
    assert yard.published[-1] == Drop("deployment", "d")
    await yard.pool.stop("d")


async def test_a_worker_that_eats_too_much_is_ended_and_replaced(tmp_path) -> None:
    async with open_yard(tmp_path, memory_limit=150 * 1024 * 1024) as yard, Nursery() as jobs:
        await yard.start()
        jobs.start(yard.pool.watch())

        with pytest.raises(WorkerLost):
            await yard.embed("eat")

        assert rows_of(await yard.embed("a")) == [row_of("a")]


async def test_workers_end_with_the_pool(tmp_path) -> None:
    async with open_yard(tmp_path) as yard:
        await run_all(yard.start(f"d{n}") for n in range(3))
        workers = [worker_of(yard, f"d{n}") for n in range(3)]

    assert not any(worker.is_running() for worker in workers)
    assert list((tmp_path / "workers").iterdir()) == []


# --- checks ------------------------------------------------------------------------------------


async def test_a_deployment_that_fails_three_checks_makes_the_host_not_ready(yard, monkeypatch):
    monkeypatch.setattr("inferry.engine.deployment._CHECK_S", 0.2)
    await yard.start()
    worker = worker_of(yard)
    deployment: Deployment = yard.pool._kept["d"].deployment
    await deployment.check()
    worker.suspend()

    answers = []
    for _ in range(3):
        await deployment.check()
        answers.append(yard.pool.why_not_ready())
    worker.resume()
    await deployment.check()

    assert answers == [None, None, "the deployment [d] does not answer"]
    assert yard.pool.why_not_ready() is None


async def test_a_deployment_that_has_never_run_makes_nobody_wait(yard) -> None:
    async with Nursery() as callers:
        callers.start(yard.start(model_id="far"))
        await yard.wait_for("d", "starting")

        for _ in range(4):
            await yard.pool._kept["d"].deployment.check()

        assert yard.pool.why_not_ready() is None


# --- what a worker may know --------------------------------------------------------------------


async def test_a_worker_is_reached_by_its_owner_only_and_knows_no_secret(yard) -> None:
    record = await yard.start()

    path = yard.library.root / "workers"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert [stat.S_IMODE(one.stat().st_mode) for one in path.iterdir()] == [0o600]
    assert record.socket == str(next(path.iterdir()))
    assert "marker" not in " ".join(worker_of(yard).environ().values())


async def test_a_worker_gives_its_cores_back_from_its_first_moment_on(yard) -> None:
    """One that warms its model keeps them until they are recalled; here nobody knows it yet."""
    shop = yard.pool._workshop
    launcher = Launcher(shop, "d")
    with listen_at(shop.sockets / "1.sock") as listening:
        child, _ = await launcher.load(yard.library.find("m"), spec(num_threads=2), listening)
        while shop.cores.free:
            await child.peer.call(STATS)

        await shop.cores.lease(Holder(lambda _: None), Lane.SEARCH)

        await child.end()


async def test_two_deployments_share_the_cores(tmp_path) -> None:
    async with open_yard(tmp_path, cores=1) as yard:
        await run_all(yard.start(name) for name in ("one", "two"))

        async def use(name: str, number: int) -> bool:
            texts = [f"{name} {number} {n}" for n in range(10)]
            rows = rows_of(await yard.embed(*texts, deployment_id=name))
            return rows == [row_of(text) for text in texts]

        asks = [partial(use, name, n) for n in range(50) for name in ("one", "two")]
        assert all(await run_all(ask() for ask in asks))
        assert yard.pool._workshop.cores.free >= 0


@pytest.mark.parametrize("threads", [1, 2])
async def test_two_deployments_under_load_take_no_more_cores_than_there_are(tmp_path, threads):
    journal = tmp_path / "journal"
    journal.touch()
    async with open_yard(tmp_path, cores=2) as yard:
        wanted = [spec(name, num_threads=threads, num_allocations=2) for name in ("one", "two")]
        await run_all(yard.pool.start(one) for one in wanted)
        for one in wanted:
            await yard.embed("a", deployment_id=one.deployment_id)
        await run_all(
            yard.embed(*["a" * 60] * 10, deployment_id=one.deployment_id, input_type=input_type)
            for _ in range(8)
            for input_type in (InputType.SEARCH, InputType.INGEST)
            for one in wanted
        )

    changes = [line.split() for line in journal.read_text().splitlines()]
    assert len(changes) > 50
    for kind in ("narrow", "wide"):  # for wide ones the kernel stops narrow ones
        running = list(accumulate(int(cores) for one, cores in changes if one == kind))
        assert max(running, default=0) <= 2
        assert running[-1:] in ([], [0])


async def test_two_deployments_run_at_once_on_two_cores(yard) -> None:
    names = ("one", "two")
    gates = [yard.library.root / "m" / name.ljust(58, "-") for name in names]
    await run_all(yard.pool.start(spec(name, num_threads=2)) for name in names)
    async with Nursery() as callers:
        for name, gate in zip(names, gates, strict=True):
            os.mkfifo(gate)
            texts = [f"hold {gate.name}", *["a" * 60] * 3]  # more than what runs on all cores
            callers.start(yard.embed(*texts, deployment_id=name))

        held = [await hold_open(gate) for gate in gates]

        for gate in held:
            os.close(gate)
        await callers.drain()


async def test_a_new_process_is_told_what_runs(yard) -> None:
    await run_all(yard.start(name) for name in ("one", "two"))

    records = list(yard.pool.records())

    assert sorted(record.key for record in records) == ["one", "two"]
    encoded = msgspec.msgpack.encode([Put(record) for record in records])
    decoded = msgspec.msgpack.decode(encoded, type=list[Put])
    assert all(isinstance(put.record, DeploymentRecord) for put in decoded)


# --- modules -----------------------------------------------------------------------------------


async def test_a_module_is_prepared_once_in_a_worker_of_its_own(yard):
    folder = yard.model("mod", "module")

    records = await run_all([yard.start("one", "mod"), yard.start("two", "mod")])
    await yard.pool.stop("one")
    await yard.start("three", "mod")

    assert [record.state for record in records] == ["started", "started"]
    assert (folder / "prepared").read_text() == "once\n"


def prepared_by_an_earlier_version(yard: Yard, model_id: str) -> Path:
    """Let what was made of a module be that of an earlier version; give its folder."""
    shop, source = yard.pool._workshop, yard.library.find(model_id)
    assert source is not None
    assert source.module is not None
    prepared = source.module.prepared_in(shop.cache_of(source))
    former = source.module._prepared_by(1, prepared.parent)
    return prepared.replace(former)


async def test_a_module_that_an_earlier_version_prepared_is_prepared_anew(yard):
    folder = yard.model("mod", "module")
    await yard.start("one", "mod")
    prepared_by_an_earlier_version(yard, "mod")

    await yard.start("two", "mod")

    assert (folder / "prepared").read_text() == "once\nonce\n"


async def test_a_module_that_cannot_be_prepared_anew_runs_as_it_did(yard):
    folder = yard.model("mod", "module")
    await yard.start("one", "mod")
    former = prepared_by_an_earlier_version(yard, "mod")
    (folder / "stubborn").touch()

    record = await yard.start("two", "mod")

    assert record.state == "started"
    assert former.is_dir()


async def test_a_module_that_cannot_be_prepared_is_refused(yard):
    yard.model("mod", "module", "broken")

    with pytest.raises(UnusableModel, match=r"\[mod\] is broken"):
        await yard.start("one", "mod")

    assert yard.pool.find("one") is None
