"""PUT of a new endpoint with few and with many stored: the time of one write, from end to end.

The provider is not probed, so that the figure is the server's own: validation, sealing, the
transaction, and its way to the API process.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import ExitStack
from statistics import median, quantiles

from bench.processes import Inferry, cores, inferry
from bench.report import Plan, Table
from bench.seed import NO_LIMIT, seed

_PUTS = 100
_BODY = json.dumps(
    {
        "service": "openai",
        "service_settings": {
            "api_key": "sk-test",
            "model_id": "text-embedding-3-small",
            "dimensions": 1536,
            "rate_limit": NO_LIMIT,
        },
    }
)


def measure_writes(plan: Plan) -> list[Table]:
    """Give the figures of PUT."""
    table = Table("PUT of a new endpoint, one after the other")
    few, many = min(plan.stored), max(plan.stored)
    measured, _ = cores()
    took_ms: dict[int, list[float]] = {few: [], many: []}
    with ExitStack() as stack:
        servers: dict[int, Inferry] = {}
        for stored in took_ms:
            data_dir = plan.folder / f"writes-{stored}"
            seed(data_dir, stored, core=measured)
            running = inferry(
                data_dir, core=measured, INFERRY_INFERENCE__SKIP_VALIDATE_AND_START="true"
            )
            servers[stored] = stack.enter_context(running)
            _put_several(servers[stored], "warm")
        for turn in range(plan.rounds):
            for stored, server in servers.items():
                took_ms[stored] += _put_several(server, f"turn-{turn}")
    for stored, times in took_ms.items():
        is_held = stored == many
        table.add(
            f"PUT, {stored:,} stored",
            f"p50 {median(times):.2f} ms, p90 {quantiles(times, n=10)[-1]:.2f} ms",
            ratio=median(times) / median(took_ms[few]) if is_held else None,
            floor=1.5 if is_held else None,
            goal=1.2 if is_held else None,
            is_better_below=True,
        )
    return [table]


def _put_several(server: Inferry, name: str) -> list[float]:
    """Create endpoints on one connection and give what each took, in ms."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Authorization": server.authorization, "Content-Type": "application/json"}
    took_ms = []
    for number in range(_PUTS):
        started = time.perf_counter()
        path = f"/_inference/text_embedding/{name}-{number}"
        connection.request("PUT", path, body=_BODY, headers=headers)
        reply = connection.getresponse()
        told = reply.read()
        took_ms.append((time.perf_counter() - started) * 1e3)
        if reply.status != 200:
            raise RuntimeError(told)
    connection.close()
    return took_ms
