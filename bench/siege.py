"""What others wait for while somebody attacks: latency of a GET, beside that of an idle server.

Each attack of `tests/attacks.py` goes on in a process of its own, on the core of the load, while
somebody else asks for one endpoint again and again on that of the server.
"""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from statistics import median, quantiles
from typing import Any, TypeAlias

from bench.processes import ROOT, Inferry, cores, inferry
from bench.report import Plan, Table
from bench.seed import endpoint_id, seed
from tests.attacks import DEEP, MEGABYTE, WIDE, Target, bomb, flood, guess_passwords, held, send
from tests.server import basic

_STORED = 10
_SETTLE_S = 2.0
_ENDLESS = 10**9

Attack: TypeAlias = Callable[[Target], Coroutine[Any, Any, None]]


async def _guess(target: Target) -> None:
    await guess_passwords(target.port, times=_ENDLESS)


async def _guess_many_users(target: Target) -> None:
    """Guess for another user each time, so that every guess costs a slow hash."""

    def request(number: int) -> bytes:
        guess = Target(target.port, basic(f"user{number}", "guess"))
        return guess.head("GET", "/") + b"\r\n\r\n"

    await flood(target, request, times=_ENDLESS, connections=20)


async def _hold_heads(target: Target) -> None:
    async with held(target, connections=2000, start=target.head()) as connections:
        while True:
            for _, writer in connections:
                writer.write(b"\r\nx: y")
            await asyncio.sleep(1)


async def _rest(target: Target) -> None:
    async with held(target, connections=9000):
        await asyncio.Event().wait()


async def _send_large_bodies(target: Target) -> None:
    part = b" " * MEGABYTE
    head = target.head(content_type="application/json", content_length=100 * MEGABYTE)
    while True:
        await send(target, head + b"\r\n\r\n", *[part] * 100)


async def _send_headers(target: Target) -> None:
    many = b"".join(b"\r\nx-%d: y" % number for number in range(1000))
    while True:
        await send(target, target.head(), many)


async def _send_bombs(target: Target) -> None:
    packed = target.whole(bomb(1000 * MEGABYTE), content_encoding="gzip")
    await flood(target, lambda _: packed, times=_ENDLESS, connections=10)


async def _send_deep(target: Target) -> None:
    deep = target.whole(b'{"input":' + DEEP)
    await flood(target, lambda _: deep, times=_ENDLESS, connections=10)


async def _send_wide(target: Target) -> None:
    wide = target.whole(WIDE)
    await flood(target, lambda _: wide, times=_ENDLESS, connections=10)


_ATTACKS: Mapping[str, Attack] = {
    "wrong passwords of one user": _guess,
    "wrong passwords of any user": _guess_many_users,
    "2,000 heads that drip": _hold_heads,
    "9,000 connections that rest": _rest,
    "bodies of 100 MB": _send_large_bodies,
    "1,000 headers each": _send_headers,
    "bombs of 1 GB": _send_bombs,
    "JSON 100,000 deep": _send_deep,
    "250 KB of wrong JSON": _send_wide,
}


def measure_siege(plan: Plan) -> list[Table]:
    """Give latency and memory under each attack."""
    table = Table("GET of one endpoint during an attack: latency beside that of an idle server")
    measured, _ = cores()
    data_dir = plan.folder / "siege"
    seed(data_dir, _STORED, core=measured)
    with inferry(data_dir, core=measured) as server:
        idle = _latencies(server, plan.seconds)
        table.add("idle", f"{_shown(idle)}, {_memory(server)}")
        for name in _ATTACKS:
            attacker = _attack(name, server)
            time.sleep(_SETTLE_S)
            under = _latencies(server, plan.seconds)
            attacker.kill()
            attacker.wait()
            late = _late(under) / _late(idle)
            table.add(
                name,
                f"{_shown(under)}, {late:.2f} of idle, {_memory(server)}",
                ratio=median(under) / median(idle),
                floor=2.0,
                goal=2.0,
                is_better_below=True,
            )
    return [table]


def _attack(name: str, server: Inferry) -> subprocess.Popen[bytes]:
    _, loading = cores()
    command = ["taskset", "-c", str(loading), sys.executable, "-m", "bench.siege"]
    return subprocess.Popen([*command, name, str(server.port), server.authorization], cwd=ROOT)


def _latencies(server: Inferry, seconds: float) -> list[float]:
    """Give the time of each of many requests in milliseconds, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    path = f"/_inference/text_embedding/{endpoint_id(0)}"
    headers = {"Authorization": server.authorization}
    taken: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        reply.read()
        if reply.status != 200:
            raise RuntimeError(f"somebody else was answered [{reply.status}]")
        taken.append((time.perf_counter() - started) * 1e3)
    connection.close()
    return taken


def _late(taken: list[float]) -> float:
    return quantiles(taken, n=100)[98]


def _shown(taken: list[float]) -> str:
    return f"p50 {median(taken):.2f} ms, p99 {_late(taken):.2f} ms"


def _memory(server: Inferry) -> str:
    return f"API process {server.memory()['API process']:.0f} MB"


if __name__ == "__main__":
    asyncio.run(_ATTACKS[sys.argv[1]](Target(int(sys.argv[2]), sys.argv[3])))
