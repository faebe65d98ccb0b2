"""Rules of allocations and threads, for endpoints and for deployments alike. Pure."""

from __future__ import annotations

from inferry.domain import Json

MAX_THREADS = 32
BOTH = "[number_of_allocations] cannot be set if adaptive allocations is enabled"


def adaptive_problems(adaptive: Json) -> list[str]:
    """Find bounds of adaptive allocations that are out of range, or contradict each other."""
    if not isinstance(adaptive, dict):
        return []
    low, high = (
        adaptive.get("min_number_of_allocations"),
        adaptive.get("max_number_of_allocations"),
    )
    problems = []
    if isinstance(low, int) and low < 0:
        problems.append("[min_number_of_allocations] must be a non-negative integer or null")
    if isinstance(high, int) and high < 1:
        problems.append("[max_number_of_allocations] must be a positive integer or null")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        problems.append(
            "[min_number_of_allocations] must not be larger than [max_number_of_allocations]"
        )
    return problems


def allocation_problems(wanted: int | None, adaptive: Json) -> list[str]:
    """Find what no deployment can have of allocations."""
    problems = []
    if wanted is not None and is_enabled(adaptive):
        problems.append(BOTH)
    if wanted is not None and wanted < 1:
        problems.append("[number_of_allocations] must be a positive integer")
    return problems + adaptive_problems(adaptive)


def thread_problems(threads: int) -> list[str]:
    """Find what is wrong with the threads of an allocation."""
    if threads < 1:
        return ["[threads_per_allocation] must be a positive integer"]
    if threads > MAX_THREADS or threads & (threads - 1):
        return [
            f"[threads_per_allocation] must be a power of 2 less than or equal to {MAX_THREADS}"
        ]
    return []


def is_enabled(adaptive: Json) -> bool:
    """Tell whether the number of allocations follows the load."""
    return isinstance(adaptive, dict) and adaptive.get("enabled") is True


def with_enabled(adaptive: dict[str, Json]) -> dict[str, Json]:
    """Say of adaptive allocations that say nothing of it that they are off, as they are."""
    bounds = {name: value for name, value in adaptive.items() if value is not None}
    return {"enabled": False, **bounds}
