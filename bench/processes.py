"""Processes of a run: started on a core, waited for, weighed and ended."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
_START_S = 180.0
_STOP_S = 30.0


def cores() -> tuple[int, int]:
    """Give the core of what is measured, and the one of the load and the upstream."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def free_port() -> int:
    """Give a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], *, log: Path) -> None:
    """Wait until `process` itself listens on `port`. Raises with the log when it ends before."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"[{process.args}] ended:\n{log.read_text()[-2000:]}")
        if port in _listening(process.pid):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on [{port}]:\n{log.read_text()[-2000:]}")


def _listening(pid: int) -> set[int]:
    """Give the ports on which a process or one of its children listens."""
    process = psutil.Process(pid)
    return {
        connection.laddr.port
        for one in [process, *process.children(recursive=True)]
        for connection in one.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


@contextmanager
def running(
    command: Sequence[str],
    *,
    core: int | None,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` on one core until the block ends; starts with it listening on `port`.

    core: None for all of them.
    """
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder) / "log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [*pinned, *command],
                stdout=written,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **(environment or {})},
            )
        try:
            if port is not None:
                wait_for(port, process, log=log)
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children."""
    children = psutil.Process(process.pid).children(recursive=True) if is_alive(process) else []
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_S)
    _, left = psutil.wait_procs(children, _STOP_S)
    for child in left:
        child.kill()


def is_alive(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process runs."""
    return process.poll() is None


def cpu_seconds(pid: int) -> float:
    """Give the work that a process and its children have done so far."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in [process, *process.children(recursive=True)]]
    return float(sum(one.user + one.system for one in times))


def megabytes(pid: int) -> float:
    """Give the resident memory of a process."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


@dataclass(frozen=True)
class Inferry:
    """A running server. api_key: the superuser's, encoded."""

    process: subprocess.Popen[bytes]
    port: int
    api_key: str

    @property
    def authorization(self) -> str:
        """The header of every request."""
        return f"ApiKey {self.api_key}"

    def memory(self) -> dict[str, float]:
        """Give the resident memory in MB of the supervisor and of the largest API process."""
        supervisor = psutil.Process(self.process.pid)
        children = [megabytes(child.pid) for child in supervisor.children(recursive=True)]
        return {"supervisor": megabytes(self.process.pid), "API process": max(children)}

    def put(self, task_type: str, name: str, definition: Mapping[str, object]) -> None:
        """Create an endpoint."""
        self._call("PUT", f"/_inference/{task_type}/{name}", definition)

    def post(self, path: str, body: Mapping[str, object]) -> None:
        """Send one request."""
        self._call("POST", path, body)

    def _call(self, method: str, path: str, body: Mapping[str, object]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(
            method,
            path,
            body=json.dumps(body),
            headers={"Authorization": self.authorization, "Content-Type": "application/json"},
        )
        reply = connection.getresponse()
        told = reply.read()
        connection.close()
        if reply.status != 200:
            raise RuntimeError(told)


@contextmanager
def inferry(
    data_dir: Path, *, core: int | None, auth: bool = True, **environment: str
) -> Iterator[Inferry]:
    """Run `inferry serve` on `data_dir`. core: None for all of them."""
    port = free_port()
    log = data_dir.with_suffix(".log")
    command = [sys.executable, "-m", "inferry", "serve", "--port", str(port)]
    command += ["--data-dir", str(data_dir), *([] if auth else ["--no-auth"])]
    settings = {"INFERRY_TELEMETRY__LOG_LEVEL": "warning", **environment}
    with running(command, core=core, environment=settings, log=log) as process:
        _wait_until_ready(process, log)
        key = (data_dir / "local-api-key").read_text().strip() if auth else ""
        yield Inferry(process, port, key)


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and is_alive(process):
        if re.search(r"curl .*http", log.read_text()):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")
