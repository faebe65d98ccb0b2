"""The one place where tasks are made: every task has an owner and an end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

from inferry.domain import Deadline

T = TypeVar("T")

_REST = 5.0


async def run_all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run `work` concurrently and give the results in order.

    The first error cancels the rest and is raised as itself, not as a group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise _first_leaf(errors) from None
    return [task.result() for task in tasks]


async def run_some(work: Iterable[Coroutine[Any, Any, T]], *, at_most: int) -> list[T]:
    """Do the same, but with no more than so many at once; `work` is taken as they end."""
    results: dict[int, T] = {}
    numbered = enumerate(work)

    async def take() -> None:
        for number, one in numbered:
            results[number] = await one

    await run_all(take() for _ in range(at_most))
    return [results[number] for number in range(len(results))]


def _first_leaf(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first


class time_limit:  # noqa: N801  read as what it does: `with time_limit(5):`
    """Cancel the body after `seconds` and raise `TimeoutError` then.

    `asyncio.timeout` for the way of every request: it cannot be moved, and costs half.
    loop: the running one, where it is known: to ask for it is a call of the system in Python 3.11.
    """

    __slots__ = ("_cancellations", "_handle", "_task", "is_over")

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._task: asyncio.Task[Any] | None = asyncio.current_task(loop)
        if self._task is None:
            raise RuntimeError("a time limit needs a task")
        self._cancellations = self._task.cancelling()
        self._handle = self._task.get_loop().call_later(max(seconds, 0.0), self._end)
        self.is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        self._handle.cancel()
        task, self._task = self._task, None  # else a failure would hold its task, and that it
        if (
            self.is_over
            and task is not None
            and task.uncancel() <= self._cancellations
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def _end(self) -> None:
        if self._task is not None:
            self.is_over = True
            self._task.cancel()


class IdleLimit:
    """Limits each of many waits, one after the other, at a fraction of what `time_limit` costs.

    One timer looks how long the present wait has lasted. Close it, or the timer goes on.
    """

    __slots__ = ("_handle", "_is_over", "_loop", "_since", "_task", "seconds")

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = seconds
        self._loop = loop
        self._since: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_over = False
        self._handle = loop.call_later(seconds, self._look)

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Give what `work` gives. Raises `TimeoutError`, and `work` is cancelled, if it is late."""
        task = self._task = asyncio.current_task(self._loop)
        assert task is not None
        cancellations = task.cancelling()
        self._since = self._loop.time()
        try:
            return await work
        except asyncio.CancelledError as error:
            if self._is_over and task.uncancel() <= cancellations:
                raise TimeoutError from error
            raise
        finally:
            self._since = self._task = None

    def close(self) -> None:
        """End the timer."""
        self._handle.cancel()

    def _look(self) -> None:
        waited_s = 0.0 if self._since is None else self._loop.time() - self._since
        if self._task is not None and waited_s >= self.seconds:
            self._is_over = True
            self._task.cancel()
        else:
            self._handle = self._loop.call_later(self.seconds - waited_s, self._look)


class within(time_limit):  # noqa: N801  read as what it does: `with within(deadline):`
    """Cancel the body when `deadline` ends and raise `DeadlineExceeded` then."""

    __slots__ = ("_deadline",)

    def __init__(self, deadline: Deadline) -> None:
        # Event loops round: the limit may be over a moment before the clock says so.
        super().__init__(deadline.left_s())
        self._deadline = deadline

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        except TimeoutError:
            kind = TimeoutError
        if self.is_over and kind is not None and issubclass(kind, TimeoutError):
            raise self._deadline.exceeded() from None


def start_in(
    tasks: set[asyncio.Task[T]], work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
) -> asyncio.Task[T]:
    """Start `work` for an owner who keeps his tasks in `tasks`, which forgets it when it ends."""
    task = loop.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


class Nursery:
    """Owns tasks that outlive the call that started them, e.g. jobs of the supervisor.

    Use as an async context manager; leaving it cancels what still runs, unless `drain` was awaited.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `work`; the nursery keeps it until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end even when the caller is cancelled meanwhile."""
        return await asyncio.shield(self.start(work))

    async def drain(self) -> None:
        """Wait until everything that runs has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Nursery:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self.drain()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaits it sees it; a job without a waiter reports by itself


async def in_own_thread(work: Callable[[], T]) -> T:
    """Give what blocking `work` gives that may take minutes: the threads of others are few.

    It goes on when the caller is cancelled, and is given up when the process ends.
    """
    ended: Future[T] = Future()
    ended.set_running_or_notify_cancel()  # so that it stays open for its outcome

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(ended)


async def first_of(*work: Coroutine[Any, Any, Any]) -> None:
    """Run `work` concurrently until one of it ends; cancel the rest and raise what that one did."""
    async with Nursery() as nursery:
        tasks = [nursery.start(one) for one in work]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()


class SingleFlight:
    """Lets equal work run once: later callers wait for the first one's result."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Give the result of the work under `key`, started now unless it already runs."""
        task = self._running.get(key)
        if task is None:
            task = self._nursery.start(work())
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)


class Aside:
    """Does long work in a thread, a piece at a time, and rests after each five times as long.

    The thread shares Python's lock, and maybe a core, with the event loop: so a sixth of the time
    is all that can be taken away from everybody else, however much there is to do.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._rests_until = 0.0

    async def run(self, work: Callable[[], T]) -> T:
        """Give what `work` gives; it is left out when the caller is cancelled before its turn."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    def close(self) -> None:
        """End the thread after what it does."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _do(self, work: Callable[[], T]) -> T:
        time.sleep(max(0.0, self._rests_until - time.monotonic()))
        started = time.thread_time()
        try:
            return work()
        finally:
            self._rests_until = time.monotonic() + _REST * (time.thread_time() - started)
