"""Servers that none of us wrote, with tiny models made here, and a server of ours before them.

Each lives in an environment of its own, which `make peers` makes; without it its tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.providers import unused_port
from tests.server import Server, run_server

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv-clients"
START_S = 180.0


@dataclass
class Peer:
    """Somebody else's server. model: as it names its own."""

    url: str
    model: str

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask it directly."""
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())


def program_of(environment: str, name: str) -> str:
    """Give a program of an environment; skips where it is not there."""
    program = ENVIRONMENTS / environment / "bin" / name
    if not program.exists():
        pytest.skip(
            f"[{environment}] is not installed; `make peers` does it where PyPI can be reached"
        )
    return str(program)


def make_model(environment: str, script: str, folder: Path) -> None:
    """Run a script that makes a model."""
    command = [program_of(environment, "python"), str(HERE / script), str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[str]:
    """Run a server and give its URL once it says that it is healthy."""
    url = f"http://127.0.0.1:{port}"
    offline = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as written:
        process = subprocess.Popen(
            command, stdout=written, stderr=subprocess.STDOUT, env={**os.environ, **offline}
        )
    try:
        give_up_at = time.monotonic() + START_S
        while not _is_healthy(url):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            assert process.returncode is None, f"it ended:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < give_up_at, f"it never began:\n{log.read_text()[-3000:]}"
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture(scope="session")
def infinity(tmp_path_factory) -> Iterator[Peer]:
    """Run infinity, https://github.com/michaelfeil/infinity, with an embedding model."""
    program = program_of("infinity", "infinity_emb")
    folder = tmp_path_factory.mktemp("infinity")
    make_model("infinity", "make_embedder.py", folder)
    port = unused_port()
    command = [program, "v2", "--model-id", str(folder / "embedder"), "--served-model-name", "tiny"]
    command += ["--engine", "torch", "--device", "cpu", "--no-bettertransformer"]
    command += ["--no-model-warmup", "--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, folder / "log") as url:
        yield Peer(url, "tiny")


@pytest.fixture(scope="session")
def transformers(tmp_path_factory) -> Iterator[Peer]:
    """Run the server of transformers, https://huggingface.co/docs/transformers/serving."""
    program = program_of("transformers", "transformers")
    folder = tmp_path_factory.mktemp("transformers")
    model = folder / "chat"
    make_model("transformers", "make_chat.py", model)
    port = unused_port()
    command = [program, "serve", str(model), "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, folder / "log") as url:
        yield Peer(url, str(model))


@pytest.fixture(scope="session")
def ours(tmp_path_factory) -> Iterator[Server]:
    """Run a server of ours."""
    with run_server(tmp_path_factory.mktemp("peers") / "data") as server:
        yield server


def pytest_collection_modifyitems(items) -> None:
    """Mark what needs a real server."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("server")
