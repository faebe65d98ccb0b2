"""The way of a request through the application, with a gate and handlers of the test's own."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inferry.api.application import Application
from inferry.api.elastic.errors import render_error
from inferry.api.exchange import Answer, Request, Route
from inferry.api.http.direct import Kept
from inferry.api.http.reading import Reading
from inferry.api.http.request_body import BodyLimits
from inferry.api.watch import Watch
from inferry.commands import Refusal
from inferry.concurrency import Nursery
from inferry.errors import NotAuthenticated, NotAuthorized, NotFound, UpstreamError
from inferry.origin import Origin
from inferry.request_log import RequestLog
from inferry.sections import TelemetrySection
from inferry.security.gate import Login, Principal

LARGE = b'{"a":[' + b",".join([b"1.5"] * 1000) + b"]}"


class StubGate:
    """Lets `friend` in, who may do everything but `forbidden`.

    version: raised by a test when something changes. recalled: how often somebody was looked up.
    """

    def __init__(self) -> None:
        self.version = 0
        self.recalled = 0
        self.forbidden = {"forbidden"}

    async def authenticate(self, headers, uri, *, address):
        if headers.get("authorization") != "friend":
            raise NotAuthenticated(f"missing authentication credentials for [{uri}]")
        return Principal("friend")

    def recall(self, headers):
        self.recalled += 1
        is_friend = headers.get("authorization") == "friend"
        return Login(Principal("friend"), self.version) if is_friend else None

    def holds(self, login):
        return login.version == self.version

    def authorize(self, principal, action):
        if action in self.forbidden:
            raise NotAuthorized("you may not")


@dataclass
class Sent:
    """What the application sent."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    is_complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def header(self, name: str) -> str | None:
        found = [value.decode() for key, value in self.headers if key == name.encode()]
        assert len(found) <= 1, found
        return found[0] if found else None


def scope_of(method, path, headers, query=b""):
    return {
        "type": "http",
        "method": method,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": list(headers.items()),
    }


async def ask(application, method, path, *, body=b"", query=b"", **headers):
    """Drive the application as a server would."""
    given = {"authorization": "friend", **headers}
    if body:
        given = {"content-type": "application/json", "content-length": str(len(body)), **given}
    named = {
        name.replace("_", "-").encode(): value.encode() for name, value in given.items() if value
    }
    scope = scope_of(method, path, named, query)
    half = len(body) // 2
    waiting = [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
    ]
    sent = Sent()

    async def receive():
        return waiting.pop(0)

    async def send(message):
        if message["type"] == "http.response.start":
            sent.status, sent.headers = message["status"], message["headers"]
        else:
            sent.parts.append(message["body"])
            sent.is_complete = not message.get("more_body", False)

    await application(scope, receive, send)
    return sent


async def echo(request: Request) -> Answer:
    seen = {
        "body": request.body.decode(),
        "values": dict(request.path_values),
        "query": dict(request.query),
        "user": request.principal.username,
    }
    return Answer(json.dumps(seen).encode(), headers={"X-More": ("a", "b")})


def at_once(_: Request) -> Answer:
    return Answer(b'{"now":1}', headers={"X-More": "a"})


async def large(_: Request) -> Answer:
    return Answer(iter([LARGE[:100], LARGE[100:]]), size=len(LARGE))


async def fail(_: Request) -> Answer:
    raise NotFound("nothing here")


async def fail_upstream(_: Request) -> Answer:
    raise UpstreamError("the provider is down", upstream_status=503)


async def crash(_: Request) -> Answer:
    raise ValueError("secret words")


async def stream(_: Request) -> Answer:
    async def parts():
        yield b"one"
        yield b"two"

    return Answer(parts(), content_type="text/event-stream")


def route(method, path, handler, action="allowed", **more):
    return Route(method, path, handler, action, render_error, path, **more)


