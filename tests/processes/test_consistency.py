"""What several API processes owe each other: no stale answer, one revocation, one rate limit."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.server import Connection, Server, openai_endpoint

pytestmark = pytest.mark.server


def live_and_die(name: str, body: dict[str, object], pick: random.Random, ways: list[Connection]):
    """Create, read, run, delete and miss an endpoint, each step on a connection of its own."""

    def call(method: str, path: str, sent: object = None):
        return pick.choice(ways).call(method, path, sent)

    path = f"/_inference/text_embedding/{name}"
    assert call("PUT", path, body).status == 200
    read = call("GET", path)
    assert read.status == 200, read.content
    ran = call("POST", path, {"input": ["a", "b"]})
    assert ran.status == 200, ran.content
    assert len(ran.json["text_embedding"]) == 2
    assert call("DELETE", path).status == 200
    assert call("GET", path).status == 404
    assert call("POST", path, {"input": ["a"]}).status == 404
    listed = call("GET", "/_inference/_all").json["endpoints"]
    assert name not in [endpoint["inference_id"] for endpoint in listed]


@pytest.mark.parametrize(
    "sequences", [200, pytest.param(2000, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_no_answer_is_older_than_the_last_acknowledged_write(serve, provider, sequences):
    server = serve("--workers", "2")
    body = openai_endpoint(provider.url)

    def run(stream: int) -> None:
        ways, pick = server.connections(), random.Random(stream)
        for number in range(sequences // 2):
            live_and_die(f"e-{stream}-{number}", body, pick, ways)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, stream) for stream in range(2)]:
            done.result()


def test_an_update_is_served_by_every_process_at_once(serve, provider):
    server = serve("--workers", "2")
    ways = server.connections()
    path = "/_inference/text_embedding/e"
    assert ways[0].call("PUT", path, openai_endpoint(provider.url)).status == 200

    for number in range(20):
        task_settings = {"user": f"user {number}"}
        updated = ways[number % 4].call("PUT", f"{path}/_update", {"task_settings": task_settings})
        assert updated.status == 200, updated.content

        assert [way.call("GET", path).json["endpoints"][0]["task_settings"] for way in ways] == [
            task_settings
        ] * 4


def test_a_revoked_key_is_refused_by_every_process_at_once(serve):
    server = serve("--workers", "2", auth=True)
    ways = server.connections()
    for _ in range(10):
        made = ways[0].call("POST", "/_security/api_key", {"name": "k"})
        key = f"ApiKey {made.json['encoded']}"
        for _ in range(3):  # seen for the first time, known, and known on the connection
            assert {way.call("GET", "/", Authorization=key).status for way in ways} == {200}

        ended = ways[1].call("DELETE", "/_security/api_key", {"ids": [made.json["id"]]})

        assert ended.status == 200, ended.content
        assert {way.call("GET", "/", Authorization=key).status for way in ways} == {401}


def test_the_rate_limit_of_an_endpoint_holds_across_processes(serve, provider):
    server = serve("--workers", "2")
    ways = server.connections(each=4)
    body = openai_endpoint(provider.url, rate_limit={"requests_per_minute": 240})
    path = "/_inference/text_embedding/e"
    assert ways[0].call("PUT", path, body).status == 200
    probes = len(provider.requests)

    def run(way: Connection) -> list[int]:
        return [way.call("POST", path, {"input": ["a"]}).status for _ in range(3)]

    began = time.monotonic()
    with ThreadPoolExecutor(len(ways)) as pool:
        statuses = [status for several in pool.map(run, ways) for status in several]
    elapsed_s = time.monotonic() - began

    assert statuses == [200] * 24
    assert len(provider.requests) - probes == 24
    # Four a second, with a burst of four: the other twenty take five seconds.
    assert elapsed_s > 4.5


def test_a_process_that_dies_is_replaced_by_one_that_knows_everything(serve, provider):
    server = serve("--workers", "2")
    ways = server.connections()
    body = openai_endpoint(provider.url)
    assert ways[0].call("PUT", "/_inference/text_embedding/before", body).status == 200
    victim, survivor = server.api_processes()

    victim.kill()
    # One of these may meet the victim's end; no write waits for the dead.
    assert server.call("PUT", "/_inference/text_embedding/during", body).status == 200
    psutil.wait_procs([victim], 60)
    for way in server.connections(processes=2):
        ids = [one["inference_id"] for one in way.call("GET", "/_inference/_all").json["endpoints"]]
        assert {"before", "during"} <= set(ids)

    assert survivor in server.api_processes()
    assert len(server.api_processes()) == 2


def test_writes_while_processes_die_leave_no_stale_answer(serve, provider):
    server = serve("--workers", "2")
    body = openai_endpoint(provider.url)
    pick = random.Random(7)
    for round_ in range(3):
        pick.choice(server.api_processes()).kill()
        names = []
        for number in range(10):
            name = f"e-{round_}-{number}"
            if put(server, name, body) == 200:
                names.append(name)

        for way in server.connections(processes=2):
            for name in names:
                assert way.call("GET", f"/_inference/text_embedding/{name}").status == 200


def put(server: Server, name: str, body: object) -> int:
    """Give the status of a PUT, 0 when the process that had it died meanwhile."""
    try:
        return server.call("PUT", f"/_inference/text_embedding/{name}", body).status
    except OSError:
        return 0
