"""What clients that mean harm cost: memory stays bounded, and others are served."""

from __future__ import annotations

import http.client
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil
import pytest

from tests.attacks import (
    DEEP,
    MEGABYTE,
    RUN,
    WIDE,
    Target,
    beside,
    bomb,
    connected,
    flood,
    guess_elsewhere,
    held,
    send,
    served,
    status_of,
)
from tests.server import ADMIN_PASSWORD, Server, basic, run_server

pytestmark = pytest.mark.server

WRONG = basic("elastic", "a wrong password")
soak = pytest.mark.soak


def target_of(server: Server) -> Target:
    """Aim at a server, with an API key of its superuser."""
    port = urlsplit(server.url).port
    assert port is not None
    return Target(port, f"ApiKey {(server.data_dir / 'local-api-key').read_text().strip()}")


@contextmanager
def growth_below(server: Server, megabytes: float) -> Iterator[None]:
    """Check that no process of the server holds much more memory afterwards than before."""
    processes = [psutil.Process(server.process.pid), *server.api_processes()]
    before = [one.memory_info().rss for one in processes]
    yield
    grown = [one.memory_info().rss - rss for one, rss in zip(processes, before, strict=True)]
    assert max(grown) < megabytes * MEGABYTE, [round(one / MEGABYTE) for one in grown]


def log_in(
    server: Server, authorization: str, *, source: str, **headers: str
) -> http.client.HTTPResponse:
    """Ask for something from an address of the loopback network."""
    where = urlsplit(server.url)
    connection = http.client.HTTPConnection("127.0.0.1", where.port, source_address=(source, 0))
    connection.request("GET", "/", headers={"Authorization": authorization, **headers})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply


def test_failed_logins_are_counted_for_the_host_per_user_and_address(serve):
    server = serve("--workers", "2", auth=True)
    ways = server.connections(each=1)

    met = [ways[number % 2].call("GET", "/", Authorization=WRONG) for number in range(102)]

    assert [reply.status for reply in met] == [401] * 99 + [429] * 3
    assert met[-1].json["error"]["type"] == "security_exception"
    assert 0 < int(met[-1].headers["retry-after"]) <= 60
    right = basic("elastic", ADMIN_PASSWORD)
    assert {way.call("GET", "/", Authorization=right).status for way in ways} == {429}
    assert log_in(server, right, source="127.0.0.2").status == 200
    key = target_of(server).authorization
    assert {way.call("GET", "/", Authorization=key).status for way in ways} == {200}


def test_the_address_is_the_one_that_a_trusted_proxy_tells(serve):
    server = serve(
        auth=True, environment={"INFERRY_SERVER__TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8"}
    )
    told = {"X-Forwarded-For": "203.0.113.7, 198.51.100.1, 10.0.0.1"}

    met = [log_in(server, WRONG, source="127.0.0.1", **told).status for _ in range(101)]

    assert met == [401] * 99 + [429] * 2
    right = basic("elastic", ADMIN_PASSWORD)
    assert log_in(server, right, source="127.0.0.1", **told).status == 429
    assert log_in(server, right, source="127.0.0.1").status == 200
    # Whoever is no trusted proxy cannot speak for another address.
    assert log_in(server, right, source="127.0.0.2", **told).status == 200


