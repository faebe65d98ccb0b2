"""The threads of a worker: some tokenize, and one per core runs batches under leases of cores.

A core takes work as soon as it has none; while nothing waits, it warms the model. A small batch
that finds everything at rest runs on all cores of an allocation at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from inferry.deployment_stats import WorkerStats
from inferry.engine.batching import Batcher, Limits
from inferry.engine.jobs import Item, Job, Lane, Piece
from inferry.engine.leases import Leases, Lender
from inferry.errors import BadRequest, Conflict, InternalError
from inferry.modeling import TextModel
from inferry.telemetry import get_logger

_TOKENIZED = (None, Lane.INGEST)
"""From which lane on each thread that tokenizes leaves texts to the other: however long those of an
ingest are, there is one that has time for the next search."""
_REST_S = 0.05
"""How long nothing must have come before the model is warmed."""

_Work: TypeAlias = tuple[Lane | None, Callable[[], None]]


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
        self._batcher = Batcher(model.ladder, limits or Limits())
        self._leases = Leases(lender)
        self._streams = streams
        self._threads = threads
        self._lock = threading.Lock()
        self._texts_came = threading.Condition(self._lock)
        self._tokens_came = threading.Condition(self._lock)
        self._scaled = threading.Condition(self._lock)
        self._warmings: list[threading.Event] = []  # which end the warming of a core
        self._is_stopped = False
        self._cold = set(range(streams * threads))  # cores whose shapes have not all run
        self._is_wide_warm = threads == 1
        self._resting = 0  # cores that wait for something to do
        self._busy_s = 0.0
        self._succeeded_at = 0.0
        self.scale(allocations)

    def start(self) -> None:
        """Start the threads. They end with the process, or a batch after `stop`."""
        for before in _TOKENIZED:
            threading.Thread(
                target=self._tokenize, args=(before,), name="tokenize", daemon=True
            ).start()
        for number in range(self._streams * self._threads):
            threading.Thread(target=self._run, args=(number,), name="core", daemon=True).start()

    def stop(self) -> None:
        """Take no more work; what runs is finished."""
        with self._lock:
            self._is_stopped = True
            self._stop_warming()
            for condition in (self._texts_came, self._tokens_came, self._scaled):
                condition.notify_all()

    def scale(self, allocations: int) -> None:
        """Use the cores of so many allocations, as far as there are streams."""
        with self._lock:
            self._allocations = min(allocations, self._streams)
            self._batcher.cores = self._allocations * self._threads
            self._tokens_came.notify_all()
            self._scaled.notify_all()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises `QueueFull`."""
        with self._lock:
            self._batcher.put(job, time.monotonic())
            self._stop_warming()
            # A core that rests is quicker than a thread that tokenizes ahead.
            wakes_core = self._resting and job.is_brief
            if wakes_core:
                self._tokens_came.notify()
            else:
                self._texts_came.notify_all()
        self._leases.hurry(job.lane)

    def abandon(self, job: Job) -> None:
        """Drop a job that nobody waits for any more."""
        with self._lock:
            self._batcher.abandon(job)
            self._texts_came.notify_all()

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
                is_warm=not self._cold and self._is_wide_warm,
            )

    def has_run_since(self, moment: float) -> bool:
        """Tell whether a batch has succeeded since then, on the monotonic clock."""
        return self._succeeded_at >= moment

    # --- threads -----------------------------------------------------------------------------

    def _tokenize(self, before: Lane | None) -> None:
        while (piece := self._next_piece(before)) is not None:
            self._encode(piece)

    def _encode(self, piece: Piece) -> None:
        job = piece.job
        try:
            encoded = self._model.encode(piece.texts, job.input_type, job.query, job.config)
        except BaseException as error:  # noqa: BLE001  a thread that ends ends the service
            self._fail(job, error)
            return
        with self._lock:
            self._batcher.add_encoded(piece, encoded)
            self._tokens_came.notify()

    def _next_piece(self, before: Lane | None) -> Piece | None:
        """Wait for texts; None when there will be no more."""
        with self._lock:
            while not self._is_stopped:
                piece = self._batcher.take_texts(time.monotonic(), before=before)
                if piece is not None:
                    self._texts_came.notify_all()  # there may be more, for another thread
                    return piece
                self._texts_came.wait()
        return None

    def _run(self, number: int) -> None:
        while (work := self._next_work(number)) is not None:
            lane, do = work
            if lane is None:
                do()
                continue
            self._leases.acquire(lane)
            try:
                do()
            finally:
                self._leases.release()

    def _next_work(self, number: int) -> _Work | None:
        """Wait for something to do, and tell for which lane a lease is needed, if one is.

        None when there will be no more.
        """
        with self._lock:
            while not self._is_stopped:
                if number >= self._batcher.cores:
                    self._scaled.wait()
                    continue
                now = time.monotonic()
                lane = self._batcher.next_lane(now)
                piece = self._batcher.take_texts(now, is_brief=True, before=lane)
                if piece is not None:
                    self._texts_came.notify_all()  # there may be more, for another thread
                    return None, partial(self._encode, piece)
                if lane is not None:
                    return lane, self._run_next
                is_cold = self._is_cold(number)
                if not self._rest(_REST_S if is_cold else None) and is_cold:
                    self._warmings.append(stop := threading.Event())
                    return Lane.INGEST, partial(self._warm, number, stop)
        return None

    def _is_cold(self, number: int) -> bool:
        """Tell whether a core has shapes to run; the first one those of wide batches at last."""
        is_last = number == 0 and self._cold.isdisjoint(range(self._batcher.cores))
        return number in self._cold or (is_last and not self._is_wide_warm)

    def _rest(self, at_most_s: float | None) -> bool:
        """Wait for tokens or texts; false when neither came and nothing waits."""
        self._resting += 1
        came = self._tokens_came.wait(at_most_s)
        self._resting -= 1
        return came or self._batcher.waiting > 0

    def _run_next(self) -> None:
        started = time.monotonic()
        with self._lock:
            batch = self._batcher.take_batch(started)
            self._texts_came.notify_all()
            if self._batcher.next_lane(started) is not None:
                self._tokens_came.notify()
            is_wide = bool(batch) and self._batcher.may_be_wide(batch, started)
        if not batch:
            return
        others = self._threads - 1
        is_wide = is_wide and others > 0 and self._leases.acquire_more(others)
        try:
            self._run_batch(batch, is_wide=is_wide)
        finally:
            if is_wide:
                self._leases.release(others)
            with self._lock:
                self._batcher.release(batch)
                taken_s = time.monotonic() - started
                self._busy_s += taken_s if is_wide else taken_s / self._threads

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

    def _warm(self, number: int, stop: threading.Event) -> None:
        """Run the shapes of a core, or those of wide batches when it has run its own."""
        is_wide = number not in self._cold
        others = self._threads - 1 if is_wide else 0
        # Where somebody else needs the cores, or it fails, wide batches begin cold.
        is_done = True
        try:
            if not others or self._leases.acquire_more(others):
                try:
                    self._model.warm(stop, is_wide=is_wide)
                    is_done = not stop.is_set()
                finally:
                    self._leases.release(others)
        except Exception as error:  # noqa: BLE001  it runs cold then
            get_logger().error("the model could not be warmed", exc_info=error)
        with self._lock:
            self._warmings.remove(stop)
            if is_done and is_wide:
                self._is_wide_warm = True
            elif is_done:
                self._cold.discard(number)
                self._tokens_came.notify_all()  # whoever rests may warm what is left

    def _stop_warming(self) -> None:
        """Let whoever warms go on to what came."""
        for stop in self._warmings:
            stop.set()
