"""Deployments that follow their load, to none and back, with workers that are processes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from inferry.concurrency import Nursery, run_all
from inferry.domain import Deadline
from inferry.errors import NotDeployed, QueueFull, WorkerLost
from tests.engine.fake_models import row_of
from tests.engine.pools import Yard, hold_open, open_yard, rows_of, spec

FOLLOWS: dict[str, Any] = {"enabled": True, "min_number_of_allocations": 0}
IDLE_LOOKS = 92
"""Of ten seconds: more than a quarter of an hour from the first one on."""


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with open_yard(tmp_path) as one:
        yield one


async def start(yard: Yard, **more: Any) -> None:
    await yard.pool.start(spec(adaptive_allocations=FOLLOWS, **more))


async def let_rest(yard: Yard) -> None:
    for _ in range(IDLE_LOOKS):
        await yard.pool.follow_load()


async def ask(yard: Yard, *texts: str) -> list[list[float]]:
    """Embed as an API process does: what is lost is sent again, what rests is started."""
    while True:
        try:
            return rows_of(await yard.embed(*texts))
        except NotDeployed:
            await yard.pool.start(spec())
        except WorkerLost:
            continue


async def test_local_row_006_after_a_quarter_of_an_hour_without_requests_it_rests(
    yard,
):
    await start(yard)

    await let_rest(yard)

    record = yard.pool.find("d")
    assert record is not None
    assert (record.spec.num_allocations, record.state, record.socket) == (0, "started", None)
    (stats,) = await yard.pool.stats()
    assert stats.worker is None
    with pytest.raises(NotDeployed):
        await yard.embed("a")


async def test_local_row_006_parallel_first_requests_bring_it_back_and_none_fails(yard):
    await start(yard)
    await let_rest(yard)

    texts = [f"text {number}" for number in range(40)]
    answers = await run_all(ask(yard, text) for text in texts)

    assert answers == [[row_of(text)] for text in texts]
    record = yard.pool.find("d")
    assert record is not None
    assert record.spec.num_allocations == 1


async def test_local_row_006_it_comes_and_goes_under_requests_and_none_fails(yard):
    await start(yard)
    answered = 0

    async def keep_asking(number: int) -> None:
        nonlocal answered
        for turn in range(30):
            text = f"{number} {turn}"
            assert await ask(yard, text) == [row_of(text)]
            answered += 1

    async def keep_resting() -> None:
        resting = spec(num_allocations=0, adaptive_allocations=FOLLOWS)
        for _ in range(6):
            await yard.pool.scale(resting)
            with suppress(NotDeployed):
                await yard.embed("a")
            await yard.pool.start(spec())

    await run_all([*(keep_asking(number) for number in range(4)), keep_resting()])

    assert answered == 120


async def test_the_first_requests_do_not_count_as_a_load_that_lasts(yard):
    """Sixteen texts, as eight first requests to rank two documents, while somebody looks."""
    os.mkfifo(yard.library.root / "m" / "gate")
    await start(yard)
    async with Nursery() as callers:
        waiting = callers.start(yard.embed("hold gate", *(["a"] * 15)))
        held = await hold_open(yard.library.root / "m" / "gate")

        await yard.pool.follow_load()

        record = yard.pool.find("d")
        os.close(held)
        await waiting
    assert record is not None
    assert record.spec.num_allocations == 1


async def test_what_is_let_go_while_it_loads_and_wanted_again_answers(yard):
    gate = yard.model("late") / "slow"
    os.mkfifo(gate)
    resting = spec(model_id="late", num_allocations=0)
    async with Nursery() as callers:
        first = callers.start(yard.pool.start(spec(model_id="late")))
        held = await hold_open(gate)
        await yard.pool.scale(resting)
        second = callers.start(yard.pool.start(resting))
        gate.unlink()
        os.close(held)

        records = [await first, await second]

    assert [record.state for record in records] == ["started", "started"]
    assert rows_of(await yard.embed("a")) == [row_of("a")]


async def test_what_is_let_go_while_it_loads_rests_then(yard):
    gate = yard.model("late") / "slow"
    os.mkfifo(gate)
    async with Nursery() as callers:
        first = callers.start(yard.pool.start(spec(model_id="late")))
        held = await hold_open(gate)
        await yard.pool.scale(spec(model_id="late", num_allocations=0))
        gate.unlink()
        os.close(held)

        record = await first

    assert (record.spec.num_allocations, record.state, record.socket) == (0, "started", None)
    assert await ask(yard, "a") == [row_of("a")]


async def test_what_is_let_go_when_its_worker_dies_comes_back(yard):
    await start(yard)
    resting = spec(num_allocations=0, adaptive_allocations=FOLLOWS)

    await run_all([lose_worker(yard), yard.pool.scale(resting)])

    assert await ask(yard, "a") == [row_of("a")]


async def lose_worker(yard: Yard) -> None:
    with suppress(WorkerLost, NotDeployed):
        await yard.embed("die")


async def test_what_rests_is_checked_by_nobody_and_is_no_reason_not_to_be_ready(yard):
    await start(yard)
    await let_rest(yard)

    for _ in range(5):
        await yard.pool._kept["d"].deployment.check()

    assert yard.pool.why_not_ready() is None


async def test_counts_outlive_the_worker(yard):
    await start(yard)
    await yard.embed("a", "b")
    await yard.pool.stats()
    await yard.pool.scale(spec(num_allocations=0, adaptive_allocations=FOLLOWS))
    await ask(yard, "c")

    (stats,) = await yard.pool.stats()

    assert stats.totals.inference_count == 3
    assert stats.worker is not None
    assert stats.worker.inference_count == 1


async def test_checks_are_no_requests(yard):
    await start(yard)

    await yard.pool._kept["d"].deployment.check()

    (stats,) = await yard.pool.stats()
    assert stats.totals.inference_count == 0


async def test_a_deployment_that_does_not_follow_its_load_stays(yard):
    await yard.pool.start(spec())

    await let_rest(yard)

    assert rows_of(await yard.embed("a")) == [row_of("a")]


async def test_stopped_while_it_rests_it_is_gone(yard):
    await start(yard)
    await let_rest(yard)

    await yard.pool.stop("d")

    assert yard.pool.find("d") is None


async def test_what_is_let_go_while_it_starts_rests(yard):
    async with Nursery() as callers:
        starting = callers.start(yard.pool.start(spec(model_id="far")))
        await yard.wait_for("d", "starting")
        await yard.pool.scale(spec(model_id="far", num_allocations=0))
        yard.library.may_download.set()
        await starting
        while yard.pool._kept["d"].deployment._child is not None:
            await yard.pool.stats()

        with pytest.raises(NotDeployed):
            await yard.embed("a")
        await yard.pool.start(spec(model_id="far"))
        assert rows_of(await yard.embed("a")) == [row_of("a")]


async def test_local_row_007_what_is_more_than_the_queue_takes_is_refused(tmp_path):
    async with open_yard(tmp_path) as yard, Nursery() as callers:
        await yard.pool.start(spec(queue_capacity=2))
        os.mkfifo(yard.library.root / "m" / "gate")
        waiting = callers.start(yard.embed("hold gate", "b"))
        while not (yard.library.root / "m" / "ran").exists():
            await yard.pool.stats()

        with pytest.raises(QueueFull, match=r"^inference process queue is full. Unable to execute"):
            await yard.embed("c", deadline=Deadline.after(60, "60s"))

        (yard.library.root / "m" / "gate").write_bytes(b"")
        assert len((await waiting).vectors) == 2
        (stats,) = await yard.pool.stats()
        assert stats.totals.rejected_execution_count == 1
