"""GET of one endpoint and of all, beside a static answer of the same bytes from bare uvicorn."""

from __future__ import annotations

import http.client
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.load import Call, apply_load
from bench.processes import Inferry, cores, free_port, inferry, running
from bench.report import Plan, Table, alternate, middle, shown
from bench.seed import endpoint_id, seed

_ONE, _ALL = 64, 4
"""Connections: many for small answers, few for those of many megabytes."""


@dataclass(frozen=True)
class _Read:
    """A GET that is measured. is_held: there is a floor for it."""

    what: str
    path: str
    connections: int
    is_held: bool = False


def measure_reads(plan: Plan) -> list[Table]:
    """Give the figures of reads and of memory, for each number of stored endpoints."""
    reads = Table("GET, authentication on, beside the same bytes from bare uvicorn")
    memory = Table("Memory (resident), MB")
    weights: dict[int, dict[str, float]] = {}
    for stored in plan.stored:
        data_dir = plan.folder / f"reads-{stored}"
        measured, _ = cores()
        seed(data_dir, stored, core=measured)
        with inferry(data_dir, core=measured) as server:
            weights[stored] = server.memory()
            path = f"/_inference/text_embedding/{endpoint_id(stored // 2)}"
            _compare(reads, _Read(f"one of {stored:,}", path, _ONE, is_held=True), server, plan)
            _compare(reads, _Read(f"all {stored:,}", "/_inference/_all", _ALL), server, plan)
    _weigh(memory, weights)
    return [reads, memory]


def _compare(table: Table, read: _Read, server: Inferry, plan: Plan) -> None:
    _, loading = cores()
    body = fetch(server, read.path)
    keyed = {"Authorization": server.authorization}
    ours = Call(server.port, server.process.pid, read.path, headers=keyed)
    with static(body) as bare:
        load = partial(apply_load, connections=read.connections, seconds=plan.seconds, core=loading)
        loads = alternate(
            {"inferry": lambda: load(ours), "static": lambda: load(bare)},
            rounds=plan.rounds,
        )
    mine, fixed = middle(loads["inferry"]), middle(loads["static"])
    table.add(f"static, {len(body):,} bytes", shown(fixed))
    table.add(
        f"GET {read.what}",
        shown(mine),
        ratio=mine.per_second / fixed.per_second,
        floor=0.60 if read.is_held else None,
        goal=0.85 if read.is_held else None,
    )


def fetch(server: Inferry, path: str) -> bytes:
    """Give the answer of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path, headers={"Authorization": server.authorization})
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(body)
    return body


@contextmanager
def static(body: bytes) -> Iterator[Call]:
    """Serve `body` from bare uvicorn and give the call that fetches it."""
    measured, _ = cores()
    port = free_port()
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "body"
        file.write_bytes(body)
        process = stack.enter_context(
            running(
                uvicorn("bench.static:application", port),
                core=measured,
                port=port,
                environment={"STATIC_FILE": str(file)},
            )
        )
        yield Call(port, process.pid, "/")


def uvicorn(application: str, port: int) -> list[str]:
    """Give the command that serves a yardstick, with uvicorn's fastest parts."""
    command = [sys.executable, "-m", "uvicorn", application, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    return [*command, "--no-access-log", "--log-level", "error", "--lifespan", "off"]


def _weigh(table: Table, weights: dict[int, dict[str, float]]) -> None:
    """Hold the smallest server against the limits, and state the growth to the largest."""
    smallest, largest = min(weights), max(weights)
    limits = {"API process": 75.0, "supervisor": 110.0}
    for name, limit in limits.items():
        for stored in sorted(weights):
            is_held = stored == smallest
            table.add(
                f"{name}, {stored:,} stored",
                f"{weights[stored][name]:.1f}",
                ratio=weights[stored][name] if is_held else None,
                floor=limit if is_held else None,
                goal=limit if is_held else None,
                is_better_below=True,
            )
        if largest > smallest:
            grown = weights[largest][name] - weights[smallest][name]
            per_thousand = grown / (largest - smallest) * 1000
            table.add(f"{name}, growth per 1,000", f"{per_thousand:.2f}")
