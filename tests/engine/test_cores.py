"""Leases of cores: never more than there are, search first, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.concurrency import Nursery
from inferry.engine.cores import Cores, Holder
from inferry.engine.jobs import Lane
from inferry.engine.leases import Leases


class Worker:
    """A holder that gives recalled leases back when it is told to."""

    def __init__(self) -> None:
        self.recalls: list[Lane] = []
        self.holder = Holder(self.recalls.append)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def tasks():
    async with Nursery() as nursery:
        yield nursery


async def test_free_cores_are_lent_at_once_and_kept(tasks) -> None:
    cores, alone = Cores(2), Worker()

    await cores.lease(alone.holder, Lane.INGEST)
    await cores.lease(alone.holder, Lane.SEARCH)

    assert cores.free == 0
    assert alone.recalls == []


async def test_a_lease_is_recalled_when_somebody_else_needs_it(tasks) -> None:
    cores, first, second = Cores(1), Worker(), Worker()
    await cores.lease(first.holder, Lane.INGEST)

    waiting = tasks.start(cores.lease(second.holder, Lane.SEARCH))
    await settle()
    assert first.recalls == [Lane.SEARCH]
    assert not waiting.done()

    cores.give_back(first.holder)
    await waiting
    assert second.holder.leases == 1


async def test_no_more_is_recalled_than_is_lacking(tasks) -> None:
    cores, first, second = Cores(4), Worker(), Worker()
    for _ in range(3):
        await cores.lease(first.holder, Lane.INGEST)

    for _ in range(2):
        tasks.start(cores.lease(second.holder, Lane.INGEST))
    await settle()

    assert second.holder.leases == 1
    assert first.recalls == [Lane.INGEST]


async def test_leases_are_recalled_one_by_one_as_they_come_back(tasks) -> None:
    cores, first, second = Cores(2), Worker(), Worker()
    for _ in range(2):
        await cores.lease(first.holder, Lane.INGEST)
    asks = [tasks.start(cores.lease(second.holder, Lane.INGEST)) for _ in range(2)]
    await settle()
    assert first.recalls == [Lane.INGEST]

    cores.give_back(first.holder)
    await settle()
    assert first.recalls == [Lane.INGEST] * 2
    cores.give_back(first.holder)
    await settle()

    assert all(ask.done() for ask in asks)


async def test_search_is_granted_before_ingest_that_waits_longer(tasks) -> None:
    cores, first, second, third = Cores(1), Worker(), Worker(), Worker()
    await cores.lease(first.holder, Lane.INGEST)
    ingest = tasks.start(cores.lease(second.holder, Lane.INGEST))
    search = tasks.start(cores.lease(third.holder, Lane.SEARCH))
    await settle()

    cores.give_back(first.holder)
    await settle()

    assert search.done()
    assert not ingest.done()


async def test_an_ask_can_become_more_urgent(tasks) -> None:
    cores, first, second, third = Cores(1), Worker(), Worker(), Worker()
    await cores.lease(first.holder, Lane.INGEST)
    former = tasks.start(cores.lease(second.holder, Lane.INGEST))
    hurried = tasks.start(cores.lease(third.holder, Lane.INGEST))
    await settle()

    cores.hurry(third.holder, Lane.SEARCH)
    cores.give_back(first.holder)
    await settle()

    assert hurried.done()
    assert not former.done()


async def test_ingest_is_granted_after_a_few_searches(tasks) -> None:
    cores, ingesting, searching = Cores(1), Worker(), Worker()
    await cores.lease(searching.holder, Lane.SEARCH)
    ingest = tasks.start(cores.lease(ingesting.holder, Lane.INGEST))
    searches = [tasks.start(cores.lease(searching.holder, Lane.SEARCH)) for _ in range(10)]
    await settle()

    for _ in range(5):
        cores.give_back(searching.holder)
        await settle()

    assert ingest.done()
    assert sum(search.done() for search in searches) == 4


async def test_what_a_dead_worker_held_or_asked_for_is_free_again(tasks) -> None:
    cores, dead, second = Cores(1), Worker(), Worker()
    await cores.lease(dead.holder, Lane.INGEST)
    asked = tasks.start(cores.lease(dead.holder, Lane.INGEST))
    waiting = tasks.start(cores.lease(second.holder, Lane.INGEST))
    await settle()

    cores.leave(dead.holder)
    await waiting
    await settle()

    assert asked.cancelled()
    assert cores.free == 0


# --- both ends ---------------------------------------------------------------------------------


class Post:
    """A lender's messages on their way; `deliver` lets the next one arrive."""

    def __init__(self, cores: Cores, nursery: Nursery) -> None:
        self.sent: deque[tuple[str, Lane]] = deque()
        self.leases = Leases(self, cores.total)
        self.cores = cores
        self._nursery = nursery
        self.holder = Holder(lambda lane: self.sent.append(("recall", lane)))

    def ask(self, lane: Lane) -> None:
        self.sent.append(("ask", lane))

    def hurry(self, lane: Lane) -> None:
        self.sent.append(("hurry", lane))

    def give_back(self) -> None:
        self.sent.append(("give_back", Lane.INGEST))

    async def deliver(self) -> bool:
        if not self.sent:
            return False
        kind, lane = self.sent.popleft()
        if kind == "ask":
            self._nursery.start(self._lease(lane))
        elif kind == "hurry":
            self.cores.hurry(self.holder, lane)
        elif kind == "give_back":
            self.cores.give_back(self.holder)
        else:
            self.leases.recall()
        await settle()
        return True

    async def _lease(self, lane: Lane) -> None:
        await self.cores.lease(self.holder, lane)
        self.leases.granted()


