"""Whatever is sent, the server answers: well-meant requests succeed, hostile ones are refused.

Nothing ends in a 5xx but 502 for a provider that cannot be reached, nothing hangs, every answer is
of the form its media type promises, no secret shows, and the server keeps nothing of it all.

How many are sent follows the profile of hypothesis: `short`, `twenty_thousand` or `soak`.
"""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.endpoints import (
    LOOPBACK_ONLY,
    UNREACHABLE,
    create_endpoint,
    create_endpoints,
)
from tests.fuzz.strategies import PROVIDER, UNIQUE, Kind, Scenario, Sent, scenarios
from tests.providers import run_provider
from tests.server import Server, basic, run_server

MARKER = "marker-7f3a-secret"
PER_EXAMPLE = 20  # so that 1,000 examples are 20,000 scenarios
TIMEOUT_S = 30.0
CALLER, PASSWORD = "fuzz-caller", "a password of the caller"
# What a process may hold more after the run than before it: caches fill, records are made.
MORE_BYTES = 32 * 1024 * 1024
MORE_FILES = 16
MORE_TASKS = 16
pytestmark = [pytest.mark.server, pytest.mark.fuzz]


@dataclass(frozen=True)
class Got:
    """A whole answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


@dataclass
class Target:
    """The server under fire, on one connection that is opened anew when the server closes it.

    sent: how many requests, by kind and class of status.
    """

    server: Server
    provider_url: str
    connection: http.client.HTTPConnection
    sent: Counter[str] = field(default_factory=Counter)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def play(self, scenario: Scenario) -> None:
        """Send the requests of a scenario and check every answer."""
        number = str(next(self._numbers))
        for sent in scenario:
            path = sent.path.replace(UNIQUE, number)
            body = sent.body
            if body is not None and PROVIDER.encode() in body:
                body = body.replace(PROVIDER.encode(), self.provider_url.encode())
            got = self._answer(replace(sent, path=path, body=body))
            self.sent[f"{sent.kind} {got.status // 100}xx"] += 1
            check(sent, got)

    def enter(self) -> None:
        """Be somebody who may do everything, whatever the requests did to this user before."""
        body = {"password": PASSWORD, "roles": ["superuser"]}
        made = self.server.call("PUT", f"/_security/user/{CALLER}", body)
        assert made.status == 200, made.content

    def weigh(self) -> list[tuple[int, int]]:
        """Give memory in bytes and the number of open files, per process."""
        processes = [psutil.Process(self.server.process.pid), *self.server.api_processes()]
        return [(one.memory_info().rss, one.num_fds()) for one in processes]

    def tasks(self) -> int:
        """Give the number of tasks of the event loop that answers."""
        number: int = self.server.call("GET", "/_inference/.diagnostics").json["tasks"]
        return number

    def _answer(self, sent: Sent) -> Got:
        got = self._exchange(sent)
        if got.status == 401 and "Authorization" not in sent.headers:
            self.enter()
            got = self._exchange(sent)
        return got

    def _exchange(self, sent: Sent) -> Got:
        headers = {"Authorization": basic(CALLER, PASSWORD), **sent.headers}
        try:
            return self._exchange_once(sent, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.connection.close()
            return self._exchange_once(sent, headers)

    def _exchange_once(self, sent: Sent, headers: dict[str, str]) -> Got:
        body = sent.body if not sent.pieces or sent.body is None else _pieces(sent)
        self.connection.request(
            sent.method, sent.path, body, headers, encode_chunked=bool(sent.pieces)
        )
        response = self.connection.getresponse()
        return Got(response.status, response.headers, response.read())


def _pieces(sent: Sent) -> Iterator[bytes]:
    body = sent.body or b""
    size = max(1, len(body) // sent.pieces)
    return (body[at : at + size] for at in range(0, len(body), size))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Run a server with an endpoint of every hosted task, each with a marker as its secret."""
    data_dir = tmp_path_factory.mktemp("fuzz") / "data"
    with (
        run_provider() as provider,
        run_server(data_dir, auth=True, environment=LOOPBACK_ONLY) as server,
    ):
        create_endpoints(server, provider.url, secret=MARKER)
        with run_provider() as gone:
            create_endpoint(server, UNREACHABLE, "text_embedding", gone.url, secret=MARKER)
        netloc = urlsplit(server.url).netloc
        connection = http.client.HTTPConnection(netloc, timeout=TIMEOUT_S)
        target = Target(server, provider.url, connection)
        target.enter()
        yield target
        connection.close()
        log = server.log.read_text()
        assert MARKER not in log
        assert '"level":"error"' not in log, log[:2000]
        for file in server.data_dir.rglob("*"):
            assert not file.is_file() or MARKER.encode() not in file.read_bytes(), file


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # long inputs
def test_every_generated_request_gets_the_answer_it_deserves(
    target, figures, record_property
) -> None:
    # No shrinking: what failed is one request, and it is shown.
    usual = settings(suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    expected = usual.max_examples * PER_EXAMPLE
    weighed: list[list[tuple[int, int]]] = []

    @given(scenario=scenarios)
    @settings(usual, max_examples=expected)
    def play(scenario: Scenario) -> None:
        target.play(scenario)
        if not weighed and target.sent.total() >= expected // 2:  # caches are filled
            weighed.append(target.weigh())

    tasks = target.tasks()
    play()
    weighed.append(target.weigh())

    record_property("bytes_and_files", weighed)
    figures["scenarios"] = target.sent
    assert target.sent.total() >= expected
    assert {name.split()[0] for name in target.sent} == {*Kind}
    assert target.sent[f"{Kind.UNREACHABLE} 5xx"] > 0
    assert target.tasks() <= tasks + MORE_TASKS
    for (bytes_before, files_before), (bytes_after, files_after) in zip(*weighed, strict=True):
        assert bytes_after <= bytes_before + MORE_BYTES
        assert files_after <= files_before + MORE_FILES


def check(sent: Sent, got: Got) -> None:
    """Hold an answer against what was sent."""
    shown = f"{sent} -> {got.status} {got.body[:500]!r}"
    if sent.statuses:
        assert got.status in sent.statuses, shown
    assert got.status < 500 or (got.status == 502 and sent.kind is Kind.UNREACHABLE), shown
    assert got.header("X-Elastic-Product") == "Elasticsearch", shown
    assert MARKER not in str(got.headers), shown
    body = got.body
    if got.header("Content-Encoding") == "gzip" and body:
        body = gzip.decompress(body)
    assert MARKER.encode() not in body, shown
    if sent.method == "HEAD":
        assert not body, shown
        return
    content_type = got.header("Content-Type")
    if "json" in content_type and body:
        answered = json.loads(body)
        if got.status >= 400 and isinstance(answered, dict) and answered:
            assert answered.keys() & {"error", "found", "api_keys"}, shown
    if "event-stream" in content_type:
        *events, rest = body.split(b"\n\n")
        assert rest == b"", shown
        assert all(event.split(b"\n")[-1].startswith(b"data: ") for event in events), shown


@given(garbage=st.binary(min_size=1, max_size=400), ending=st.sampled_from([b"\r\n\r\n", b"\n\n"]))
@settings(suppress_health_check=list(HealthCheck))
def test_garbage_on_the_socket_is_refused_or_closed(
    target: Target, garbage: bytes, ending: bytes
) -> None:
    parts = urlsplit(target.server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT_S) as raw:
        raw.sendall(garbage + ending)
        raw.shutdown(socket.SHUT_WR)
        answered = b"".join(iter(lambda: raw.recv(65536), b""))

    assert not answered or answered.startswith(b"HTTP/1.1 ")
    assert not answered.startswith(b"HTTP/1.1 5"), (garbage, answered)
