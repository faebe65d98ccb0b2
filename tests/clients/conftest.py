"""A running server with authentication on, a provider behind it, and clients to drive it.

Each client lives in an environment of its own (`make clients`) and is run as a process of its own,
so that none can lean on what is installed for the others.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.tool_calls import answer_with_tools
from tests.providers import run_provider
from tests.server import Server, run_server

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
DRIVERS = HERE / "drivers"
LIMIT_S = 120


@dataclass
class Site:
    """A server, a superuser's API key for it, and the provider of its endpoints."""

    server: Server
    api_key: str
    provider: str

    def put(self, task_type: str, inference_id: str, route: str) -> None:
        """Create an endpoint at the provider."""
        settings = {
            "api_key": "sk-test",
            "model_id": "model-1",
            "url": f"{self.provider}/v1/{route}",
        }
        body = {"service": "openai", "service_settings": settings}
        reply = self.server.call("PUT", f"/_inference/{task_type}/{inference_id}", body)
        assert reply.status == 200, reply.content


@pytest.fixture(scope="package")
def site(tmp_path_factory):
    """Run a server and a provider for all clients."""
    data_dir = tmp_path_factory.mktemp("clients") / "data"
    with run_provider() as provider, run_server(data_dir, auth=True) as server:
        provider.always(answer_with_tools)
        created = server.call("POST", "/_security/api_key", {"name": "clients"})
        assert created.status == 200, created.content
        yield Site(server, created.json["encoded"], provider.url)


@pytest.fixture(scope="package")
def openai_site(site):
    """Give the server with two endpoints for the OpenAI dialect."""
    site.put("text_embedding", "v1-embed", "embeddings")
    site.put("chat_completion", "v1-chat", "chat/completions")
    return site


def python_of(environment: str) -> str:
    """Give the interpreter of a client's environment; a test without it is skipped."""
    python = ROOT / ".venv-clients" / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"the environment of [{environment}] is not there; `make clients` makes it")
    return str(python)


def drive_python(environment: str, driver: str, *arguments: str, given: str | None = None):
    """Run a driver in a client's environment, where every warning is an error.

    given: what it reads from standard input.
    """
    command = (python_of(environment), "-W", "error", str(DRIVERS / driver), *arguments)
    return _drive(*command, given=given)


def drive_node(driver: str, *arguments: str):
    """Run a driver in Node."""
    node = shutil.which("node")
    if node is None or not (HERE / "js" / "node_modules").exists():
        pytest.skip("Node or its packages are not there; `make clients` installs the packages")
    return _drive(node, str(HERE / "js" / driver), *arguments)


def _drive(*command: str, given: str | None = None):
    """Give what a driver saw; it must end well and have nothing to complain about."""
    quiet = {"NO_PROXY": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, **quiet},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)
