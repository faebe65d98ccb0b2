"""A real server: `inferry serve` as a process tree of its own on a free loopback port."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.marks import MARK, check_clean, check_left

START_S = 60.0
STOP_S = 60.0
WAIT_S = 60.0
OF_THE_MACHINE = ("INFERRY_", "ELASTIC_", "HF_", "XDG_", "PROMETHEUS_")
"""What variables begin with that are the settings of whoever runs the tests."""
ADMIN_PASSWORD = f"a password of the tests, {MARK}"


@dataclass(frozen=True)
class Reply:
    """An answer. `process` tells the API processes of a server apart."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def __post_init__(self) -> None:
        check_clean(f"{self.headers}".encode() + self.content, "an answer")

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def process(self) -> str:
        return self.headers["x-request-id"].partition("-")[0]


class Connection:
    """One HTTP connection, kept open: all its requests go to one API process."""

    def __init__(self, url: str, authorization: str | None, *, timeout_s: float = 60.0) -> None:
        self._authorization = authorization
        self.http = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        """Send a request without waiting for its answer."""
        if self._authorization is not None:
            headers.setdefault("Authorization", self._authorization)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        encoded = None if body is None else json.dumps(body)
        self.http.request(method, path, body=encoded, headers=headers)

    def receive(self) -> Reply:
        """Wait for the answer."""
        response = self.http.getresponse()
        content = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, headers, content)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request and wait for its answer."""
        self.send(method, path, body, **headers)
        return self.receive()

    def close(self) -> None:
        """Hang up."""
        self.http.close()


@dataclass
class Server:
    """A running server. authorization: what requests carry unless they say otherwise."""

    process: subprocess.Popen[str]
    data_dir: Path
    log: Path
    greeting: str = ""
    url: str = ""
    authorization: str | None = None
    _connections: list[Connection] = field(default_factory=list)

    def connect(self, *, authorization: str | None = None, timeout_s: float = 60.0) -> Connection:
        """Open a connection, closed with the server at the latest."""
        given = authorization or self.authorization
        connection = Connection(self.url, given, timeout_s=timeout_s)
        self._connections.append(connection)
        return connection

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send one request on a connection of its own."""
        connection = Connection(self.url, self.authorization)
        try:
            return connection.call(method, path, body, **headers)
        finally:
            connection.close()

    def connections(self, each: int = 2, *, processes: int = 2) -> list[Connection]:
        """Open connections until `each` lead to every one of the API processes."""
        found: dict[str, list[Connection]] = {}
        give_up_at = time.monotonic() + WAIT_S
        while time.monotonic() < give_up_at:
            connection = self.connect()
            reached = found.setdefault(connection.call("GET", "/").process, [])
            if len(reached) < each:
                reached.append(connection)
            else:
                self._connections.remove(connection)
                connection.close()
            if len(found) == processes and min(map(len, found.values())) == each:
                return [one for several in found.values() for one in several]
        raise AssertionError(f"reached only {len(found)} of {processes} processes")

    def api_processes(self) -> list[psutil.Process]:
        """List the API processes."""
        return psutil.Process(self.process.pid).children()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Ask again and again, for as long as the server lives."""
        give_up_at = time.monotonic() + WAIT_S
        while not condition():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
            assert self.process.returncode is None, "the server ended meanwhile"
            assert time.monotonic() < give_up_at, "it never came true"

    def stop(self) -> int:
        """Ask the server to end and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """End the supervisor at once, and wait for its children, which must end by themselves."""
        children = self.api_processes()
        self.process.kill()
        self.process.wait(STOP_S)
        _, alive = psutil.wait_procs(children, STOP_S)
        assert not alive, "a child outlived its supervisor"

    def close(self) -> None:
        """Leave nothing behind."""
        for connection in self._connections:
            connection.close()
        if self.process.poll() is None:
            children = self.api_processes()
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S)
            psutil.wait_procs(children, STOP_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        check_left(self.log, self.data_dir)


def clean_environment() -> dict[str, str]:
    """Give the environment without the machine's own settings, and what other suites set."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(OF_THE_MACHINE)
    }


def start_server(
    data_dir: Path,
    *flags: str,
    auth: bool = False,
    workers: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Start a server and wait until it is ready."""
    command = [sys.executable, "-m", "inferry", "serve", "--port", "0"]
    command += ["--data-dir", str(data_dir), "--workers", str(workers)]
    command += [*flags] if auth else ["--no-auth", *flags]
    log = data_dir.with_name(f"{data_dir.name}.log")
    given = {"INFERRY_AUTH__ADMIN_PASSWORD": ADMIN_PASSWORD} if auth else {}
    with log.open("a") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=data_dir.parent,
            env={**clean_environment(), **given, **(environment or {})},
        )
    server = Server(process, data_dir, log)
    assert process.stdout is not None
    for line in process.stdout:
        server.greeting += line
        if match := re.search(r"curl .*(https?://[^/]+)/", line):
            server.url = match[1]
            break
    if not server.url:
        server.close()
        raise AssertionError(f"the server did not start:\n{log.read_text()}")
    if auth:
        server.authorization = basic("elastic", ADMIN_PASSWORD)
    return server


@contextmanager
def run_server(data_dir: Path, *flags: str, auth: bool = False, **more: Any) -> Iterator[Server]:
    """Run a server within the block."""
    server = start_server(data_dir, *flags, auth=auth, **more)
    try:
        yield server
    finally:
        server.close()


def openai_endpoint(provider_url: str, **settings: Any) -> dict[str, Any]:
    """Define an embedding endpoint that a loopback provider serves."""
    return {
        "service": "openai",
        "service_settings": {
            "api_key": f"a key, {MARK}",
            "model_id": "m",
            "url": f"{provider_url}/v1/embeddings",
            **settings,
        },
    }


def basic(username: str, password: str) -> str:
    """Give the header of Basic authentication."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
