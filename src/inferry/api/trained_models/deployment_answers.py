"""Deployments as `_start`, `_update` and `_stats` show them.

Source: Elasticsearch API specification, `ml.start_trained_model_deployment` and
`ml.get_trained_models_stats`. `inferry_arithmetic` is ours.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from inferry.deployment_stats import DeploymentStats
from inferry.domain import Json
from inferry.records import DeploymentRecord

_BASE_BYTES: Final = 240 * 1024 * 1024
"""What upstream adds to the memory of every model for the process around it."""


class Assignment(msgspec.Struct, frozen=True):
    """A deployment as `_start` and `_update` show it."""

    task_parameters: dict[str, Any]
    routing_table: dict[str, Any]
    assignment_state: str
    start_time: str
    max_assigned_allocations: int
    adaptive_allocations: dict[str, Any] | None


class AssignmentAnswer(msgspec.Struct, frozen=True):
    """The answer of `_start` and `_update`."""

    assignment: Assignment


class StatsItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model, and one of its deployments if it has any."""

    model_id: str
    model_size_stats: dict[str, int]
    pipeline_count: int
    inference_stats: dict[str, int] | None = None
    deployment_stats: dict[str, Any] | None = None


class StatsAnswer(msgspec.Struct, frozen=True):
    """The answer of `_stats`. count: of all that fit."""

    count: int
    trained_model_stats: list[StatsItem]


class Memory(msgspec.Struct, frozen=True):
    """What a model takes, in bytes. The last two are what its uploader says, 0 without a word."""

    model_bytes: int = 0
    per_deployment_memory_bytes: int = 0
    per_allocation_memory_bytes: int = 0

    def sizes(self, allocations: int = 1) -> dict[str, int]:
        """Show how large a model is, and estimate what so many allocations of it take."""
        needed = self.per_deployment_memory_bytes + self.per_allocation_memory_bytes * allocations
        return {
            "model_size_bytes": self.model_bytes,
            "required_native_memory_bytes": _BASE_BYTES + (needed or 2 * self.model_bytes),
        }


def assignment_of(record: DeploymentRecord, memory: Memory, node: str) -> AssignmentAnswer:
    """Show a deployment after a verb. node: what this host is called."""
    spec = record.spec
    routing = {
        "current_allocations": _current(record),
        "target_allocations": spec.num_allocations,
        "routing_state": record.state,
        "reason": record.reason or "",
    }
    started = datetime.fromtimestamp((record.started_at_ms or 0) / 1000, UTC)
    shown = Assignment(
        task_parameters={
            "model_id": spec.model_id,
            "deployment_id": spec.deployment_id,
            "model_bytes": memory.model_bytes,
            "threads_per_allocation": spec.num_threads,
            "number_of_allocations": spec.num_allocations,
            "queue_capacity": spec.queue_capacity,
            "cache_size": _cache_size(record, memory),
            "priority": spec.priority,
            "per_deployment_memory_bytes": memory.per_deployment_memory_bytes,
            "per_allocation_memory_bytes": memory.per_allocation_memory_bytes,
        },
        routing_table={node: routing},
        assignment_state=record.state,
        start_time=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        max_assigned_allocations=spec.num_allocations,
        adaptive_allocations=spec.adaptive_allocations,
    )
    return AssignmentAnswer(shown)


def stats_row(stats: DeploymentStats, model_id: str, memory: Memory, node: str) -> StatsItem:
    """Show what a deployment has done. model_id: that its model is listed under."""
    record, totals = stats.deployment, stats.totals
    spec = record.spec
    shown: dict[str, Json] = {
        "deployment_id": spec.deployment_id,
        "model_id": spec.model_id,
        "threads_per_allocation": spec.num_threads,
        "number_of_allocations": spec.num_allocations,
        **({"adaptive_allocations": adaptive} if (adaptive := spec.adaptive_allocations) else {}),
        "queue_capacity": spec.queue_capacity,
        "cache_size": _cache_size(record, memory),
        "priority": spec.priority,
        "state": record.state,
        **({"reason": reason} if (reason := record.reason or record.progress) else {}),
        "allocation_status": _allocation_status(record),
        "start_time": record.started_at_ms or 0,
        "inference_count": totals.inference_count,
        "error_count": totals.error_count,
        "timeout_count": totals.timeout_count,
        "rejected_execution_count": totals.rejected_execution_count,
        "peak_throughput_per_minute": totals.peak_throughput_per_minute,
        "nodes": [_node(stats, node)] if stats.worker is not None else [],
        **({"inferry_arithmetic": arithmetic} if (arithmetic := _arithmetic(record)) else {}),
    }
    inference = {
        "failure_count": totals.error_count,
        "inference_count": totals.inference_count,
        "cache_miss_count": 0,
        "missing_all_fields_count": 0,
        "timestamp": totals.last_access_ms or record.started_at_ms or 0,
    }
    return StatsItem(model_id, memory.sizes(spec.num_allocations), 0, inference, shown)


def _node(stats: DeploymentStats, node: str) -> dict[str, Json]:
    """Show what this host has done for a deployment. number_of_allocations: that run at once."""
    record, totals, worker = stats.deployment, stats.totals, stats.worker
    assert worker is not None
    shown: dict[str, Json] = {
        "node": {node: {"name": node}},
        "routing_state": {"routing_state": record.state},
        "inference_count": totals.inference_count,
        "average_inference_time_ms": _mean_ms(totals.busy_s, totals.inference_count),
        "average_inference_time_ms_last_minute": _mean_ms(
            totals.busy_last_minute_s, totals.throughput_last_minute
        ),
        "number_of_pending_requests": worker.number_of_pending_requests,
        "last_access": totals.last_access_ms,
        "start_time": record.started_at_ms,
        "threads_per_allocation": record.spec.num_threads,
        "number_of_allocations": worker.slots,
        "throughput_last_minute": totals.throughput_last_minute,
        "inference_cache_hit_count": 0,
        "peak_throughput_per_minute": totals.peak_throughput_per_minute,
        "error_count": totals.error_count,
        "rejected_execution_count": totals.rejected_execution_count,
        "timeout_count": totals.timeout_count,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _arithmetic(record: DeploymentRecord) -> dict[str, Json]:
    """Show how the model computes and how close to f32 that is; nothing before it is loaded."""
    arithmetic = record.arithmetic
    if arithmetic is None:
        return {}
    return {
        "precision": arithmetic.precision,
        **({"exact_sums": True} if arithmetic.has_exact_sums else {}),
        **({} if record.cosine is None else {"cosine": record.cosine}),
    }


def _mean_ms(busy_s: float, count: int) -> float | None:
    return busy_s * 1000 / count if count else None


def _allocation_status(record: DeploymentRecord) -> dict[str, Json]:
    """Show how many allocations run, of those that shall. A model that runs here runs fully."""
    return {
        "allocation_count": _current(record),
        "target_allocation_count": record.spec.num_allocations,
        "state": "fully_allocated" if record.state == "started" else "starting",
    }


def _current(record: DeploymentRecord) -> int:
    return record.spec.num_allocations if record.state == "started" else 0


def _cache_size(record: DeploymentRecord, memory: Memory) -> str:
    return record.spec.cache_size or f"{memory.model_bytes}b"
