"""The counts of a deployment over all its workers."""

from __future__ import annotations

from typing import Any

from inferry.deployment_stats import WorkerStats
from inferry.engine.controller import Work
from inferry.engine.tally_book import TallyBook


def worker(count: int = 0, *, pending: int = 0, busy_s: float = 0.0, **more: Any) -> WorkerStats:
    usual = {"error_count": 0, "timeout_count": 0, "rejected_execution_count": 0} | more
    return WorkerStats(
        slots=1,
        number_of_pending_requests=pending,
        inference_count=count,
        abandoned_count=0,
        batches=0,
        tokens=0,
        padded_tokens=0,
        busy_s=busy_s,
        is_warm=True,
        **usual,
    )


def test_a_new_worker_goes_on_where_the_last_one_was() -> None:
    book = TallyBook()
    book.take(worker(5, error_count=1, busy_s=2.0), now_s=0, now_ms=1000)
    book.close()

    totals = book.take(worker(3, busy_s=0.5), now_s=10, now_ms=2000)

    assert (totals.inference_count, totals.error_count, totals.busy_s) == (8, 1, 2.5)


def test_a_worker_that_died_between_two_looks_is_told_by_its_counts() -> None:
    book = TallyBook()
    book.take(worker(5), now_s=0, now_ms=1000)

    assert book.take(worker(2), now_s=10, now_ms=2000).inference_count == 7


def test_the_last_minute_is_the_last_minute() -> None:
    book = TallyBook()
    told = [
        book.take(worker(count, busy_s=count / 10), now_s=at, now_ms=at * 1000)
        for at, count in [(0, 0), (30, 10), (60, 30), (100, 30), (130, 31)]
    ]

    assert [one.throughput_last_minute for one in told] == [0, 10, 30, 0, 1]
    assert told[-1].peak_throughput_per_minute == 30
    assert round(told[2].busy_last_minute_s, 6) == 3.0
    assert [one.last_access_ms for one in told] == [None, 30_000, 60_000, 60_000, 130_000]


def test_work_is_what_changed() -> None:
    book = TallyBook()
    book.take(worker(), now_s=0, now_ms=0)
    assert book.work() is None
    book.take(worker(10, pending=4, busy_s=1.0), now_s=10, now_ms=0)
    assert book.work() == Work(10, 4, 0, 0.1)

    book.take(worker(10, pending=1, timeout_count=2, busy_s=1.0), now_s=20, now_ms=0)

    assert book.work() == Work(0, -3, 2, None)


def test_what_waited_for_the_start_is_no_load() -> None:
    book = TallyBook()
    book.take(None, now_s=0, now_ms=0)
    while_it_started = book.work()
    book.take(worker(2, pending=16), now_s=10, now_ms=0)
    just_started = book.work()

    book.take(worker(18, busy_s=1.6), now_s=20, now_ms=0)

    assert (while_it_started, just_started) == (None, None)
    assert book.work() == Work(16, -16, 0, 0.1)
