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
from typing import TypeAlias

from bench.processes import ROOT, cpu_seconds

Told: TypeAlias = dict[str, float]

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
    """A request to repeat. pid: of the process that answers, whose work is weighed too."""

    port: int
    pid: int
    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True)
class Load:
    """What a run of load gave. bad: refused, broken or late requests.

    cpu_us: work of the answering process and its children per request; less noisy than time.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    bad: int
    cpu_us: float = 0.0


def generator() -> str:
    """Name the generator that will be used."""
    return "wrk" if shutil.which("wrk") else "bench.loader"


def apply_load(call: Call, *, connections: int, seconds: float, core: int) -> Load:
    """Repeat `call` and give what came of it. Raises when nothing did."""
    run = _wrk if generator() == "wrk" else _own
    before = cpu_seconds(call.pid)
    told = run(call, connections, seconds, core)
    worked_us = (cpu_seconds(call.pid) - before) * 1e6
    if told["bad"] or not told["requests"]:
        raise RuntimeError(f"[{told['bad']}] requests of [{call.method} {call.path}] went wrong")
    return Load(
        per_second=told["requests"] / (told["us"] / 1e6),
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        bad=int(told["bad"]),
        cpu_us=worked_us / told["requests"],
    )


def _wrk(call: Call, connections: int, seconds: float, core: int) -> Told:
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
    return json.loads(found[1])


def _own(call: Call, connections: int, seconds: float, core: int) -> Told:
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
    return json.loads(told)
