"""The queue of a deployment: who runs next, and together with whom."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.domain import InputType
from inferry.engine.batching import Batcher, Limits
from inferry.engine.jobs import Item, Job, Lane
from inferry.errors import DeadlineExceeded, InferenceError, InternalError, QueueFull
from inferry.modeling import Encoded, ShapeLadder

LADDER = ShapeLadder(
    rows=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64), lengths=(8, 16, 32, 64, 128, 256), budget=512
)
LIMITS = Limits(texts=200, characters=20_000)
FOREVER = float("inf")


@dataclass
class Line:
    """A batcher with a tokenizer (a token per character) and a model (a text's number, twice)."""

    limits: Limits = LIMITS
    ladder: ShapeLadder = LADDER
    now: float = 0.0
    cores: int = 1
    ran: list[list[Item]] = field(default_factory=list)
    wide: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.ladder, self.limits, cores=self.cores, threads=self.cores)

    def put(
        self, *lengths: int, lane: Lane = Lane.INGEST, deadline: float = FOREVER, first: int = 0
    ) -> Waiter:
        """Put a job of texts that say their number, padded to their lengths."""
        texts = [f"{first + n}".ljust(length, ".") for n, length in enumerate(lengths)]
        waiter = Waiter()
        waiter.job = Job(texts, InputType.INGEST, lane, deadline, waiter.end)
        self.batcher.put(waiter.job, self.now)
        return waiter

    def encode(self) -> bool:
        """Tokenize one piece; tells whether there was one."""
        piece = self.batcher.take_texts(self.now)
        if piece is None:
            return False
        tokens = [
            Encoded([int(text.rstrip("."))] * min(len(text), 256), len(text))
            for text in piece.texts
        ]
        self.batcher.add_encoded(piece, tokens)
        return True

    def take(self, *, is_wide: bool = False) -> list[Item]:
        """Take a batch, after everything that may be tokenized is."""
        while self.encode():
            pass
        batch = self.batcher.take_batch(self.now, is_wide=is_wide)
        if is_wide:
            self.wide += map(id, batch)
        return batch

    def take_any(self) -> list[Item]:
        """Take a batch as soon as one may run."""
        return self.take(is_wide=True) or self.take()

    def run(self, batch: Sequence[Item]) -> None:
        answers = [array("f", [item.encoded.ids[0], len(batch)]).tobytes() for item in batch]
        self.batcher.finish(batch, answers)
        if batch:
            self.batcher.release(batch, is_wide=id(batch[0]) in self.wide)

    def step(self) -> list[Item]:
        batch = self.take_any()
        if batch:
            self.ran.append(batch)
            self.run(batch)
        return batch

    def drain(self) -> None:
        while self.step():
            pass


class Waiter:
    """Whoever waits for a job."""

    job: Job

    def __init__(self) -> None:
        self.ends: list[InferenceError | None] = []

    def end(self, error: InferenceError | None) -> None:
        self.ends.append(error)

    @property
    def numbers(self) -> list[int]:
        """The first number of every answer."""
        return [int(memoryview(answer).cast("f")[0]) for answer in self.job.answers]


def lengths_of(batch: Sequence[Item]) -> list[int]:
    return sorted(len(item.encoded.ids) for item in batch)


def cost(batch: Sequence[Item]) -> int:
    return LADDER.tokens(len(batch), lengths_of(batch)[-1])


# --- batches -----------------------------------------------------------------------------------


def test_texts_of_similar_length_run_together_within_the_budget() -> None:
    line = Line()
    line.put(*[8, 200] * 32)

    assert lengths_of(line.step()) == [200, 200]
    line.drain()

    assert all(cost(batch) <= 512 for batch in line.ran)
    assert {len({length > 8 for length in lengths_of(batch)}) for batch in line.ran} == {1}


def test_texts_of_several_requests_share_a_batch() -> None:
    line = Line()
    waiters = [line.put(16, first=n) for n in range(32)]

    line.step()

    assert len(line.ran) == 1
    assert [waiter.numbers for waiter in waiters] == [[n] for n in range(32)]


