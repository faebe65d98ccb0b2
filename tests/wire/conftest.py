"""A real server with a provider on loopback, and a client that says exactly what it sends.

Everything here runs twice: against a server with one API process, and with two.
"""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.marks import MARK
from tests.models.folders import write_splade
from tests.providers import Provider, run_provider
from tests.server import Reply, Server, run_server, start_server

JSON = "application/json"
_ROUTES = {
    "text_embedding": "/v1/embeddings",
    "embedding": "/v1/embeddings",
    "completion": "/v1/chat/completions",
    "chat_completion": "/v1/chat/completions",
}
_numbers = itertools.count(1)


def new_id(prefix: str = "wire") -> str:
    """Make an inference id that no other test has."""
    return f"{prefix}-{next(_numbers)}"


@dataclass
class Wire:
    """A server, its provider, and calls; a new connection for each unless told otherwise."""

    server: Server
    provider: Provider
    authorization: str | None = field(default=None, repr=False)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str | None] | None = None,
    ) -> Reply:
        """Send one request. raw: a body as it is. headers: None leaves a usual one out."""
        with self.open(method, path, body, raw=raw, headers=headers) as response:
            named = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, named, response.read())

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str | None] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send one request and give the answer unread."""
        encoded = json.dumps(body).encode() if body is not None else raw
        usual = {"Authorization": self.authorization or self.server.authorization}
        if encoded is not None:
            usual["Content-Type"] = JSON
        sent = {name: value for name, value in {**usual, **(headers or {})}.items() if value}
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=30)
        try:
            connection.request(method, path, body=encoded, headers=sent)
            yield connection.getresponse()
        finally:
            connection.close()

    def get(self, path: str, **more: Any) -> Reply:
        return self.call("GET", path, **more)

    def put(self, path: str, body: Any = None, **more: Any) -> Reply:
        return self.call("PUT", path, body, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        return self.call("POST", path, body, **more)

    def delete(self, path: str, **more: Any) -> Reply:
        return self.call("DELETE", path, **more)

    def definition(
        self,
        task_type: str = "text_embedding",
        *,
        more: dict[str, Any] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """Give a body of PUT; a setting None leaves a usual one out. more: other members."""
        usual = {
            # A key of its own, so that endpoints share no rate limit.
            "api_key": f"sk-{MARK}-{new_id()}",
            "model_id": "model-1",
            "url": self.provider.url + _ROUTES[task_type],
        }
        given = {name: value for name, value in {**usual, **settings}.items() if value is not None}
        return {"service": "openai", "service_settings": given, **(more or {})}

    def endpoint(
        self,
        task_type: str = "text_embedding",
        *,
        more: dict[str, Any] | None = None,
        **settings: Any,
    ) -> str:
        """Create an endpoint and give its id."""
        inference_id = new_id()
        body = self.definition(task_type, more=more, **settings)
        reply = self.put(f"/_inference/{task_type}/{inference_id}", body)
        assert reply.status == 200, reply.content
        return inference_id

    def endpoint_of(self, service: str, task_type: str, **settings: Any) -> str:
        """Create an endpoint of another service, whose origin the provider stands for."""
        inference_id = new_id()
        given = {"api_key": f"key-{MARK}-{inference_id}", "model_id": "model-1", **settings}
        body = {"service": service, "service_settings": given}
        reply = self.put(f"/_inference/{task_type}/{inference_id}", body)
        assert reply.status == 200, reply.content
        return inference_id

    def refused(self, status: int, name: str, text: str, reply: Reply) -> None:
        """Check an answer against the error envelope."""
        assert reply.status == status, reply.content
        document = reply.json
        assert document["status"] == status
        error = document["error"]
        assert error["type"] == name, error
        assert text in reply.content.decode().replace('\\"', '"'), error
        assert error["reason"]
        assert error["root_cause"][0]["reason"]
        assert reply.headers["x-elastic-product"] == "Elasticsearch"


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """Run a provider on loopback."""
    with run_provider() as running:
        yield running


@pytest.fixture(scope="session", params=[1, 2], ids=["1-worker", "2-workers"])
def session_wire(request, tmp_path_factory, provider) -> Iterator[Wire]:
    """Run a server with authentication, with as many API processes as the parameter says."""
    data_dir = tmp_path_factory.mktemp("wire") / "data"
    origins = {
        f"INFERRY_OUTBOUND__BASE_URLS__{name}": provider.url for name in ("COHERE", "JINAAI")
    }
    elser = write_splade(data_dir.parent / "elser")  # tiny, with random weights
    given = origins | {"INFERRY_MODELS__ALIASES__.elser_model_2": str(elser)}
    with run_server(data_dir, auth=True, workers=request.param, environment=given) as server:
        yield Wire(server, provider)


@pytest.fixture
def wire(session_wire) -> Iterator[Wire]:
    """Give the server; what the provider was told to do ends with the test."""
    session_wire.provider.requests.clear()
    yield session_wire
    session_wire.provider.always(None)
    session_wire.provider._next.clear()


@pytest.fixture
def tuned(tmp_path, provider) -> Iterator[Callable[..., Wire]]:
    """Start servers with variables of their own."""
    with run_servers(tmp_path, provider) as start:
        yield start
    provider.always(None)
    provider._next.clear()


@contextmanager
def run_servers(directory: Any, provider: Provider) -> Iterator[Callable[..., Wire]]:
    """Give a function that starts servers, all gone at the end."""
    servers: list[Server] = []

    def start(**environment: str) -> Wire:
        server = start_server(directory / new_id("data"), auth=True, environment=environment)
        servers.append(server)
        return Wire(server, provider)

    try:
        yield start
    finally:
        for server in servers:
            server.close()


def pytest_collection_modifyitems(items) -> None:
    """Mark what needs a real server."""
    for item in items:
        if "wire" in item.path.parts:
            item.add_marker(pytest.mark.server)
