"""How long it takes from the start of the server's process to the first vector."""

from __future__ import annotations

import http.client
import sys
import time
from pathlib import Path
from statistics import median

from bench.processes import free_port, running
from bench.report import Plan, Table

_GIVE_UP_S = 60.0
_PATH = "/_inference/text_embedding/.minilm-l6-v2"
_PRELOAD = {"INFERRY_INFERENCE__PRELOAD": ".minilm-l6-v2", "INFERRY_TELEMETRY__LOG_LEVEL": "error"}


def measure_start(plan: Plan) -> list[Table]:
    """Start on a fresh data directory, and again on the same one."""
    first, later = [], []
    for number in range(plan.rounds):
        data_dir = plan.folder / f"start-{number}"
        first.append(_seconds(data_dir))
        later.append(_seconds(data_dir))
    table = Table("From the start of the process to the first vector; ratio: seconds")
    for what, found, floor, goal in (
        ("first start, nothing kept", first, 6.0, 3.0),
        ("later start", later, 2.0, 1.5),
    ):
        seconds = median(found)
        table.add(
            what, f"{seconds:.2f} s", ratio=seconds, floor=floor, goal=goal, is_better_below=True
        )
    return [table]


def _seconds(data_dir: Path) -> float:
    port = free_port()
    command = [sys.executable, "-m", "inferry", "serve", "--no-auth", "--port", str(port)]
    command += ["--data-dir", str(data_dir)]
    started = time.perf_counter()
    with running(command, core=None, environment={**_PRELOAD, "HOME": str(data_dir.parent)}):
        while not _answers(port):
            if time.perf_counter() - started > _GIVE_UP_S:
                raise RuntimeError("the server gives no vectors")
            time.sleep(0.01)
        return time.perf_counter() - started


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_GIVE_UP_S)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", _PATH, b'{"input": "The quick brown fox"}', headers)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