def test_a_text_above_the_budget_runs_alone() -> None:
    line = Line(ladder=replace(LADDER, budget=64))
    waiter = line.put(256, 8)

    assert lengths_of(line.step()) == [256]
    line.drain()

    assert waiter.ends == [None]


def test_the_oldest_text_is_in_the_next_batch_whatever_its_length() -> None:
    line = Line()
    line.put(256, lane=Lane.INGEST)
    for _ in range(4):
        line.put(*[8] * 40)

    assert 256 in lengths_of(line.step())


def test_the_longest_texts_of_a_request_run_first_so_that_its_cores_end_together() -> None:
    line = Line(ladder=replace(LADDER, budget=64))
    line.put(*[8] * 8, 64, *[8] * 8, 32, 32)
    line.put(128)

    batches = [sorted(lengths_of(line.step())) for _ in range(5)]

    assert batches == [[64], [32, 32], [8] * 8, [8] * 8, [128]]


def test_cores_that_rest_share_what_waits() -> None:
    line = Line(cores=4)
    line.put(*[16] * 64)

    batches = [line.take() for _ in range(4)]

    assert [len(batch) for batch in batches] == [16] * 4


def test_the_last_texts_are_parted_between_a_core_that_rests_and_one_in_the_middle_of_a_batch():
    line = Line(cores=2)
    line.put(*[128] * 12)
    first, second = line.take(), line.take()

    line.run(first)
    last = [line.take()]
    line.run(second)
    last.append(line.take())

    assert [len(batch) for batch in (first, second, *last)] == [4, 4, 3, 1]


def test_a_small_batch_that_finds_everything_at_rest_may_take_all_cores() -> None:
    line = Line(cores=2)
    line.put(16, 16)

    assert line.take() == []
    alone = line.take(is_wide=True)
    line.put(16)

    assert len(alone) == 2
    assert line.take(is_wide=True) == line.take() == []
    line.run(alone)
    assert len(line.take(is_wide=True)) == 1


def test_texts_that_are_not_alike_run_apart() -> None:
    line = Line(ladder=replace(LADDER, lengths=range(1, 65), most_padding=16))
    line.put(*[40] * 3, *[36] * 4, *[24] * 3)
    line.drain()

    assert [lengths_of(batch) for batch in line.ran] == [[36] * 4 + [40] * 3, [24] * 3]


def test_no_batch_has_more_rows_than_the_ladder() -> None:
    line = Line(ladder=replace(LADDER, budget=100_000))
    line.put(*[8] * 100)

    assert len(line.step()) == LADDER.rows[-1]


# --- lanes -------------------------------------------------------------------------------------


def test_search_goes_before_ingest() -> None:
    line = Line()
    line.put(*[16] * 20)
    line.put(16, lane=Lane.SEARCH)

    assert [item.job.lane for item in line.step()] == [Lane.SEARCH]


def test_a_probe_goes_before_everything_and_fits_into_a_full_queue() -> None:
    line = Line(Limits(texts=1))
    line.put(16, lane=Lane.SEARCH)
    line.put(16)

    line.put(8, lane=Lane.CHECK)

    assert [item.job.lane for item in line.step()] == [Lane.CHECK]


def test_a_search_goes_ahead_of_ingest_that_runs_which_takes_the_other_cores() -> None:
    line = Line(cores=2)
    line.put(*[256] * 6)
    running = line.take()
    line.put(8, lane=Lane.SEARCH)

    beside, ahead = line.take(), line.take(is_wide=True)

    assert [batch[0].job.lane for batch in (running, beside, ahead)] == [
        *(Lane.INGEST, Lane.INGEST, Lane.SEARCH)
    ]


def test_many_searches_run_side_by_side_while_no_ingest_runs() -> None:
    line = Line(cores=2)
    line.put(*[256] * 4, lane=Lane.SEARCH)

    assert line.take(is_wide=True) == []
    assert [len(line.take()) for _ in range(2)] == [2, 2]


def test_ingest_is_not_wide_while_searches_come_in() -> None:
    line = Line()
    line.put(8, lane=Lane.SEARCH)
    line.step()
    line.put(8)

    assert line.take(is_wide=True) == []
    assert line.batcher.next_lane(line.now, is_wide=False) is Lane.INGEST
    line.now = LIMITS.calm_s
    assert len(line.take(is_wide=True)) == 1


