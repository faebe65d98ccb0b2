"""How long requests to our server take: alone, many at a time, and while others ingest."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from statistics import median

from bench.embedding.candidates import Served, demo, ours, warmed
from bench.embedding.client import Drive, Target, drive
from bench.embedding.corpora import Corpus, query_of
from bench.embedding.folders import MODELS
from bench.processes import ROOT
from bench.report import Plan, Table

_QUERY_TOKENS = 16
_QUERIES = 300
_PAUSE_S = 0.01
_MANY = 32
_TIMES, _TURNS = 4, 5  # how often texts come in a run of clients, and runs in a round


def measure_latency(plan: Plan) -> list[Table]:
    """Time single queries, beside the runtime alone."""
    table = Table(f"One query of {_QUERY_TOKENS} tokens at a time; ratio: ms added to the runtime")
    with ours(plan.folder / "latency", precision="auto") as server:
        query = query_of(_QUERY_TOKENS)
        bodies = server.bodies([query], 1) * _QUERIES
        warmed(server, [query])  # by now it rests while the runtime is timed
        alone, bare = [], []
        for _ in range(plan.rounds):
            bare.append(_bare_ms())
            alone.append(drive(server.target, bodies, connections=1).percentile(0.5))
    added = median(alone) - median(bare)
    table.add("runtime in a process, p50", f"{median(bare):.2f} ms")
    figure = f"{median(alone):.2f} ms"
    table.add(
        "inferry over HTTP, p50", figure, ratio=added, floor=0.8, goal=0.5, is_better_below=True
    )
    return [table]


def measure_clients(corpus: Corpus, plan: Plan) -> list[Table]:
    """Compare many clients with one text each to one client with as many texts."""
    texts = [*corpus.texts] * _TIMES
    table = Table(f"{_MANY} texts of {len(texts)} short ones at a time; ratio: to one client")
    with ours(plan.folder / "clients", precision="auto") as server:
        ways = {"one client, 32 texts a request": (_MANY, 1), "32 clients, one text": (1, _MANY)}
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        warmed(server, corpus.texts)
        for _ in range(_TURNS * plan.rounds):
            for way, (each, connections) in ways.items():
                took = server.drive(texts, each=each, connections=connections).seconds
                speeds[way].append(len(texts) / took)
    one, many = speeds.values()
    turns = [some / alone for alone, some in zip(one, many, strict=True)]
    table.add("one client, 32 texts a request", f"{median(one):,.0f} texts/s")
    figure = f"{median(many):,.0f} texts/s, {min(turns):.2f} to {max(turns):.2f}"
    table.add("32 clients, one text", figure, ratio=median(turns), floor=0.9, goal=1.0)
    return [table]


def measure_search(corpora: dict[str, Corpus], plan: Plan) -> list[Table]:
    """Time queries that come at a steady pace, with and without others that ingest all they can."""
    table = Table(
        f"Queries of {_QUERY_TOKENS} tokens, one every {_PAUSE_S * 1e3:.0f} ms and more, while"
        " 4 clients ingest; ratio: p99 to that of an idle server"
    )
    with demo(plan.folder / "demo") as server:
        for name, corpus in corpora.items():
            _compare(table, server, f"ingest of {name} texts", corpus, is_held=True)
    with ours(plan.folder / "search", precision="auto") as server:
        _compare(table, server, "512 tokens, ingest of long texts", corpora["long"], is_held=False)
    return [table]


def _compare(table: Table, server: Served, what: str, corpus: Corpus, *, is_held: bool) -> None:
    """Search an idle server, and one that ingests a corpus."""
    warmed(server, corpus.texts)
    idle = _searches(server)
    with _ingesting(server, corpus.texts):
        busy = _searches(server)
    table.add(
        what,
        f"{_shown(busy)}; idle {_shown(idle)}",
        ratio=busy.percentile(0.99) / idle.percentile(0.99),
        floor=3.0 if is_held else None,
        goal=2.0 if is_held else None,
        is_better_below=True,
    )


def _searches(server: Served) -> Drive:
    bodies = server.bodies([query_of(_QUERY_TOKENS)], 1, input_type="search") * _QUERIES
    return drive(server.target, bodies, connections=1, pause_s=_PAUSE_S)


@contextmanager
def _ingesting(server: Served, texts: Sequence[str]) -> Iterator[None]:
    """Keep ingesting from another process until the block ends."""
    bodies = server.bodies(texts, _MANY, input_type="ingest")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_ingest, args=(server.target, bodies), daemon=True)
    process.start()
    drive(server.target, bodies, connections=1)  # by then the other one is at work
    try:
        yield
        assert process.is_alive(), "the ingest ended before the searches"
    finally:
        process.kill()
        process.join()


def _ingest(target: Target, bodies: Sequence[bytes]) -> None:
    drive(target, cycle(bodies), connections=4)


def _bare_ms() -> float:
    command = [sys.executable, "-m", "bench.embedding.bare", str(MODELS / "source"), "auto"]
    told = subprocess.run(
        [*command, str(_QUERY_TOKENS)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return float(told.stdout)


def _shown(found: Drive) -> str:
    return f"p50 {found.percentile(0.5):.1f} ms, p99 {found.percentile(0.99):.1f} ms"
