"""Load: wrk where it is installed, else a small generator of ours.

Both keep a number of connections busy, one request at a time on each. Figures of the two are not
comparable with each other; a run uses one of them throughout.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import ROOT

_LUA = """
wrk.method = {method}
wrk.body = {body}
{headers}
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT {{"requests":%d,"us":%d,"p50_us":%.1f,"p99_us":%.1f,"bad":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True)
class Call:
    """A request to repeat."""

    port: int
    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True)
class Load:
    """What a run of load gave. bad: refused, broken or late requests."""

    per_second: float
    p50_ms: float
    p99_ms: float
    bad: int


def generator() -> str:
    """Name the generator that will be used."""
    return "wrk" if shutil.which("wrk") else "bench.loader"


def apply_load(call: Call, *, connections: int, seconds: float, core: int) -> Load:
    """Repeat `call` and give what came of it. Raises when nothing did."""
    run = _wrk if generator() == "wrk" else _own
    load = run(call, connections, seconds, core)
    if load.bad or not load.per_second:
        raise RuntimeError(f"[{load.bad}] requests of [{call.method} {call.path}] went wrong")
    return load


def _wrk(call: Call, connections: int, seconds: float, core: int) -> Load:
    headers = [
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
        for name, value in call.headers.items()
    ]
    script = _LUA.format(
        method=json.dumps(call.method),
        body=json.dumps(call.body) if call.body else "nil",
        headers="\n".join(headers),
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}"]
        command += [f"-d{max(1, round(seconds))}s", "--timeout", "60s", "-s", file.name]
        command.append(f"http://127.0.0.1:{call.port}{call.path}")
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^RESULT (.*)$", told, re.MULTILINE)
    if found is None:
        raise RuntimeError(told)
    return _load(json.loads(found[1]))


def _own(call: Call, connections: int, seconds: float, core: int) -> Load:
    asked = {
        "port": call.port,
        "path": call.path,
        "method": call.method,
        "headers": dict(call.headers),
        "body": call.body,
        "connections": connections,
        "seconds": seconds,
    }
    command = ["taskset", "-c", str(core), sys.executable, str(Path(__file__).parent / "loader.py")]
    told = subprocess.run(
        [*command, json.dumps(asked)], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    return _load(json.loads(told))


def _load(told: dict[str, float]) -> Load:
    return Load(
        per_second=told["requests"] / (told["us"] / 1e6),
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        bad=int(told["bad"]),
    )
