"""A `Limiter` that remembers who asked and says how long they waited."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferry.domain import Deadline


@dataclass
class Permits:
    """asked: group and limit of every permit. waits_s: what callers are told, then nothing."""

    asked: list[tuple[str, float]] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)

    async def acquire(self, group: str, requests_per_minute: float, *, deadline: Deadline) -> float:
        """Give a permit at once."""
        self.asked.append((group, requests_per_minute))
        return self.waits_s.pop(0) if self.waits_s else 0.0
