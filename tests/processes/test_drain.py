"""How a server ends in good order: running requests finish, new ones go elsewhere."""

import signal
import sqlite3
from contextlib import closing
from http.client import HTTPException

import psutil
import pytest

from tests.server import Server, openai_endpoint

pytestmark = pytest.mark.server

PATH = "/_inference/text_embedding/e"


def drain(server: Server) -> None:
    """Send SIGTERM and wait until the server no longer takes new work."""
    server.process.send_signal(signal.SIGTERM)
    server.wait_until(lambda: server.call("GET", "/ready").status == 503)


def test_a_running_request_is_answered_and_a_new_one_refused(serve, provider, hold):
    server = serve()
    assert server.call("PUT", PATH, openai_endpoint(provider.url)).status == 200
    provider.then(hold)
    running = server.connect()
    running.send("POST", PATH, {"input": ["a"]})
    hold.wait()

    drain(server)
    refused = server.call("POST", PATH, {"input": ["b"]})
    hold.release()

    assert refused.status == 429
    assert refused.json["error"]["type"] == "es_rejected_execution_exception"
    assert running.receive().status == 200
    assert server.process.wait(60) == 0


def test_a_running_put_is_carried_out_and_answered(serve, provider, hold):
    server = serve()
    provider.then(hold)
    running = server.connect()
    running.send("PUT", PATH, openai_endpoint(provider.url))
    hold.wait()

    drain(server)
    hold.release()

    assert running.receive().status == 200
    assert server.process.wait(60) == 0
    again = serve()
    assert again.call("GET", PATH).status == 200


def test_a_request_that_takes_too_long_is_cut_off(serve, provider, hold):
    server = serve(environment={"INFERRY_SERVER__DRAIN_TIMEOUT": "500ms"})
    assert server.call("PUT", PATH, openai_endpoint(provider.url)).status == 200
    provider.then(hold)
    running = server.connect()
    running.send("POST", PATH, {"input": ["a"]})
    hold.wait()

    assert server.stop() == 0

    with pytest.raises((OSError, HTTPException)):
        running.receive()


def test_a_second_signal_ends_the_wait(serve, provider, hold):
    server = serve()
    assert server.call("PUT", PATH, openai_endpoint(provider.url)).status == 200
    provider.then(hold)
    running = server.connect()
    running.send("POST", PATH, {"input": ["a"]})
    hold.wait()
    children = server.api_processes()
    drain(server)

    server.process.send_signal(signal.SIGINT)

    assert server.process.wait(60) == 0
    assert psutil.wait_procs(children, 10)[1] == []


def test_idle_connections_do_not_hold_up_the_end(serve):
    server = serve("--workers", "2")
    ways = server.connections()

    assert server.stop() == 0

    for way in ways:
        with pytest.raises((OSError, HTTPException)):
            way.call("GET", "/")


def test_a_server_whose_store_cannot_be_read_says_so_until_it_can(serve):
    server = serve()
    assert server.call("GET", "/ready").status == 200
    with closing(sqlite3.connect(server.data_dir / "inferry.db", isolation_level=None)) as locking:
        locking.execute("BEGIN IMMEDIATE")

        server.wait_until(lambda: server.call("GET", "/ready").status == 503)
        reason = server.call("GET", "/ready").json["reason"]
        locking.execute("ROLLBACK")

    assert reason == "the store cannot be read"
    server.wait_until(lambda: server.call("GET", "/ready").status == 200)
