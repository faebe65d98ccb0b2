"""Whatever is sent, the server answers: well-meant requests succeed, hostile ones are refused.

Nothing ends in a 5xx but 502 for a provider that cannot be reached, nothing hangs, every answer is
of the form its media type promises, and no secret shows.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.strategies import CHAT, COMPLETION, EMBEDDINGS, Sent, requests
from tests.providers import run_provider
from tests.server import Server, run_server

MARKER = "marker-7f3a-secret"
PER_EXAMPLE = 20
TIMEOUT_S = 30.0
pytestmark = [pytest.mark.server, pytest.mark.fuzz]


@dataclass
class Target:
    """The server under fire, on one connection that is opened anew when the server closes it."""

    server: Server
    connection: http.client.HTTPConnection

    def answer(self, sent: Sent) -> tuple[http.client.HTTPResponse, bytes]:
        """Send and give the whole answer."""
        headers = {"Authorization": self.server.authorization or "", **sent.headers}
        try:
            return self._exchange(sent, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.connection.close()
            return self._exchange(sent, headers)

    def _exchange(
        self, sent: Sent, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self.connection.request(sent.method, sent.path, sent.body, headers)
        response = self.connection.getresponse()
        return response, response.read()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Run a server with an endpoint of every hosted task, each with a marker as its secret."""
    with (
        run_provider() as provider,
        run_server(tmp_path_factory.mktemp("fuzz") / "data", auth=True) as server,
    ):
        for task_type, inference_id, path in (
            ("text_embedding", EMBEDDINGS, "embeddings"),
            ("completion", COMPLETION, "chat/completions"),
            ("chat_completion", CHAT, "chat/completions"),
        ):
            made = server.call(
                "PUT",
                f"/_inference/{task_type}/{inference_id}",
                {
                    "service": "openai",
                    "service_settings": {
                        "api_key": MARKER,
                        "model_id": "m",
                        "url": f"{provider.url}/v1/{path}",
                        "rate_limit": {"requests_per_minute": 10_000_000},
                    },
                },
            )
            assert made.status == 200, made.content
        netloc = urlsplit(server.url).netloc
        connection = http.client.HTTPConnection(netloc, timeout=TIMEOUT_S)
        yield Target(server, connection)
        connection.close()
        assert MARKER not in server.log.read_text()
        for file in server.data_dir.rglob("*"):
            assert not file.is_file() or MARKER.encode() not in file.read_bytes(), file


@given(batch=st.lists(requests, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
@settings(suppress_health_check=list(HealthCheck), print_blob=True)
def test_every_generated_request_gets_the_answer_it_deserves(
    target: Target, batch: list[Sent]
) -> None:
    for sent in batch:
        response, body = target.answer(sent)

        _check(sent, response, body)


def _check(sent: Sent, response: http.client.HTTPResponse, body: bytes) -> None:
    status = response.status
    shown = (sent, status, body[:500])
    if sent.succeeds:
        assert 200 <= status < 300, shown
    assert status < 500 or status == 502, shown
    assert response.getheader("X-Elastic-Product") == "Elasticsearch", shown
    assert MARKER.encode() not in body, shown
    content_type = response.getheader("Content-Type") or ""
    is_plain = response.getheader("Content-Encoding") is None
    if "json" in content_type and body and is_plain:
        answered = json.loads(body)
        if status >= 400 and sent.method != "HEAD" and isinstance(answered, dict) and answered:
            assert "error" in answered or "found" in answered or "api_keys" in answered, shown


@given(garbage=st.binary(min_size=1, max_size=400), ending=st.sampled_from([b"\r\n\r\n", b"\n\n"]))
@settings(suppress_health_check=list(HealthCheck))
def test_garbage_on_the_socket_is_refused_or_closed(
    target: Target, garbage: bytes, ending: bytes
) -> None:
    import socket

    parts = urlsplit(target.server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT_S) as raw:
        raw.sendall(garbage + ending)
        raw.shutdown(socket.SHUT_WR)
        answered = b"".join(iter(lambda: raw.recv(65536), b""))

    assert not answered or answered.startswith(b"HTTP/1.1 ")
    assert not answered.startswith(b"HTTP/1.1 5"), (garbage, answered)