def test_searches_wait_for_the_ingest_that_they_have_held_up_for_long() -> None:
    line = Line(cores=1)
    line.put(*[256] * 4)
    held_up = line.take()
    line.put(*[256] * 20, lane=Lane.SEARCH)
    for _ in range(4):
        line.run(line.take(is_wide=True))

    assert line.take(is_wide=True) == []
    line.run(held_up)
    assert [item.job.lane for item in line.take_any()] == [Lane.SEARCH] * 2


@given(st.integers(1, 60), st.integers(1, 200), st.integers(1, 200))
def test_ingest_gets_its_share_of_a_queue_full_of_searches(texts, search_length, ingest_length):
    line = Line(Limits(texts=100_000))
    spent = dict.fromkeys(Lane, 0)
    for _ in range(60):
        line.put(*[search_length] * texts, lane=Lane.SEARCH)
        line.put(*[ingest_length] * texts)
        batch = line.step()
        spent[batch[0].job.lane] += cost(batch)

    slack = 512 + 256  # what one batch is too much or too little
    fair = 0.2 * sum(spent.values())
    assert fair - slack <= spent[Lane.INGEST] <= fair + slack


# --- bounds ------------------------------------------------------------------------------------


def test_a_full_lane_refuses_at_once_and_keeps_what_it_has() -> None:
    line = Line()
    kept = line.put(*[8] * 200)

    with pytest.raises(QueueFull) as caught:
        line.put(8)

    assert str(caught.value) == "inference process queue is full. Unable to execute command"
    assert line.batcher.tally.rejected_count == 1
    line.put(8, lane=Lane.SEARCH)  # which has a lane of its own
    line.drain()
    assert kept.ends == [None]
    assert line.put(8).ends == []


def test_texts_are_bounded_by_their_size_too() -> None:
    line = Line()
    line.put(19_990)

    with pytest.raises(QueueFull):
        line.put(20)


def test_a_request_above_the_bound_is_taken_when_nothing_waits() -> None:
    line = Line()
    waiter = line.put(*[8] * 1000)

    line.drain()

    assert waiter.numbers == list(range(1000))


def test_only_a_little_is_tokenized_ahead() -> None:
    line = Line(Limits(texts=10_000))
    line.put(*[100] * 5000)
    while line.encode():
        pass

    ready = line.batcher._lanes[Lane.INGEST].ready_tokens

    assert ready < 16 * 512 + 64 * 100


# --- ends --------------------------------------------------------------------------------------


def test_what_is_late_never_runs() -> None:
    line = Line()
    late = line.put(*[8] * 50, deadline=1.0)
    line.encode()
    line.now = 1.0
    on_time = line.put(8, 8, deadline=2.0)

    line.drain()

    assert isinstance(late.ends[0], DeadlineExceeded)
    assert len(late.ends) == 1
    assert on_time.numbers == [0, 1]
    assert sum(len(batch) for batch in line.ran) == 2
    assert line.batcher.tally.timeout_count == 50
    assert line.batcher.waiting == 0


def test_abandoned_texts_never_run_and_make_room_at_once() -> None:
    line = Line()
    waiter = line.put(*[8] * 200)
    line.encode()

    line.batcher.abandon(waiter.job)
    line.batcher.abandon(waiter.job)

    line.put(*[8] * 200)
    line.drain()
    assert waiter.ends == []
    assert line.batcher.tally.abandoned_count == 200
    assert sum(len(batch) for batch in line.ran) == 200


def test_whoever_has_little_time_gets_no_texts_of_a_long_job():
    line = Line()
    line.put(5000)
    search = line.put(9, lane=Lane.SEARCH)

    brief = line.batcher.take_texts(0.0, is_brief=True)

    assert brief is not None
    assert brief.job is search.job
    assert line.batcher.take_texts(0.0, is_brief=True) is None
    line.put(9)
    assert line.batcher.take_texts(0.0, [Lane.SEARCH], is_brief=True) is None
    assert line.batcher.take_texts(0.0) is not None


