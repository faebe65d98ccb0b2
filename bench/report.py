"""Figures as tables: medians of alternating runs, ratios, and what they are held against."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from bench.load import Load


@dataclass(frozen=True)
class Plan:
    """How a run is made. rounds: alternating runs per candidate, of `seconds` each."""

    seconds: float
    rounds: int
    stored: tuple[int, ...]
    folder: Path


@dataclass(frozen=True)
class Row:
    """One figure. ratio: to the yardstick; floor and goal: what the ratio is held against.

    is_better_below: a ratio of times or sizes, which must stay below.
    """

    what: str
    figure: str
    ratio: float | None = None
    floor: float | None = None
    goal: float | None = None
    is_better_below: bool = False

    @property
    def verdict(self) -> str:
        """Tell how the figure stands to its floor and goal."""
        if self.ratio is None or self.floor is None or self.goal is None:
            return ""
        sign = -1 if self.is_better_below else 1
        if sign * self.ratio >= sign * self.goal:
            return "goal"
        return "floor" if sign * self.ratio >= sign * self.floor else "MISSED"


@dataclass
class Table:
    """Figures that belong together."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, figure: str, **held: float | bool | None) -> None:
        """Add a figure."""
        self.rows.append(Row(what, figure, **held))  # type: ignore[arg-type]

    def show(self) -> None:
        """Print the table as Markdown."""
        print(f"\n### {self.title}\n")
        print("| what | figure | ratio | floor | goal | verdict |")
        print("|---|---|---|---|---|---|")
        for row in self.rows:
            held = (_short(row.ratio), _short(row.floor), _short(row.goal))
            print(f"| {row.what} | {row.figure} | {' | '.join(held)} | {row.verdict} |")


def alternate(
    candidates: Mapping[str, Callable[[], Load]], *, rounds: int
) -> dict[str, list[Load]]:
    """Run the candidates in turn, `rounds` times, after one that warms them up."""
    for run in candidates.values():
        run()
    loads: dict[str, list[Load]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            loads[name].append(run())
    return loads


def middle(loads: Sequence[Load]) -> Load:
    """Give the medians of several runs."""
    return Load(
        per_second=median(load.per_second for load in loads),
        p50_ms=median(load.p50_ms for load in loads),
        p99_ms=median(load.p99_ms for load in loads),
        bad=sum(load.bad for load in loads),
        cpu_us=median(load.cpu_us for load in loads),
    )


def shown(load: Load) -> str:
    """Write a figure of load."""
    times = f"p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms"
    return f"{load.per_second:,.0f}/s, {times}, {load.cpu_us:,.0f} µs of CPU"


def save(tables: Sequence[Table], path: Path) -> None:
    """Write all figures as JSON."""
    path.write_text(json.dumps([asdict(table) for table in tables], indent=2))


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
