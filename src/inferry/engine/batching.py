"""Which texts run next, together, and where.

Texts wait in lanes, search before ingest. They are tokenized a little ahead and cut into batches by
padded tokens, not by count: of the longest text of a lane's oldest request, so that short batches
come last and cores end together, and of those next to it in length. A narrow batch takes one core,
beside others; a wide one all cores of an allocation, for which those that run there give way.

Pure: no thread, no clock; whoever holds it serializes the calls.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inferry.engine.jobs import Item, Job, Lane, Piece, next_piece
from inferry.errors import DeadlineExceeded, InferenceError, QueueFull
from inferry.modeling import Answer, Encoded, ShapeLadder

_AHEAD_BATCHES = 16
_SLACK = 1.2
"""By how much a share is larger than what waits and runs over the cores, for padding."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers of a queue.

    calm_s: how long after a search no ingest is wide, for nothing gives way to a search then.
    ingest_share: of the padded tokens, which ingest gets however many searches wait. texts,
    characters: what may wait in one lane.
    """

    calm_s: float = 1.0
    ingest_share: float = 0.2
    texts: int = 10_000
    characters: int = 64 * 1024 * 1024


@dataclass(slots=True)
class Tally:
    """What became of texts so far. batches and padded tokens are those that ran."""

    inference_count: int = 0
    error_count: int = 0
    timeout_count: int = 0
    rejected_count: int = 0
    abandoned_count: int = 0
    batches: int = 0
    tokens: int = 0
    padded_tokens: int = 0


class _Waiting:
    """One lane. texts, characters: of the jobs in it that are not over."""

    def __init__(self) -> None:
        self.jobs: dict[Job, None] = {}  # with texts that nobody tokenizes yet, oldest first
        self.by_age: dict[Item, None] = {}
        self.by_length: list[Item] = []
        self.ready_tokens = 0
        self.texts = 0
        self.characters = 0

    def add(self, item: Item) -> None:
        self.by_age[item] = None
        insort(self.by_length, item, key=_key)
        self.ready_tokens += len(item.encoded.ids)

    def longest_of_oldest(self) -> Item:
        """Give the longest text of the request that waits the longest."""
        job = next(iter(self.by_age)).job
        return next(item for item in reversed(self.by_length) if item.job is job)

    def remove(self, items: Iterable[Item]) -> None:
        for item in items:
            del self.by_age[item]
            del self.by_length[bisect_left(self.by_length, item.key, key=_key)]
            self.ready_tokens -= len(item.encoded.ids)


class Batcher:
    """The queue of one deployment. ladder: by which the cost of a batch is counted and bounded.

    cores: on which batches run side by side, at most; it may change. threads: of a wide batch.
    """

    def __init__(
        self, ladder: ShapeLadder, limits: Limits, *, cores: int = 1, threads: int = 1
    ) -> None:
        self.cores = cores
        self._threads = threads
        self._narrow = dict.fromkeys(Lane, 0)  # batches that run
        self._wide = dict.fromkeys(Lane, 0)
        self._running_tokens = 0  # padded, of the narrow ones
        self._left_tokens = 0.0  # of those what is likely left to compute
        self._ladder = ladder
        self._limits = limits
        self._lanes = {lane: _Waiting() for lane in Lane}
        self._last_number = 0
        self._searched_at = float("-inf")
        self._ingest_credit = 0.0
        self.tally = Tally()

    @property
    def waiting(self) -> int:
        """Count the texts that wait or run, probes aside."""
        return self._lanes[Lane.SEARCH].texts + self._lanes[Lane.INGEST].texts

    def put(self, job: Job, now: float) -> None:
        """Take a job, whole. Raises `QueueFull`; a job that finds its lane empty always fits."""
        lane = self._lanes[job.lane]
        is_bounded = lane.texts and job.lane is not Lane.CHECK
        if is_bounded and (
            lane.texts + len(job.texts) > self._limits.texts
            or lane.characters + job.characters > self._limits.characters
        ):
            self.tally.rejected_count += len(job.texts)
            raise QueueFull("inference process queue is full. Unable to execute command")
        if job.lane is Lane.SEARCH:
            self.note_search(now)
        lane.jobs[job] = None
        lane.texts += len(job.texts)
        lane.characters += job.characters

    def note_search(self, now: float) -> None:
        """Keep ingest narrow for a while: somebody searches, here or beside us."""
        self._searched_at = now

    def abandon(self, job: Job) -> None:
        """Forget a job whose caller is gone."""
        if not job.is_over:
            self.tally.abandoned_count += job.left
            self._end(job)

    def fail(self, job: Job, error: InferenceError) -> None:
        """End a job with `error`."""
        if not job.is_over:
            self.tally.error_count += job.left
            self._end(job)
            job.ended(error)

    # --- tokenizing ------------------------------------------------------------------------------

    def has_texts(self, lane: Lane) -> bool:
        """Tell whether a lane has texts that nobody tokenizes yet."""
        return bool(self._lanes[lane].jobs)

    def take_texts(
        self, now: float, lanes: Sequence[Lane] = tuple(Lane), *, is_brief: bool = False
    ) -> Piece | None:
        """Give what to tokenize next of `lanes`; None where enough is ready, or nothing waits.

        is_brief: only of a job that takes no time, for whoever has more important things to do.
        """
        for lane in map(self._lanes.__getitem__, lanes):
            if lane.ready_tokens >= _AHEAD_BATCHES * self._ladder.budget:
                continue
            while lane.jobs:
                job = next(iter(lane.jobs))
                if self._is_late(job, now):
                    continue
                if is_brief and not job.is_brief:
                    break
                piece = next_piece(job)
                if job.handed_out == len(job.texts):
                    del lane.jobs[job]
                return piece
        return None

    def add_encoded(self, piece: Piece, encoded: Sequence[Encoded]) -> None:
        """Take back what was tokenized; a job that ended meanwhile is left out."""
        if piece.job.is_over:
            return
        lane = self._lanes[piece.job.lane]
        for index, one in enumerate(encoded, start=piece.first):
            self._last_number += 1
            lane.add(Item(piece.job, index, one, self._last_number))

    # --- running ---------------------------------------------------------------------------------

    def next_lane(self, now: float, *, is_wide: bool) -> Lane | None:
        """Tell whose turn it is to be run narrow, or wide; None when nothing is ready for that.

        Wide are searches while ingest runs, which gives way to them, and what is small and finds
        everything at rest. Narrow is the rest, side by side.
        """
        lane = self._turn()
        if lane is None:
            return None
        goes_ahead = lane is not Lane.INGEST and self._narrow[Lane.INGEST] > 0
        if is_wide:
            return lane if goes_ahead or self._is_alone(lane, now) else None
        if goes_ahead and self._lanes[Lane.INGEST].by_age:
            lane = Lane.INGEST
        elif goes_ahead or self._is_alone(lane, now):
            return None
        return lane if self._has_core(lane) else None

    def take_batch(self, now: float, *, is_wide: bool) -> list[Item]:
        """Give the texts to run next, all of one lane; empty when nothing is ready.

        Call `release` when they have run.
        """
        while (turn := self.next_lane(now, is_wide=is_wide)) is not None:
            lane = self._lanes[turn]
            chosen = self._choose(lane, lane.longest_of_oldest(), self._budget(lane))
            lane.remove(chosen)
            batch = [item for item in chosen if not self._is_late(item.job, now)]
            if batch:
                self._count_running(turn, 1, is_wide=is_wide)
                if not is_wide:
                    self._running_tokens += self._cost(batch)
                    self._left_tokens += self._cost(batch)
                return batch
        return []

    def release(self, batch: Sequence[Item], *, is_wide: bool) -> None:
        """Take back the cores of a batch that has run."""
        lane = batch[0].job.lane
        self._count_running(lane, -1, is_wide=is_wide)
        if not is_wide:
            self._running_tokens -= self._cost(batch)
            self._left_tokens = self._running_tokens / 2  # who knows when they began
        self._account(lane, batch)

    def finish(self, batch: Sequence[Item], answers: Sequence[Answer]) -> None:
        """Take the answers of a batch, one for each text. Ends the jobs that are whole.

        Answers of jobs that ended meanwhile are dropped.
        """
        for item, answer in zip(batch, answers, strict=True):
            job = item.job
            if job.is_over:
                continue
            job.answers[item.index] = answer
            job.tokens += len(item.encoded.ids)
            if item.encoded.is_truncated:
                job.cut.append(item.index)
            if job.lane is not Lane.CHECK:
                self.tally.inference_count += 1
            job.left -= 1
            self._lanes[job.lane].texts -= 1
            if job.left == 0:
                job.cut.sort()
                self._end(job)
                job.ended(None)

    def _turn(self) -> Lane | None:
        """Tell which lane is next, None when nothing is ready or all has to wait for an ingest."""
        if self._lanes[Lane.CHECK].by_age:
            return Lane.CHECK
        search = bool(self._lanes[Lane.SEARCH].by_age)
        ingest = bool(self._lanes[Lane.INGEST].by_age)
        is_owed = self._ingest_credit >= self._ladder.wide_budget
        if search and not (is_owed and (ingest or self._narrow[Lane.INGEST])):
            return Lane.SEARCH
        return Lane.INGEST if ingest else None

    def _is_alone(self, lane: Lane, now: float) -> bool:
        """Tell whether all that is there is a small batch of `lane` that holds up no search."""
        ready = self._lanes[lane].by_length
        return (
            not any(self._narrow.values())
            and not any(self._wide.values())
            and len(ready) == sum(len(one.by_length) for one in self._lanes.values())
            and self._ladder.is_wide(len(ready), len(ready[-1].encoded.ids))
            and not (lane is Lane.INGEST and now - self._searched_at < self._limits.calm_s)
        )

    def _count_running(self, lane: Lane, more: int, *, is_wide: bool) -> None:
        running = self._wide if is_wide else self._narrow
        running[lane] += more

    def _has_core(self, lane: Lane) -> bool:
        """Tell whether one is left for a narrow batch; ingest needs none beside wide searches."""
        wide = self._wide[lane] if lane is Lane.INGEST else sum(self._wide.values())
        return sum(self._narrow.values()) + self._threads * wide < self.cores

    def _choose(self, lane: _Waiting, first: Item, budget: int) -> list[Item]:
        """Give a text and its neighbours in length: as many as `budget` covers, if they are alike.

        They are padded to the longest, which must not take longer than another batch would.
        """
        ordered = lane.by_length
        low = bisect_left(ordered, first.key, key=_key)
        high = low + 1
        length = len(first.encoded.ids)
        alone = self._ladder.tokens(1, length)
        while high - low < self._ladder.rows[-1]:
            shorter = len(ordered[low - 1].encoded.ids) if low else None
            longer = len(ordered[high].encoded.ids) if high < len(ordered) else None
            joined = None
            if longer is not None and (shorter is None or longer - length <= length - shorter):
                joined = self._joined(high - low, alone, longer, longer, budget)
                high += joined is not None
            if shorter is not None and joined is None:
                longest = len(ordered[high - 1].encoded.ids)
                joined = self._joined(high - low, alone, shorter, longest, budget)
                low -= joined is not None
            if joined is None:
                break
            alone = joined
        return ordered[low:high]

    def _joined(self, rows: int, alone: int, length: int, longest: int, budget: int) -> int | None:
        """Give what `rows` texts and another one take in batches of their own, None if they must.

        alone: what those took. length, longest: of the other one, and then of all.
        """
        alone += self._ladder.tokens(1, length)
        padding = (rows + 1) * self._ladder.tokens(1, longest) - alone
        fits = self._ladder.tokens(rows + 1, longest) <= budget
        return alone if fits and padding <= self._ladder.most_padding else None

    def _budget(self, lane: _Waiting) -> int:
        """Give how many padded tokens a batch may have: a share, so that cores end together."""
        share = _SLACK * (lane.ready_tokens + self._left_tokens) / self.cores
        return min(self._ladder.budget, max(self._ladder.wide_budget, int(share)))

    def _cost(self, batch: Sequence[Item]) -> int:
        """Count padded tokens."""
        return self._ladder.tokens(len(batch), _longest(batch))

    def _account(self, turn: Lane, batch: Sequence[Item]) -> None:
        """Count a batch that ran, and what search owes to ingest after it."""
        cost = self._cost(batch)
        self.tally.batches += 1
        self.tally.tokens += sum(len(item.encoded.ids) for item in batch)
        self.tally.padded_tokens += cost
        share = self._limits.ingest_share
        if turn is Lane.INGEST:
            is_due = bool(self._lanes[Lane.SEARCH].by_age)
            self._ingest_credit -= cost if is_due else min(cost, max(0.0, self._ingest_credit))
        elif not self._lanes[Lane.INGEST].texts:
            self._ingest_credit = 0.0
        elif turn is Lane.SEARCH:
            self._ingest_credit += cost * share / (1 - share)

    def _is_late(self, job: Job, now: float) -> bool:
        """Tell whether nobody waits for `job` any more, and end it if its time is over."""
        if job.is_over:
            return True
        if job.deadline > now:
            return False
        self.tally.timeout_count += job.left
        self._end(job)
        job.ended(DeadlineExceeded("the time of the request ended in the queue"))
        return True

    def _end(self, job: Job) -> None:
        """Take a job out of its lane, with all that waits of it."""
        job.is_over = True
        lane = self._lanes[job.lane]
        lane.jobs.pop(job, None)
        lane.texts -= job.left
        lane.characters -= job.characters
        if job.left:
            lane.remove([item for item in lane.by_age if item.job is job])


def _longest(batch: Sequence[Item]) -> int:
    return max(len(item.encoded.ids) for item in batch)


def _key(item: Item) -> tuple[int, int]:
    return item.key