def test_a_job_that_is_abandoned_while_it_runs_or_is_tokenized_leaves_nothing_behind() -> None:
    line = Line()
    running, encoding = line.put(8), line.put(8)
    line.batcher.take_texts(0.0)
    line.encode()
    piece = line.put(8)
    taken = line.batcher.take_texts(0.0)
    assert taken is not None
    batch = line.take_any()

    for waiter in (running, encoding, piece):
        line.batcher.abandon(waiter.job)
    line.run(batch)
    line.batcher.add_encoded(taken, [Encoded([1], 1)])

    assert line.step() == []
    assert line.batcher.waiting == 0


def test_a_job_that_fails_ends_once_and_others_go_on() -> None:
    line = Line()
    broken, whole = line.put(8, 8), line.put(8, 8)
    batch = line.take_any()

    line.batcher.fail(broken.job, InternalError("no"))
    line.batcher.fail(broken.job, InternalError("no"))
    line.run(batch)

    assert [str(error) for error in broken.ends] == ["no"]
    assert whole.ends == [None]
    assert line.batcher.tally.error_count == 2


def test_a_job_knows_its_tokens_and_which_texts_were_cut() -> None:
    line = Line()
    waiter = line.put(8, 300, 16, 400)

    line.drain()

    assert waiter.job.tokens == 8 + 256 + 16 + 256
    assert waiter.job.cut == [1, 3]


# --- whatever happens ----------------------------------------------------------------------------

Act = tuple[str, Lane, list[int], float]
acts = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "encode", "take", "run", "abandon", "wait"]),
        st.sampled_from(list(Lane)),
        st.lists(st.integers(1, 300), min_size=1, max_size=40),
        st.floats(0.1, 5.0),
    ),
    max_size=60,
)


class History:
    """A line to which anything happens, and what must come of it."""

    def __init__(self) -> None:
        self.line = Line()
        self.waiters: list[Waiter] = []
        self.running: list[list[Item]] = []
        self.refused = self.abandoned = 0

    def play(self, act: str, lane: Lane, lengths: list[int], seconds: float) -> None:
        line = self.line
        if act == "put":
            try:
                self.waiters.append(line.put(*lengths, lane=lane, deadline=line.now + seconds))
            except QueueFull:
                self.refused += len(lengths)
        elif act == "encode":
            line.encode()
        elif act == "take":
            self.running.append(line.take(is_wide=bool(len(self.running) % 2)))
        elif act == "run" and self.running:
            line.run(self.running.pop(0))
        elif act == "abandon" and self.waiters:
            job = self.waiters.pop(0).job
            self.abandoned += 0 if job.is_over else job.left
            line.batcher.abandon(job)
        elif act == "wait":
            line.now += seconds / 4

    def end(self) -> None:
        for batch in self.running:
            self.line.run(batch)
        self.line.drain()

    def is_bounded(self) -> bool:
        """Tell whether no lane holds more than it may, but for one job."""
        largest = max((len(waiter.job.texts) for waiter in self.waiters), default=0)
        lanes = self.line.batcher._lanes
        return all(
            lanes[lane].texts <= max(LIMITS.texts, largest) for lane in (Lane.SEARCH, Lane.INGEST)
        )


@given(acts)
def test_nothing_is_lost_swapped_or_starved(acts: list[Act]) -> None:
    history = History()
    for act in acts:
        history.play(*act)
        assert history.is_bounded()
    history.end()

    for waiter in history.waiters:
        (end,) = waiter.ends  # each exactly once
        if end is None:
            assert waiter.numbers == list(range(len(waiter.job.texts)))
        else:
            assert isinstance(end, DeadlineExceeded)
            assert waiter.job.deadline <= history.line.now
    batcher = history.line.batcher
    assert batcher.waiting == 0
    for lane in batcher._lanes.values():
        assert (lane.ready_tokens, lane.characters, len(lane.by_length)) == (0, 0, 0)
        assert not lane.jobs
    assert batcher.tally.rejected_count == history.refused
    assert batcher.tally.abandoned_count == history.abandoned
