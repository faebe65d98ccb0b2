"""The threads of a worker: some tokenize, others run batches under leases of cores.

One per core runs narrow batches, and one per allocation wide ones, for which the kernel stops the
narrow ones in the middle. Each takes work as soon as it has none; while nothing waits, the model is
warmed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from inferry.deployment_stats import WorkerStats
from inferry.engine.batching import Batcher, Limits
from inferry.engine.jobs import Item, Job, Lane, Piece
from inferry.engine.leases import Leases, Lender
from inferry.errors import BadRequest, Conflict, InternalError
from inferry.modeling import TextModel
from inferry.priorities import give_way
from inferry.telemetry import get_logger

_LANES = tuple(Lane)
_TOKENIZED_FOR = MappingProxyType({Lane.SEARCH: _LANES[: Lane.INGEST], Lane.INGEST: (Lane.INGEST,)})
"""The lanes of either thread that tokenizes, by the last of them."""
_REST_S = 0.05
"""How long nothing must have come before the model is warmed."""
_PATIENCE_S = 0.1
"""How long its cores are waited for then."""

_Work: TypeAlias = Callable[[], None]


class Slots:
    """Runs jobs on `model`. Use from any thread.

    streams: allocations that there may be, of `threads` cores each; allocations: how many there
    are.
    """

    def __init__(
        self,
        model: TextModel,
        lender: Lender,
        *,
        streams: int,
        allocations: int,
        threads: int = 1,
        limits: Limits | None = None,
    ) -> None:
        self._model = model
        self._batcher = Batcher(model.ladder, limits or Limits(), threads=threads)
        self._leases = Leases(lender, streams * threads)
        self._streams = streams
        self._threads = threads
        self._lock = threading.Lock()
        self._texts_came = {lane: threading.Condition(self._lock) for lane in _TOKENIZED_FOR}
        self._came = {is_wide: threading.Condition(self._lock) for is_wide in (False, True)}
        self._scaled = threading.Condition(self._lock)
        self._warmings: list[threading.Event] = []  # which end the warming of an allocation
        self._is_stopped = False
        self._cold = set(range(streams))  # those whose shapes have not all run
        self._resting = 0  # threads for wide batches that wait for something to do
        self._busy_s = 0.0
        self._succeeded_at = 0.0
        self.scale(allocations)

    def start(self) -> None:
        """Start the threads. They end with the process, or a batch after `stop`."""
        works = [
            *(partial(self._tokenize, last) for last in _TOKENIZED_FOR),
            *(partial(self._run, number, is_wide=True) for number in range(self._streams)),
            *(
                partial(self._run, number, is_wide=False)
                for number in range(self._streams * self._threads)
            ),
        ]
        for work in works:
            threading.Thread(target=work, daemon=True).start()

    def stop(self) -> None:
        """Take no more work; what runs is finished."""
        with self._lock:
            self._is_stopped = True
            self._stop_warming()
            conditions = (*self._texts_came.values(), *self._came.values(), self._scaled)
            for condition in conditions:
                condition.notify_all()

    def scale(self, allocations: int) -> None:
        """Use the cores of so many allocations, as far as there are streams."""
        with self._lock:
            self._allocations = min(allocations, self._streams)
            self._batcher.cores = self._allocations * self._threads
            for condition in (*self._came.values(), self._scaled):
                condition.notify_all()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises `QueueFull`."""
        with self._lock:
            self._batcher.put(job, time.monotonic())
            self._stop_warming()
            # A thread that would run it, and rests, is quicker than one that tokenizes ahead.
            if self._resting and job.is_brief:
                self._came[True].notify()
            else:
                self._wake_tokenizers()
        self._leases.hurry(job.lane)

    def abandon(self, job: Job) -> None:
        """Drop a job that nobody waits for any more."""
        with self._lock:
            if job.is_over:
                return
            self._batcher.abandon(job)
            self._wake_tokenizers()
            self._wake()

    def granted(self) -> None:
        """Take a lease that was asked for."""
        self._leases.granted()

    def recall(self, lane: Lane) -> None:
        """Give a lease back after the batch that runs, for somebody's work of `lane`."""
        self._leases.recall()
        with self._lock:
            if lane is Lane.SEARCH:
                self._batcher.note_search(time.monotonic())
            self._stop_warming()

    def stats(self) -> WorkerStats:
        """Tell what was done so far, and what waits."""
        with self._lock:
            tally = self._batcher.tally
            return WorkerStats(
                slots=self._allocations,
                number_of_pending_requests=self._batcher.waiting,
                inference_count=tally.inference_count,
                error_count=tally.error_count,
                timeout_count=tally.timeout_count,
                rejected_execution_count=tally.rejected_count,
                abandoned_count=tally.abandoned_count,
                batches=tally.batches,
                tokens=tally.tokens,
                padded_tokens=tally.padded_tokens,
                busy_s=self._busy_s,
                is_warm=not self._cold,
            )

    def has_run_since(self, moment: float) -> bool:
        """Tell whether a batch has succeeded since then, on the monotonic clock."""
        return self._succeeded_at >= moment

    # --- threads -----------------------------------------------------------------------------

    def _tokenize(self, last: Lane) -> None:
        if last is Lane.INGEST:
            give_way()
        while (piece := self._next_piece(last)) is not None:
            self._encode(piece)

    def _wake_tokenizers(self) -> None:
        """Wake the threads that tokenize and have something to do."""
        for last, came in self._texts_came.items():
            if any(map(self._batcher.has_texts, _TOKENIZED_FOR[last])):
                came.notify()

    def _encode(self, piece: Piece) -> None:
        job = piece.job
        try:
            encoded = self._model.encode(piece.texts, job.input_type, job.query, job.config)
        except BaseException as error:  # noqa: BLE001  a thread that ends ends the service
            self._fail(job, error)
            return
        with self._lock:
            self._batcher.add_encoded(piece, encoded)
            self._wake()

    def _next_piece(self, last: Lane) -> Piece | None:
        """Wait for texts; None when there will be no more."""
        with self._lock:
            while not self._is_stopped:
                piece = self._batcher.take_texts(time.monotonic(), _TOKENIZED_FOR[last])
                if piece is not None:
                    return piece
                self._texts_came[last].wait()
        return None

    def _run(self, number: int, *, is_wide: bool) -> None:
        while (work := self._next_work(number, is_wide=is_wide)) is not None:
            work()

    def _next_work(self, number: int, *, is_wide: bool) -> _Work | None:
        """Wait for something to do; None when there will be no more."""
        with self._lock:
            while not self._is_stopped:
                if number >= (self._allocations if is_wide else self._batcher.cores):
                    self._scaled.wait()
                    continue
                now = time.monotonic()
                lane = self._batcher.next_lane(now, is_wide=is_wide)
                texts = _LANES[:lane] if is_wide else _LANES[Lane.INGEST : lane]
                piece = self._batcher.take_texts(now, texts, is_brief=True)
                if piece is not None:
                    self._wake_tokenizers()  # there may be more
                    return partial(self._encode, piece)
                if lane is not None:
                    return partial(self._run_next, lane, is_wide=is_wide)
                self._wake()  # time passes: what was for this thread may now be for another
                is_cold = is_wide and number in self._cold
                if not self._rest(_REST_S if is_cold else None, is_wide=is_wide) and is_cold:
                    self._warmings.append(stop := threading.Event())
                    return partial(self._warm, number, stop)
        return None

    def _wake(self) -> None:
        """Wake a thread for either kind of batch, if one may run now."""
        now = time.monotonic()
        for is_wide, came in self._came.items():
            if self._batcher.next_lane(now, is_wide=is_wide) is not None:
                came.notify()

    def _rest(self, at_most_s: float | None, *, is_wide: bool) -> bool:
        """Wait for tokens or texts; false when neither came and nothing waits."""
        self._resting += is_wide
        came = self._came[is_wide].wait(at_most_s)
        self._resting -= is_wide
        return came or self._batcher.waiting > 0

    def _run_next(self, lane: Lane, *, is_wide: bool) -> None:
        with self._cores_for(lane, is_wide=is_wide) as has_all:
            started = time.monotonic()
            with self._lock:
                batch = self._batcher.take_batch(started, is_wide=is_wide)
                self._wake_tokenizers()
                self._wake()
            if not batch:
                return
            try:
                self._run_batch(batch, is_wide=has_all)
            finally:
                taken_s = time.monotonic() - started
                with self._lock:
                    self._batcher.release(batch, is_wide=is_wide)
                    self._busy_s += taken_s if has_all else taken_s / self._threads
                    self._wake()

    @contextmanager
    def _cores_for(self, lane: Lane, *, is_wide: bool, patience_s: float = 0.0) -> Iterator[bool]:
        """Hold cores for a batch; tells whether they are all of an allocation, and not one."""
        if is_wide and self._leases.overtake(self._threads, lane, patience_s):
            try:
                yield True
            finally:
                self._leases.fall_back(self._threads)
        else:
            self._leases.acquire(lane)
            try:
                yield False
            finally:
                self._leases.release()

    def _run_batch(self, batch: Sequence[Item], *, is_wide: bool = False) -> None:
        try:
            answers = self._model.run([item.encoded for item in batch], is_wide=is_wide)
            if len(answers) != len(batch):
                raise InternalError("the model gave another number of answers than it got texts")
        except BaseException as error:  # noqa: BLE001  a thread that ends ends the service
            if len(batch) == 1:
                self._fail(batch[0].job, error)
                return
            for item in batch:  # so that a text that breaks the model breaks no other request
                self._run_batch([item])
            return
        with self._lock:
            self._batcher.finish(batch, answers)
            self._succeeded_at = time.monotonic()

    def _fail(self, job: Job, error: BaseException) -> None:
        """End a job: what the model refuses is its caller's to know, the rest is for the log."""
        if not isinstance(error, BadRequest | Conflict):
            get_logger().error("the model failed on a text", exc_info=error)
            error = InternalError("the model failed on a text of the request")
        with self._lock:
            self._batcher.fail(job, error)
            self._wake()

    def _warm(self, number: int, stop: threading.Event) -> None:
        """Run the shapes of wide batches; they begin cold where somebody else needs the cores."""
        try:
            with self._cores_for(Lane.INGEST, is_wide=True, patience_s=_PATIENCE_S) as has_all:
                if has_all:
                    self._model.warm(stop)
        except Exception as error:  # noqa: BLE001  it runs cold then
            get_logger().error("the model could not be warmed", exc_info=error)
        with self._lock:
            self._warmings.remove(stop)
            if not stop.is_set():
                self._cold.discard(number)

    def _stop_warming(self) -> None:
        """Let whoever warms go on to what came."""
        for stop in self._warmings:
            stop.set()
