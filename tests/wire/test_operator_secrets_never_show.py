"""What the operator keeps secret shows in no process: not in logs, answers, metrics or files.

Every secret of the configuration, the master key and a referenced secret, while what they are for
goes wrong. Only the supervisor has them in its environment; its children have not.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import get_type_hints

import psutil
import pytest

from inferry.config import Config
from inferry.config_keys import is_secret
from tests.server import Server, basic
from tests.wire.conftest import Wire, new_id, run_servers
from tests.wire.watched import TELLING, Watched, new_marker

MARKER = new_marker()
SECRETS = {
    "INFERRY_AUTH__ADMIN_PASSWORD": f"{MARKER} password",
    "INFERRY_MODELS__HUB_TOKEN": f"hf_{MARKER}",
    "INFERRY_OUTBOUND__PROXY": f"http://user:{MARKER}@127.0.0.1:1",
    "INFERRY_MASTER_KEY": base64.b64encode(MARKER.encode().ljust(32, b".")[:32]).decode(),
    "INFERRY_SECRET_X": f"sk-{MARKER}",
}
# They name a database and a server of their own, which have suites of their own.
ELSEWHERE = {"INFERRY_STORE__URL", "INFERRY_REDIS__URL"}


def declared() -> Iterator[str]:
    """Give the variable of every secret of the configuration."""
    for section, hint in get_type_hints(Config).items():
        for name, kind in get_type_hints(hint, include_extras=True).items():
            if is_secret(kind):
                yield f"INFERRY_{section}__{name}".upper()


@pytest.fixture
def server(tmp_path, provider) -> Iterator[Watched]:
    """Run a server that has all of them."""
    settings = {
        **SECRETS,
        "INFERRY_TELEMETRY__LOG_LEVEL": "debug",
        "INFERRY_MODELS__HUB_URL": "http://127.0.0.1:1",
        "INFERRY_INFERENCE__TIMEOUT": "900ms",
    }
    with run_servers(tmp_path, provider) as start:
        wire = start(**settings)
        admin = basic("elastic", SECRETS["INFERRY_AUTH__ADMIN_PASSWORD"])
        yield Watched(Wire(wire.server, provider, admin), MARKER)


def test_every_secret_of_the_configuration_is_tried():
    assert set(declared()) <= {*SECRETS, *ELSEWHERE}


def test_what_the_operator_keeps_secret_shows_nowhere(server):
    use(server)

    processes = descendants(server.wire.server)
    server.search(server.wire.server.greeting.encode(), "what it printed")
    for process in processes:
        server.search(" ".join(process.cmdline()).encode(), process)
    for child in processes[1:]:
        server.search(json.dumps(child.environ()).encode(), child)
    server.search_what_is_left()


def test_no_process_leaves_a_core(server):
    limits = [process.rlimit(psutil.RLIMIT_CORE) for process in descendants(server.wire.server)]

    assert set(limits) == {(0, 0)}


def use(server: Watched) -> None:
    """Have everything go wrong that the secrets are for, and a process die of it."""
    settings = {"model_id": "m", "url": "https://api.example.org/v1"}
    for key in ("${env:INFERRY_SECRET_X}", "a key"):
        body = {"service": "openai", "service_settings": {**settings, "api_key": key}}
        where = f"/_inference/text_embedding/{new_id()}?{TELLING}"
        assert server.call("PUT", where, body).status != 200  # the proxy is not there
    local = {"model_id": "org/tiny", "num_allocations": 1, "num_threads": 1}
    body = {"service": "elasticsearch", "service_settings": local}
    assert server.call("PUT", f"/_inference/text_embedding/{new_id()}", body).status != 200
    for password in ("wrong", MARKER):
        headers = {"Authorization": basic("elastic", password)}
        assert server.call("GET", f"/_inference?{TELLING}", headers=headers).status == 401
    running = server.wire.server
    (dead,) = api_processes(running)
    dead.kill()
    running.wait_until(lambda: len({*api_processes(running)} - {dead}) == 1)
    for path in ("/_inference/_all", "/_security/user", "/_inference/_services", "/openapi.json"):
        server.call("GET", path)


def api_processes(server: Server) -> list[psutil.Process]:
    """Give those that answer requests, and none that runs or downloads a model."""
    found = []
    for one in server.api_processes():
        with suppress(psutil.NoSuchProcess):  # a zombie is one that has ended, too
            if "inferry.app" in one.cmdline():
                found.append(one)
    return found


def descendants(server: Server) -> list[psutil.Process]:
    """Give the supervisor and all below it."""
    supervisor = psutil.Process(server.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]
