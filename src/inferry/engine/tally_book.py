"""The counts of a deployment over all its workers, and over the last minute. Pure: no clock."""

from __future__ import annotations

from collections import deque

from inferry.deployment_stats import Totals, WorkerStats
from inferry.engine.controller import Work

_MINUTE_S = 60.0


class TallyBook:
    """Takes what workers say at each look; counts of one that is gone stay."""

    def __init__(self) -> None:
        self._former = Totals()
        self._worker: WorkerStats | None = None
        self._looks: deque[tuple[float, int, float]] = deque()
        self._last_work: tuple[Totals, int] | None = None
        self._peak = 0
        self._last_access_ms: int | None = None

    def take(self, worker: WorkerStats | None, *, now_s: float, now_ms: int) -> Totals:
        """Note what the worker says now, None without one. now_s: monotonic; now_ms: of day."""
        before = self._summed().inference_count
        if worker is None or (
            self._worker is not None and worker.inference_count < self._worker.inference_count
        ):
            self.close()
        self._worker = worker
        sums = self._summed()
        if sums.inference_count > before:
            self._last_access_ms = now_ms
        while self._looks and self._looks[0][0] < now_s - _MINUTE_S:
            self._looks.popleft()
        self._looks.append((now_s, sums.inference_count, sums.busy_s))
        _, count, busy_s = self._looks[0]
        lately = sums.inference_count - count
        self._peak = max(self._peak, lately)
        return Totals(
            inference_count=sums.inference_count,
            error_count=sums.error_count,
            timeout_count=sums.timeout_count,
            rejected_execution_count=sums.rejected_execution_count,
            busy_s=sums.busy_s,
            throughput_last_minute=lately,
            busy_last_minute_s=sums.busy_s - busy_s,
            peak_throughput_per_minute=self._peak,
            last_access_ms=self._last_access_ms,
        )

    def close(self) -> None:
        """Keep the counts of a worker that is gone."""
        self._former = self._summed()
        self._worker = None

    def work(self) -> Work | None:
        """Give what was done since the last call; None before there is one with a worker.

        So the requests that a start kept waiting are no load: Elasticsearch compares its first
        look at a node with nothing either (`AdaptiveAllocationsScalerService`).
        """
        sums, pending = self._summed(), 0
        if self._worker is not None:
            pending = self._worker.number_of_pending_requests
        elif self._last_work is None:
            return None
        last, self._last_work = self._last_work, (sums, pending)
        if last is None:
            return None
        before, pending_before = last
        succeeded = sums.inference_count - before.inference_count
        failed = _failed(sums) - _failed(before)
        busy_s = sums.busy_s - before.busy_s
        return Work(
            succeeded=succeeded,
            pending=pending - pending_before,
            failed=failed,
            time_s=busy_s / succeeded if succeeded else None,
        )

    def _summed(self) -> Totals:
        worker, former = self._worker, self._former
        if worker is None:
            return former
        return Totals(
            inference_count=former.inference_count + worker.inference_count,
            error_count=former.error_count + worker.error_count,
            timeout_count=former.timeout_count + worker.timeout_count,
            rejected_execution_count=(
                former.rejected_execution_count + worker.rejected_execution_count
            ),
            busy_s=former.busy_s + worker.busy_s,
        )


def _failed(totals: Totals) -> int:
    return totals.error_count + totals.timeout_count + totals.rejected_execution_count