@pytest.mark.parametrize("times", [3000, pytest.param(1_000_000, marks=soak)])
async def test_wrong_passwords_hold_nobody_up(serve, times):
    server = serve(auth=True)
    target = target_of(server)

    await guess_elsewhere(target.port, times=200)
    with growth_below(server, 30):
        met, answered = await beside(guess_elsewhere(target.port, times=times), target)

    assert sum(met.values()) == times
    assert set(met) <= {401, 429}
    assert met[401] <= 100 * (1 + times // 10_000)
    assert answered > 10


async def test_heads_that_do_not_end_hold_nobody_up(serve):
    server = serve(auth=True, environment={"INFERRY_LIMITS__HEADER_TIMEOUT": "1s"})
    target = target_of(server)

    async with held(target, connections=500, start=target.head()) as connections:
        assert await served(target, times=20) == 20
        met = Counter([await status_of(reader) for reader, _ in connections])

    assert met == {408: 500}


async def test_bodies_that_drip_hold_nobody_up(serve):
    server = serve(auth=True, environment={"INFERRY_LIMITS__BODY_TIMEOUT": "1s"})
    target = target_of(server)
    start = target.head(content_type="application/json", content_length=MEGABYTE)

    async with held(target, connections=200, start=start + b"\r\n\r\n{") as connections:
        assert await served(target, times=20) == 20
        for _, writer in connections:
            writer.write(b" ")
        met = Counter([await status_of(reader) for reader, _ in connections])

    assert met == {400: 200}


@pytest.mark.parametrize("connections", [1000, pytest.param(10_000, marks=soak)])
async def test_connections_that_rest_hold_nobody_up(serve, connections):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = serve(auth=True)
    target = target_of(server)

    with growth_below(server, 10 + connections * 0.02):
        async with held(target, connections=connections):
            assert await served(target, times=20) == 20


async def test_a_body_above_the_limit_is_refused_before_it_is_read(serve):
    server = serve(auth=True)
    target = target_of(server)
    announced = target.head(content_type="application/json", content_length=101 * 1024 * 1024)
    chunked = target.head(content_type="application/json", transfer_encoding="chunked")
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"

    with growth_below(server, 130):
        assert await send(target, announced + b"\r\n\r\n") == 413
        assert await send(target, chunked + b"\r\n\r\n", *[chunk] * 101) == 413
        assert await served(target, times=20) == 20


async def test_large_bodies_at_once_share_a_bound(serve):
    environment = {"INFERRY_LIMITS__MAX_PENDING_BODY_BYTES": "40MB"}
    server = serve(auth=True, environment=environment)
    target = target_of(server)
    size = 30 * MEGABYTE
    head = target.head(content_type="application/json", content_length=size) + b"\r\n\r\n"
    part = b" " * MEGABYTE

    with growth_below(server, 100):
        async with connected(target) as (reader, writer):
            for one in [head, *[part] * 29]:
                writer.write(one)
                await writer.drain()
            others = [await send(target, head, *[part] * 29) for _ in range(8)]
            writer.write(part)
            first = await status_of(reader)

    assert others == [429] * 8
    assert first in {400, 404}
    assert await served(target, times=20) == 20


@pytest.mark.parametrize("size", [20 * MEGABYTE, pytest.param(1000 * MEGABYTE, marks=soak)])
async def test_bombs_stay_small(serve, size):
    server = serve(auth=True, environment={"INFERRY_SERVER__MAX_BODY_BYTES": "10MB"})
    target = target_of(server)
    packed = target.whole(bomb(size), content_encoding="gzip")

    with growth_below(server, 60):
        attack = flood(target, lambda _: packed, times=20, connections=10)
        met, answered = await beside(attack, target)

    assert met == {413: 20}
    assert answered > 10


async def test_header_floods_are_cut_off(serve):
    server = serve(auth=True)
    target = target_of(server)
    many = b"".join(b"\r\nx-%d: y" % number for number in range(1000))
    endless = [b"\r\nx: " + b"y" * 100_000] * 100

    with growth_below(server, 20):
        met = Counter([await send(target, target.head(), many) for _ in range(50)])
        met += Counter([await send(target, target.head(), *endless) for _ in range(20)])
        assert await served(target, times=20) == 20

    assert set(met) <= {431, 0}  # 0: closed while it still sent


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", RUN),
        ("POST", "/_inference/text_embedding/nothing/_stream"),
        ("PUT", "/_inference/text_embedding/new"),
        ("PUT", "/_inference/text_embedding/new/_update"),
        ("PUT", "/_inference/_region_policy"),
        ("PUT", "/_inferry/references/new"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/_security/api_key"),
        ("PUT", "/_security/user/new"),
        ("PUT", "/_security/role/new"),
    ],
)
async def test_json_that_is_a_hundred_thousand_deep_is_refused(siege, method, path):
    deep = [
        DEEP,
        b'{"input":' + DEEP,
        b'{"input":' + DEEP + b"]" * len(DEEP) + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ]

    met = {await send(siege, siege.whole(body, method=method, path=path)) for body in deep}

    assert met <= {400, 404}
    assert await served(siege, times=1) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", RUN),
        ("POST", "/v1/embeddings"),
        ("POST", "/_ml/trained_models/nothing/_infer"),
        ("PUT", "/_inference/text_embedding/new"),
    ],
)
async def test_json_that_is_wrong_at_great_length_holds_nobody_up(siege, method, path):
    wide = siege.whole(WIDE, method=method, path=path)

    attack = flood(siege, lambda _: wide, times=2, connections=2)
    met, answered = await beside(attack, siege)

    assert set(met) <= {400, 404, 413}
    assert answered > 10


async def test_small_values_without_end_are_refused_for_what_they_would_take(siege):
    many = siege.whole(b'{"input":[' + b'"",' * 5_000_000 + b'""]}')

    assert await send(siege, many) == 413
    assert await served(siege, times=1) == 1


@pytest.fixture(scope="module")
def siege(tmp_path_factory) -> Iterator[Target]:
    """Run one server for requests that it must survive."""
    with run_server(tmp_path_factory.mktemp("siege") / "data", auth=True) as server:
        yield target_of(server)


async def test_an_attack_is_over_when_its_clients_leave(serve):
    server = serve(auth=True)
    target = target_of(server)
    before = server.call("GET", "/_inference/.diagnostics").json["tasks"]

    async with held(target, connections=200, start=target.head() + b"\r\nx"):
        await served(target, times=1)

    server.wait_until(
        lambda: server.call("GET", "/_inference/.diagnostics").json["tasks"] <= before
    )
