"""What an acknowledged write survives, and what a write does whose client is gone."""

import random
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException

import pytest

from tests.server import Server, openai_endpoint

pytestmark = [pytest.mark.server, pytest.mark.faults]

PATH = "/_inference/text_embedding/e"


def test_an_endpoint_is_there_after_a_kill_right_after_its_200(serve, provider):
    server = serve()

    assert server.call("PUT", PATH, openai_endpoint(provider.url)).status == 200
    server.kill()

    again = serve()
    assert again.call("GET", PATH).status == 200
    assert again.call("POST", PATH, {"input": ["a"]}).status == 200


class Writers:
    """Clients that PUT endpoint after endpoint until the server is gone."""

    def __init__(self, server: Server, body: object, prefix: str) -> None:
        self._server, self._body, self._prefix = server, body, prefix
        self._lock = threading.Lock()
        self.sent: list[str] = []
        self.acknowledged: list[str] = []

    def run(self, number: int) -> None:
        way = self._server.connect()
        with suppress(OSError, HTTPException):
            for count in range(10_000):
                name = f"{self._prefix}-{number}-{count}"
                with self._lock:
                    self.sent.append(name)
                reply = way.call("PUT", f"/_inference/text_embedding/{name}", self._body)
                assert reply.status == 200, reply.content
                with self._lock:
                    self.acknowledged.append(name)
        way.close()


@pytest.mark.parametrize(
    "moments", [20, pytest.param(200, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_killed_at_any_moment_an_endpoint_is_complete_or_absent(serve, provider, moments):
    pick = random.Random(3)
    body = openai_endpoint(provider.url)
    server = serve("--workers", "2")
    for moment in range(moments):
        writers = Writers(server, body, f"m{moment}")
        with ThreadPoolExecutor(3) as pool:
            for number in range(3):
                pool.submit(writers.run, number)
            with suppress(subprocess.TimeoutExpired):
                server.process.wait(pick.uniform(0.0, 0.5))
            server.kill()
        server = serve("--workers", "2")

        listed = server.call("GET", "/_inference/_all").json["endpoints"]
        there = {endpoint["inference_id"] for endpoint in listed}
        assert set(writers.acknowledged) <= there
        for name in set(writers.sent[-6:]) & there:
            ran = server.call("POST", f"/_inference/text_embedding/{name}", {"input": ["a"]})
            assert ran.status == 200, ran.content


def test_a_put_whose_client_hangs_up_ends_as_if_it_had_stayed(serve, provider, hold):
    server = serve()
    provider.then(hold)
    client = server.connect()
    client.send("PUT", PATH, openai_endpoint(provider.url))
    hold.wait()

    client.close()
    hold.release()

    # A second PUT of the same id waits for the first and finds its endpoint.
    second = server.call("PUT", PATH, openai_endpoint(provider.url))
    assert second.status == 400
    assert second.json["error"]["type"] == "resource_already_exists_exception"
    assert server.call("POST", PATH, {"input": ["a"]}).status == 200


def test_a_put_whose_api_process_dies_ends_as_if_it_had_lived(serve, provider, hold):
    server = serve()
    provider.then(hold)
    client = server.connect()
    client.send("PUT", PATH, openai_endpoint(provider.url))
    hold.wait()

    (child,) = server.api_processes()
    child.kill()
    with pytest.raises((OSError, HTTPException)):
        client.receive()
    hold.release()
    (way,) = server.connections(each=1, processes=1)

    second = way.call("PUT", PATH, openai_endpoint(provider.url))
    assert second.status == 400
    assert second.json["error"]["type"] == "resource_already_exists_exception"
    assert way.call("GET", PATH).status == 200


def test_inference_is_cancelled_when_its_client_hangs_up(serve, provider, hold):
    server = serve()
    assert server.call("PUT", PATH, openai_endpoint(provider.url)).status == 200
    closed = threading.Event()

    async def wait_for_the_end(connection, _received):
        hold.arrived.set()
        await connection.closed_by_peer()
        closed.set()
        connection.writer.close()

    provider.then(wait_for_the_end)
    client = server.connect()
    client.send("POST", PATH, {"input": ["a"]})
    hold.wait()

    client.close()

    assert closed.wait(60)


@pytest.mark.faults
def test_killed_while_the_master_key_is_replaced_every_secret_can_be_opened(serve, provider):
    endpoint = openai_endpoint(provider.url, api_key="a key that must live")
    server = serve()
    for number in range(20):
        path = f"/_inference/text_embedding/e{number}"
        assert server.call("PUT", path, endpoint).status == 200
    for round_ in range(4):
        rotating = server.connect()
        rotating.send("POST", "/_inferry/master_key/_rotate")
        if round_:
            server.wait_until(lambda: True)
        server.kill()
        server = serve()

        for number in (0, 19):
            reply = server.call("POST", f"/_inference/e{number}", {"input": "x"})
            assert reply.status == 200, reply.content
        assert len((server.data_dir / "master.key").read_text().split()) == 1


def test_a_new_master_key_is_taken_while_requests_run(serve, provider):
    server = serve("--workers", "2", auth=True)
    endpoint = openai_endpoint(provider.url)
    server.call("PUT", "/_inference/text_embedding/a", endpoint)
    before = (server.data_dir / "master.key").read_text()

    for _ in range(3):
        rotated = server.call("POST", "/_inferry/master_key/_rotate")
        assert (rotated.status, rotated.json) == (200, {"resealed": 1, "unreadable": []})
        assert server.call("POST", "/_inference/a", {"input": "x"}).status == 200

    assert (server.data_dir / "master.key").read_text() != before
