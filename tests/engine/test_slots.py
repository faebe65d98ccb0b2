"""The threads of a worker: what runs, when, and what becomes of what breaks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from inferry.domain import InputType
from inferry.engine.batching import Limits
from inferry.engine.jobs import Job, Lane
from inferry.engine.slots import Slots
from inferry.errors import InferenceError, InternalError, QueueFull
from tests.engine.fake_models import FakeModel, row_of

PATIENCE_S = 30


class FreeCores:
    """A lender with cores for everybody. asks, given_back: counted."""

    def __init__(self) -> None:
        self.slots: Slots | None = None
        self.asks: list[Lane] = []
        self.hurries: list[Lane] = []
        self.given_back = threading.Semaphore(0)
        self.lends = True

    def ask(self, lane: Lane) -> None:
        self.asks.append(lane)
        if self.lends:
            self.lend()

    def lend(self) -> None:
        assert self.slots is not None
        threading.Thread(target=self.slots.granted).start()

    def hurry(self, lane: Lane) -> None:
        self.hurries.append(lane)

    def give_back(self) -> None:
        self.given_back.release()


class Hold:
    """Stops batches with a text that is held, until it is let go."""

    def __init__(self) -> None:
        self.arrived = queue.Queue[list[str]]()
        self.go_on = threading.Semaphore(0)

    def __call__(self, texts: list[str]) -> None:
        if any(text.startswith("hold") for text in texts):
            self.arrived.put(texts)
            assert self.go_on.acquire(timeout=PATIENCE_S)


class Bench:
    """Slots on a fake model."""

    def __init__(
        self, *, streams: int = 1, allocations: int = 1, threads: int = 1, limits=None
    ) -> None:
        self.hold = Hold()
        self.model = FakeModel(self._before_run)
        self.cores = FreeCores()
        self.slots = Slots(
            self.model,
            self.cores,
            streams=streams,
            allocations=allocations,
            threads=threads,
            limits=limits,
        )
        self.cores.slots = self.slots
        self.slots.start()

    def _before_run(self, texts: list[str]) -> None:
        self.hold(texts)
        if "boom" in texts:
            raise ValueError("a text that breaks the model")

    def put(self, *texts: str, lane: Lane = Lane.INGEST, deadline: float = float("inf")) -> Waiter:
        waiter = Waiter()
        waiter.job = Job(list(texts), InputType.INGEST, lane, deadline, waiter.ends.put)
        self.slots.submit(waiter.job)
        return waiter

    def put_held(self) -> Waiter:
        """Occupy a slot."""
        waiter = self.put("hold")
        self.hold.arrived.get(timeout=PATIENCE_S)
        return waiter


class Waiter:
    """Whoever waits for a job."""

    job: Job

    def __init__(self) -> None:
        self.ends = queue.Queue[InferenceError | None]()

    def wait(self) -> InferenceError | None:
        return self.ends.get(timeout=PATIENCE_S)

    def rows(self) -> list[list[float]]:
        assert self.wait() is None
        return [list(memoryview(answer).cast("f")) for answer in self.job.answers]


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.hold.go_on.release(100)
    one.slots.stop()


def test_every_text_gets_its_own_row(bench) -> None:
    texts = [f"text {n} " + "x" * (n % 50) for n in range(500)]

    assert bench.put(*texts).rows() == [row_of(text) for text in texts]


def test_what_waits_is_run_together_as_soon_as_a_slot_is_free(bench) -> None:
    held = bench.put_held()
    waiters = [bench.put(f"text {n}") for n in range(4)]
    while bench.slots._batcher._last_number < 5:  # all of them are tokenized
        bench.slots.stats()

    bench.hold.go_on.release()

    assert held.wait() is None
    assert [waiter.rows() for waiter in waiters] == [[row_of(f"text {n}")] for n in range(4)]
    assert len(bench.model.ran) == 2


def test_as_many_batches_run_at_once_as_there_are_allocations() -> None:
    bench = Bench(streams=3, allocations=2)
    first, second = bench.put_held(), bench.put_held()
    third = bench.put("hold")

    with pytest.raises(queue.Empty):
        bench.hold.arrived.get(timeout=0.05)
    bench.slots.scale(9)
    bench.hold.arrived.get(timeout=PATIENCE_S)

    assert bench.slots.stats().slots == 3
    bench.hold.go_on.release(3)
    assert [one.wait() for one in (first, second, third)] == [None] * 3
    bench.slots.stop()


def test_a_text_that_breaks_the_model_breaks_its_own_request_only(bench) -> None:
    held = bench.put_held()
    fine, broken, fine_too = bench.put("a"), bench.put("b", "boom", "c"), bench.put("d")

    bench.hold.go_on.release()

    assert held.wait() is None
    assert fine.rows() == [row_of("a")]
    assert fine_too.rows() == [row_of("d")]
    assert isinstance(broken.wait(), InternalError)
    assert bench.put("still there").rows() == [row_of("still there")]


def test_a_text_that_breaks_the_tokenizer_breaks_its_own_request_only(bench) -> None:
    broken, fine = bench.put("untokenizable"), bench.put("a")

    assert isinstance(broken.wait(), InternalError)
    assert fine.rows() == [row_of("a")]


def test_a_full_queue_refuses(bench) -> None:
    bench = Bench(limits=Limits(texts=2))
    held = bench.put_held()
    bench.put("a")

    with pytest.raises(QueueFull):
        bench.put("b")

    bench.hold.go_on.release()
    assert held.wait() is None
    assert bench.slots.stats().rejected_execution_count == 1
    bench.slots.stop()


def test_an_abandoned_job_does_not_run(bench) -> None:
    held = bench.put_held()
    dropped = bench.put("dropped")
    kept = bench.put("kept")

    bench.slots.abandon(dropped.job)
    bench.hold.go_on.release()

    assert held.wait() is None
    assert kept.rows() == [row_of("kept")]
    assert bench.model.ran == [["hold"], ["kept"]]


# --- cores -------------------------------------------------------------------------------------


def test_alone_a_worker_asks_for_cores_once(bench) -> None:
    for n in range(5):
        bench.put(f"{n}").rows()

    assert bench.cores.asks == [Lane.INGEST]


def test_a_recalled_lease_goes_back_at_once_or_after_the_batch(bench) -> None:
    held = bench.put_held()
    bench.slots.recall(Lane.INGEST)
    assert not bench.cores.given_back.acquire(blocking=False)

    bench.hold.go_on.release()
    assert held.wait() is None
    assert bench.cores.given_back.acquire(timeout=PATIENCE_S)

    bench.put("a").rows()
    assert len(bench.cores.asks) == 2
    bench.slots.recall(Lane.INGEST)
    assert bench.cores.given_back.acquire(timeout=PATIENCE_S)


def test_a_text_that_takes_long_to_tokenize_does_not_hold_up_the_next_search(bench) -> None:
    begun, go_on = threading.Event(), threading.Event()
    encode = bench.model.encode

    def encode_slowly(texts, *more):
        if len(texts[0]) > 5000:
            begun.set()
            assert go_on.wait(PATIENCE_S)
        return encode(texts, *more)

    bench.model.encode = encode_slowly
    bench.put("a").rows()
    long = bench.put("x" * 5001)
    assert begun.wait(PATIENCE_S)

    search = bench.put("b", lane=Lane.SEARCH)

    assert search.rows() == [row_of("b")]
    go_on.set()
    assert long.rows() == [row_of("x" * 5001)]


def test_a_search_hurries_what_was_asked_for_ingest(bench) -> None:
    bench.cores.lends = False
    ingest = bench.put("a")
    while not bench.cores.asks:
        bench.slots.stats()
    search = bench.put("b", lane=Lane.SEARCH)

    assert bench.cores.hurries == [Lane.SEARCH]
    while bench.slots._batcher._turn() is not Lane.SEARCH:  # it is tokenized
        bench.slots.stats()
    bench.cores.lend()

    assert search.rows() == [row_of("b")]
    assert ingest.rows() == [row_of("a")]
    assert bench.model.ran == [["b"], ["a"]]


def test_a_text_alone_runs_on_all_cores_and_many_texts_on_one_each() -> None:
    bench = Bench(threads=2)
    assert bench.model.warming.wait(PATIENCE_S)
    bench.put("a").rows()
    while not bench.slots.stats().is_warm:  # each core has had its lease then
        pass
    bench.model.wide = 0

    bench.put("b").rows()
    assert bench.model.wide == 1
    held = []
    for _ in range(2):
        held.append(bench.put("hold".ljust(64), *["x" * 60] * 7))
        bench.hold.arrived.get(timeout=PATIENCE_S)
    bench.hold.go_on.release(2)

    assert [one.wait() for one in held] == [None] * 2
    bench.slots.stop()


# --- warming -----------------------------------------------------------------------------------


def test_the_model_is_warmed_while_nothing_waits_until_something_comes(bench) -> None:
    assert bench.model.warming.wait(PATIENCE_S)
    bench.model.warming.clear()

    assert bench.put("a").rows() == [row_of("a")]

    assert bench.model.warming.wait(PATIENCE_S)  # it goes on where it was interrupted
    while not bench.slots.stats().is_warm:
        bench.put("b").rows()
    assert bench.model.warmings == 2


def test_a_recall_interrupts_warming(bench) -> None:
    assert bench.model.warming.wait(PATIENCE_S)

    bench.slots.recall(Lane.SEARCH)

    assert bench.cores.given_back.acquire(timeout=PATIENCE_S)