@pytest.fixture
def refusals() -> list[Refusal]:
    """Collect what the audit log would get."""
    return []


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the file that the request lines go to."""
    return tmp_path / "log"


@pytest.fixture
def requests(log) -> Iterator[RequestLog]:
    with log.open("w") as stream:
        yield RequestLog(TelemetrySection(log_format="json"), stream=stream)


@pytest.fixture
def gate():
    return StubGate()


@pytest.fixture
def application(gate, requests, refusals):
    routes = [
        route("GET", "/large", large),
        route("GET", "/at_once", at_once),
        route("GET", "/also_at_once", at_once, "more"),
        route("GET", "/forbidden_at_once", at_once, "forbidden"),
        route("GET", "/fail", fail),
        route("GET", "/crash", crash),
        route("POST", "/run/{inference_id}", fail_upstream),
        route("GET", "/stream", stream),
        route("GET", "/forbidden", echo, "forbidden"),
        route("GET", "/open", echo, None, is_open=True),
        route("POST", "/echo/{name}", echo, takes_body=True, parameters=frozenset({"x"})),
        route("POST", "/small", echo, takes_body=True, max_body_bytes=10),
    ]
    watch = Watch(requests, refusals.append)
    reading = Reading()
    bodies = BodyLimits(max_bytes=10_000)
    yield Application(routes, gate, bodies=bodies, watch=watch, reading=reading)
    reading.close()


def lines_of(requests: RequestLog, log: Path) -> list[dict[str, object]]:
    """Give the request lines so far, without what differs every time."""
    requests.flush()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        assert line.pop("event") == "request"
        assert line.pop("level") == "info"
        assert line.pop("timestamp").endswith("Z")
        assert 0 <= line.pop("duration_ms") < 10_000
    return lines


async def test_a_request_reaches_its_handler(application):
    sent = await ask(application, "POST", "/echo/a%20b", body=b'{"k":1}', query=b"x=1")

    assert sent.status == 200
    assert json.loads(sent.body) == {
        "body": '{"k":1}',
        "values": {"name": "a b"},
        "query": {"x": "1"},
        "user": "friend",
    }
    assert [value for name, value in sent.headers if name == b"x-more"] == [b"a", b"b"]
    assert sent.header("content-length") == str(len(sent.body))
    assert sent.header("x-elastic-product") == "Elasticsearch"


@pytest.mark.parametrize("path", ["/large", "/nowhere", "/echo/x"])
async def test_credentials_are_asked_for_before_anything_else(application, path):
    sent = await ask(application, "GET", path, authorization="")

    assert sent.status == 401
    assert len([name for name, _ in sent.headers if name == b"www-authenticate"]) == 3


async def test_privileges_are_asked_for_before_media_types_and_parameters(application):
    sent = await ask(application, "GET", "/forbidden", query=b"bogus", accept="text/html")

    assert sent.status == 403


async def test_media_types_are_looked_at_before_parameters(application):
    sent = await ask(application, "GET", "/large", query=b"bogus", accept="text/html")

    assert b"media_type_header_exception" in sent.body


async def test_parameters_are_looked_at_before_the_body(application):
    sent = await ask(application, "POST", "/echo/x", query=b"bogus", body=b"x" * 20_000)

    assert b"unrecognized parameter: [bogus]" in sent.body


async def test_an_open_route_asks_for_nothing(application):
    assert (await ask(application, "GET", "/open", authorization="")).status == 200


async def test_options_are_told_to_everybody(application):
    sent = await ask(application, "OPTIONS", "/echo/x", authorization="")

    assert (sent.status, sent.header("allow"), sent.body) == (200, "POST", b"")


async def test_a_defect_of_ours_tells_nothing(application, capsys):
    sent = await ask(application, "GET", "/crash")

    assert sent.status == 500
    assert b"secret" not in sent.body
    assert json.loads(sent.body)["error"]["reason"] == "internal server error"


async def test_errors_are_filtered_and_indented_too(application):
    filtered = await ask(application, "GET", "/fail", query=b"filter_path=error.type")
    pretty = await ask(application, "GET", "/fail", query=b"pretty")

    assert filtered.body == b'{"error":{"type":"resource_not_found_exception"}}'
    assert pretty.body.startswith(b'{\n  "error" : {')
    assert filtered.header("content-length") == str(len(filtered.body))


async def test_a_large_answer_is_packed_when_asked_for(application):
    sent = await ask(application, "GET", "/large", accept_encoding="gzip")

    assert sent.header("content-encoding") == "gzip"
    assert sent.header("content-length") == str(len(sent.body))
    assert gzip.decompress(sent.body) == LARGE


async def test_an_answer_in_parts_has_its_size(application):
    sent = await ask(application, "GET", "/large")

    assert sent.body == LARGE
    assert sent.header("content-length") == str(len(LARGE))
    assert sent.is_complete


async def test_a_stream_has_no_size_and_is_never_packed(application):
    sent = await ask(application, "GET", "/stream", accept_encoding="gzip", query=b"pretty")

    assert sent.body == b"onetwo"
    assert sent.header("content-length") is None
    assert sent.header("content-encoding") is None
    assert sent.is_complete


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [("/echo/x", 10_000, 200), ("/echo/x", 10_001, 413), ("/small", 10, 200), ("/small", 11, 413)],
)
@pytest.mark.parametrize("is_announced", [True, False])
async def test_bodies_have_a_limit(application, path, size, status, is_announced):
    how = {} if is_announced else {"content_length": "", "transfer_encoding": "chunked"}

    sent = await ask(application, "POST", path, body=b"x" * size, **how)

    assert sent.status == status


async def test_a_packed_body_has_the_same_limit(application):
    fits = gzip.compress(b"x" * 10_000)
    bursts = gzip.compress(b"x" * 10_001)

    assert (
        await ask(application, "POST", "/echo/x", body=fits, content_encoding="gzip")
    ).status == 200
    assert (
        await ask(application, "POST", "/echo/x", body=bursts, content_encoding="gzip")
    ).status == 413


async def test_an_unknown_encoding_is_refused(application):
    sent = await ask(application, "POST", "/echo/x", body=b"x", content_encoding="br")

    assert sent.status == 406


@pytest.mark.parametrize("given", ["id-1", "a b"])
async def test_ids_of_the_caller_come_back(application, given):
    sent = await ask(application, "GET", "/open", x_opaque_id=given, x_request_id=given)

    assert (sent.header("x-opaque-id"), sent.header("x-request-id")) == (given, given)


async def test_an_id_that_is_too_long_is_replaced(application):
    sent = await ask(application, "GET", "/open", x_opaque_id="x" * 300, x_request_id="x" * 300)

    assert sent.header("x-opaque-id") is None
    assert len(sent.header("x-request-id") or "") < 30


async def test_what_needs_no_waiting_is_answered_as_on_the_usual_way(application):
    fixed = {"x-request-id": "one", "x-opaque-id": "two"}
    usual = await ask(application, "GET", "/at_once", **fixed)
    headers = {b"authorization": b"friend", b"x-request-id": b"one", b"x-opaque-id": b"two"}

    kept = Kept()

    for _ in range(2):  # understood, and repeated
        whole = application.answer_at_once(scope_of("GET", "/at_once", headers), kept)
        assert whole == (usual.status, usual.headers, usual.body)


@pytest.mark.parametrize(
    ("method", "path", "headers", "query"),
    [
        ("GET", "/never_seen", {}, b""),
        ("GET", "/large", {}, b""),
        ("GET", "/forbidden_at_once", {}, b""),
        ("GET", "/at_once", {b"authorization": b"stranger"}, b""),
        ("GET", "/at_once", {b"accept": b"text/html"}, b""),
        ("GET", "/at_once", {b"accept-encoding": b"gzip"}, b""),
        ("GET", "/at_once", {b"content-length": b"3"}, b""),
        ("GET", "/at_once", {}, b"pretty"),
    ],
)
async def test_what_may_be_refused_or_rewritten_goes_the_usual_way(
    application, method, path, headers, query
):
    if path != "/never_seen":
        await ask(application, method, path)

    scope = scope_of(method, path, {b"authorization": b"friend", **headers}, query)

    assert application.answer_at_once(scope, Kept()) is None


# --- what a connection repeats -------------------------------------------------------------------


@pytest.fixture
async def ask_at_once(application):
    """Give a function that asks on one connection, and tells whether it was answered at once."""
    kept = Kept()
    for path in ("/at_once", "/also_at_once"):
        await ask(application, "GET", path)

    def ask_one(path: str = "/at_once", authorization: bytes = b"friend") -> bool:
        scope = scope_of("GET", path, {b"authorization": authorization})
        return application.answer_at_once(scope, kept) is not None

    return ask_one


def test_who_repeats_credentials_on_a_connection_is_not_looked_up_again(gate, ask_at_once):
    assert [ask_at_once() for _ in range(5)] == [True] * 5

    assert gate.recalled == 1


def test_other_credentials_on_the_same_connection_are_others(gate, ask_at_once):
    assert ask_at_once()

    assert not ask_at_once(authorization=b"fremd.")
    assert ask_at_once()
    assert not ask_at_once(authorization=b"")


def test_what_is_repeated_counts_only_while_the_login_holds(gate, ask_at_once):
    assert ask_at_once()

    gate.version += 1
    gate.forbidden.add("allowed")

    assert [ask_at_once() for _ in range(3)] == [False] * 3
    gate.version += 1
    gate.forbidden.remove("allowed")
    assert ask_at_once()


def test_every_route_is_asked_about_although_the_credentials_are_known(gate, ask_at_once):
    gate.forbidden.add("more")

    answered = [ask_at_once(path) for path in ("/at_once", "/also_at_once", "/at_once")]

    assert answered == [True, False, True]


# --- what the logs are told ----------------------------------------------------------------------


async def test_every_request_leaves_a_line(application, requests, log):
    await ask(application, "POST", "/run/mine", x_request_id="7")
    await ask(application, "GET", "/nowhere", query=b"secret=1", x_request_id="8")
    await ask(application, "GET", "/open", authorization="", x_request_id="9")

    mine = {"method": "POST", "route": "/run/{inference_id}", "status": 400, "user": "friend"}
    assert lines_of(requests, log) == [
        {**mine, "inference_id": "mine", "request_id": "7", "upstream_status": 503},
        {"method": "GET", "status": 400, "request_id": "8"},
        {"method": "GET", "route": "/open", "status": 200, "request_id": "9"},
    ]


async def test_an_answer_at_once_leaves_a_line_too(application, requests, log):
    headers = {b"authorization": b"friend", b"x-request-id": b"7"}

    assert application.answer_at_once(scope_of("GET", "/at_once", headers), Kept()) is None
    await ask(application, "GET", "/at_once")
    assert application.answer_at_once(scope_of("GET", "/at_once", headers), Kept()) is not None

    line = {"method": "GET", "route": "/at_once", "status": 200, "user": "friend"}
    assert lines_of(requests, log)[1] == {**line, "request_id": "7"}


async def test_a_request_whose_client_left_is_told_apart(application, requests, log):
    async def never():
        await asyncio.Event().wait()

    async def nothing(_):
        raise AssertionError

    headers = {b"authorization": b"friend", b"content-length": b"3", b"x-request-id": b"7"}
    scope = scope_of("POST", "/echo/a", headers | {b"content-type": b"application/json"})
    async with Nursery() as nursery:
        request = nursery.start(application(scope, never, nothing))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()

    assert [line["status"] for line in lines_of(requests, log)] == [499]


async def test_who_is_not_let_in_or_not_allowed_is_told_to_the_audit_log(application, refusals):
    query = b"token=secret"
    await ask(application, "GET", "/fail", query=query, authorization="stranger", x_request_id="7")
    await ask(application, "GET", "/forbidden", x_request_id="8")
    await ask(application, "GET", "/fail", x_request_id="9")

    assert [(one.event, one.origin) for one in refusals] == [
        (
            "authentication_failed",
            Origin(action="allowed", request="GET /fail", request_id="7"),
        ),
        (
            "access_denied",
            Origin(user="friend", action="forbidden", request="GET /forbidden", request_id="8"),
        ),
    ]
