"""What deployments have done, as workers count it and as the supervisor tells it on."""

from __future__ import annotations

import msgspec

from inferry.modeling import Protection
from inferry.records import DeploymentRecord


class WorkerStats(msgspec.Struct, frozen=True):
    """What a worker has done since it started; counts are of texts, names those of the wire.

    The engine's own checks do not count. slots: batches that may run at once. busy_s: of all slots
    together.
    """

    slots: int
    number_of_pending_requests: int
    inference_count: int
    error_count: int
    timeout_count: int
    rejected_execution_count: int
    abandoned_count: int
    batches: int
    tokens: int
    padded_tokens: int
    busy_s: float
    is_warm: bool


class Totals(msgspec.Struct, frozen=True):
    """What all workers of a deployment have done, one after the other; counts are of texts.

    busy_s: of all slots together. last_access_ms: since the epoch, None when nothing has run.
    """

    inference_count: int = 0
    error_count: int = 0
    timeout_count: int = 0
    rejected_execution_count: int = 0
    busy_s: float = 0.0
    throughput_last_minute: int = 0
    busy_last_minute_s: float = 0.0
    peak_throughput_per_minute: int = 0
    last_access_ms: int | None = None


class DeploymentStats(msgspec.Struct, frozen=True):
    """What a deployment is doing. worker: None while there is none. protection: of the last one."""

    deployment: DeploymentRecord
    restarts: int
    worker: WorkerStats | None
    protection: Protection
    totals: Totals = Totals()


class HostStats(msgspec.Struct, frozen=True):
    """What this host does with models. downloads: how far those are that come, by their ids."""

    deployments: list[DeploymentStats]
    downloads: dict[str, str] = {}
