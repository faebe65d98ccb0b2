"""The one place where tasks are made: results, errors and cancellation of what runs together."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from inferry.concurrency import (
    Aside,
    IdleLimit,
    Nursery,
    SingleFlight,
    first_of,
    in_own_thread,
    run_all,
    run_some,
    time_limit,
    within,
)
from inferry.domain import Deadline
from inferry.errors import BadRequest, DeadlineExceeded


async def give(value: int) -> int:
    return value


async def fail() -> int:
    raise BadRequest("no")


class Work:
    """Work that starts, waits to be let go, and notes how it ended."""

    def __init__(self) -> None:
        self.started, self.go_on = asyncio.Event(), asyncio.Event()
        self.runs = 0
        self.was_cancelled = False

    async def run(self) -> int:
        self.runs += 1
        self.started.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return 7


async def test_results_come_in_the_order_of_the_work() -> None:
    assert await run_all(give(number) for number in range(5)) == [0, 1, 2, 3, 4]
    assert await run_all([]) == []


async def test_some_at_a_time_are_made_as_others_end_and_give_results_in_order() -> None:
    running, most = 0, 0

    async def count(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(number % 4):
            await asyncio.sleep(0)
        running -= 1
        return number

    assert await run_some(map(count, range(50)), at_most=3) == list(range(50))
    assert most == 3
    assert await run_some([], at_most=3) == []


async def test_the_first_error_of_some_ends_the_others_and_no_more_are_made() -> None:
    made: list[int] = []

    async def take_turns(number: int) -> int:
        await asyncio.sleep(0)
        return await (fail() if number == 10 else give(number))

    def work():
        for number in range(50):
            made.append(number)
            yield take_turns(number)

    with pytest.raises(BadRequest):
        await run_some(work(), at_most=2)

    assert len(made) < 20


async def test_the_first_error_is_raised_as_itself_and_cancels_the_rest() -> None:
    work = Work()

    async def fail_once_the_other_runs() -> int:
        await work.started.wait()
        return await fail()

    with pytest.raises(BadRequest):
        await run_all([work.run(), fail_once_the_other_runs()])

    assert work.was_cancelled


async def test_an_error_deep_inside_is_raised_as_itself() -> None:
    with pytest.raises(BadRequest):
        await run_all([run_all([fail()])])


async def test_a_deadline_that_ends_says_so() -> None:
    work = Work()

    in_time = within(Deadline.after(0.01, "10ms", "e"))
    with pytest.raises(DeadlineExceeded, match=r"\[10ms\] for inference id \[e\]"), in_time:
        await work.run()

    assert work.was_cancelled


async def test_a_timeout_of_the_body_itself_is_not_the_deadlines() -> None:
    with pytest.raises(TimeoutError, match="mine"), within(Deadline.after(60, "60s")):
        raise TimeoutError("mine")


async def test_a_limit_leaves_alone_who_is_in_time_and_who_is_cancelled_by_another() -> None:
    with time_limit(60):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    work = Work()

    async def limited() -> None:
        with time_limit(60):
            await work.run()

    async with Nursery() as nursery:
        task = nursery.start(limited())
        await work.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert work.was_cancelled


async def test_of_two_limits_the_one_that_is_over_speaks() -> None:
    with time_limit(60) as outer:
        with pytest.raises(TimeoutError), time_limit(0) as inner:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    assert inner.is_over
    assert not outer.is_over


async def test_a_limit_that_is_left_never_cancels_later() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(BadRequest), time_limit(0):
        raise BadRequest("no")

    passed = asyncio.Event()
    loop.call_later(0.001, passed.set)
    await passed.wait()


async def test_leaving_a_nursery_cancels_what_runs() -> None:
    work = Work()

    async with Nursery() as nursery:
        nursery.start(work.run())
        await work.started.wait()

    assert work.was_cancelled


async def test_a_drained_nursery_lets_work_end() -> None:
    work = Work()

    async with Nursery() as nursery:
        task = nursery.start(work.run())
        await work.started.wait()
        work.go_on.set()
        await nursery.drain()

    assert task.result() == 7


async def test_work_that_must_finish_outlives_its_caller() -> None:
    work = Work()
    async with Nursery() as nursery, Nursery() as callers:
        caller = callers.start(nursery.finish(work.run()))
        await work.started.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

        work.go_on.set()
        await nursery.drain()

    assert not work.was_cancelled


@pytest.mark.parametrize("start", [run_all, lambda work: first_of(*work)])
async def test_cancelling_the_caller_cancels_what_runs_together(
    start: Callable[[list[Awaitable[int]]], Awaitable[object]],
) -> None:
    work = Work()
    async with Nursery() as callers:

        async def call() -> object:
            return await start([work.run()])

        callers.start(call())
        await work.started.wait()

    assert work.was_cancelled


async def test_the_first_to_end_cancels_the_rest() -> None:
    work = Work()

    async def wait_for_the_other() -> None:
        await work.started.wait()

    await first_of(work.run(), wait_for_the_other())

    assert work.was_cancelled


async def test_the_error_of_the_first_to_end_is_raised() -> None:
    with pytest.raises(BadRequest):
        await first_of(Work().run(), fail())


async def test_equal_work_runs_once() -> None:
    work = Work()
    async with Nursery() as nursery:
        flights = SingleFlight(nursery)
        both = nursery.start(run_all([flights.run("a", work.run), flights.run("a", work.run)]))
        await work.started.wait()
        work.go_on.set()

        assert await both == [7, 7]
        assert work.runs == 1
        assert await flights.run("a", work.run) == 7
        assert work.runs == 2


async def test_shared_work_goes_on_when_its_first_caller_leaves() -> None:
    work = Work()
    async with Nursery() as nursery:
        flights = SingleFlight(nursery)
        first = nursery.start(flights.run("a", work.run))
        await work.started.wait()
        first.cancel()

        second = nursery.start(flights.run("a", work.run))
        work.go_on.set()

        assert await second == 7
        assert work.runs == 1


async def test_a_wait_that_is_late_is_cancelled_and_told() -> None:
    work = Work()
    idle = IdleLimit(0.01, asyncio.get_running_loop())

    with pytest.raises(TimeoutError):
        await idle.wait(work.run())

    assert work.was_cancelled
    assert not task().cancelling()


async def test_time_between_waits_does_not_count() -> None:
    loop = asyncio.get_running_loop()
    idle = IdleLimit(0.02, loop)
    passed = asyncio.Event()
    loop.call_later(0.06, passed.set)

    await passed.wait()
    result = await idle.wait(give(1))
    idle.close()

    assert result == 1


async def test_a_wait_that_somebody_else_cancels_stays_cancelled() -> None:
    work = Work()
    idle = IdleLimit(60, asyncio.get_running_loop())

    async with Nursery() as nursery:
        waiting = nursery.start(idle.wait(work.run()))
        await work.started.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    idle.close()

    assert work.was_cancelled


def task() -> asyncio.Task[object]:
    found = asyncio.current_task()
    assert found is not None
    return found


@pytest.fixture
def aside():
    opened = Aside()
    yield opened
    opened.close()


async def test_what_is_done_aside_gives_its_result_or_its_error(aside):
    assert await aside.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await aside.run(lambda: 1 // 0)


async def test_what_is_done_aside_takes_a_sixth_of_the_time(aside):
    def toil() -> float:
        started = time.thread_time()
        while time.thread_time() - started < 0.01:
            pass
        return time.thread_time() - started

    started = time.monotonic()
    toiled = await run_all(aside.run(toil) for _ in range(6))

    assert time.monotonic() - started > 5 * 5 * min(toiled)


async def test_what_nobody_waits_for_any_more_is_not_done_aside(aside):
    began, go_on, done = threading.Event(), threading.Event(), []

    def hold() -> None:
        began.set()
        go_on.wait()

    async with Nursery() as nursery:
        first = nursery.start(aside.run(hold))
        await asyncio.to_thread(began.wait)
        second = nursery.start(aside.run(lambda: done.append(1)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        go_on.set()
        await first

    await aside.run(int)
    assert not done


async def test_work_in_a_thread_of_its_own_gives_its_result_or_its_error():
    def refuse() -> int:
        raise BadRequest("no")

    assert await in_own_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(BadRequest):
        await in_own_thread(refuse)


async def test_however_many_wait_in_threads_of_their_own_others_get_theirs():
    go_on = threading.Event()
    async with Nursery() as nursery:
        waiting = [nursery.start(in_own_thread(go_on.wait)) for _ in range(100)]

        assert await asyncio.to_thread(give_at_once) == 7

        go_on.set()
        assert await run_all(one for one in map(until, waiting)) == [True] * 100


async def test_who_leaves_work_in_a_thread_of_its_own_leaves_it_be():
    go_on, has_ended = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait()
        has_ended.set()

    async with Nursery() as nursery:
        task = nursery.start(in_own_thread(work))
        await asyncio.sleep(0)
        task.cancel()
    go_on.set()

    assert has_ended.wait(5)


def give_at_once() -> int:
    return 7


async def until(task: asyncio.Task[bool]) -> bool:
    return await task