class Core:
    """A thread that runs batches under leases.

    works: for which lanes, and on how many cores, none for a narrow batch.
    """

    def __init__(
        self, post: Post, works: list[tuple[Lane, int]], narrow: Running, wide: Running
    ) -> None:
        self._post, self.works, self._narrow, self._wide = post, works, narrow, wide
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        leases = self._post.leases
        for lane, wanted in self.works:
            count = min(wanted, self._post.cores.total)
            if count and leases.overtake(count, lane):
                self._wide.enter(count)
                self._wide.leave(count)
                leases.fall_back(count)
            else:
                leases.acquire(lane)
                self._narrow.enter(1)
                self._narrow.leave(1)
                leases.release()


class Running:
    """How many cores run; `most` at the worst moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self.most = self.batches = 0

    def enter(self, cores: int) -> None:
        with self._lock:
            self._now += cores
            self.batches += 1
            self.most = max(self.most, self._now)

    def leave(self, cores: int) -> None:
        with self._lock:
            self._now -= cores


lanes = st.sampled_from([Lane.SEARCH, Lane.INGEST])
works = st.lists(st.tuples(lanes, st.integers(0, 4)), max_size=12)


@given(total=st.integers(1, 4), workers=st.lists(st.lists(works, max_size=4), max_size=3))
def test_workers_together_never_run_on_more_cores_than_there_are_and_all_end(total, workers):
    async def play() -> None:
        cores, narrow, wide = Cores(total), Running(), Running()
        async with Nursery() as nursery:
            posts = [Post(cores, nursery) for _ in workers]
            threads = [
                Core(post, work, narrow, wide)
                for post, several in zip(posts, workers, strict=True)
                for work in several[:total]
            ]
            for one in threads:
                one.thread.start()
            while any(one.thread.is_alive() for one in threads):
                for post in posts:
                    await post.deliver()
                await asyncio.sleep(0)
            while any([await post.deliver() for post in posts]):
                pass
        assert narrow.most <= total
        assert wide.most <= total
        assert narrow.batches + wide.batches == sum(len(one.works) for one in threads)
        assert cores.free >= 0

    asyncio.run(play())


async def test_leases_are_overtaken_if_they_are_held_and_else_asked_for() -> None:
    async with Nursery() as nursery:
        post = Post(Cores(4), nursery)

        assert not post.leases.overtake(2, Lane.SEARCH)
        assert [kind for kind, _ in post.sent] == ["ask"] * 2
        while await post.deliver():
            pass
        post.leases.acquire(Lane.INGEST)  # and is not released

        assert post.leases.overtake(2, Lane.SEARCH)
        assert not post.leases.overtake(1, Lane.SEARCH)


async def test_a_lease_that_is_overtaken_goes_back_afterwards() -> None:
    async with Nursery() as nursery:
        post = Post(Cores(1), nursery)
        post.leases.overtake(1, Lane.SEARCH)
        while await post.deliver():
            pass
        assert post.leases.overtake(1, Lane.SEARCH)

        post.leases.recall()
        assert not post.sent
        post.leases.fall_back(1)

        assert [kind for kind, _ in post.sent] == ["give_back"]


async def test_a_lease_that_is_recalled_as_it_is_granted_serves_a_batch_that_waits_first() -> None:
    async with Nursery() as nursery:
        post = Post(Cores(1), nursery)
        batch = threading.Thread(target=post.leases.acquire, args=(Lane.INGEST,), daemon=True)
        batch.start()
        while not post.sent:
            await asyncio.sleep(0)

        post.leases.granted()
        post.leases.recall()  # before the thread has looked
        batch.join(5)

        assert not batch.is_alive()
        post.leases.release()
        assert [kind for kind, _ in post.sent] == ["ask", "give_back"]
