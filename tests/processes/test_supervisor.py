"""The process tree: who starts, what children may know, how everything ends."""

import shlex
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.server import basic, openai_endpoint

pytestmark = pytest.mark.server

API_PROCESS_BYTES = 75 * 1024 * 1024
SUPERVISOR_BYTES = 110 * 1024 * 1024


def run(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line as a shell would."""
    return subprocess.run(line, shell=True, check=False, capture_output=True, text=True, timeout=60)


def refusal(tmp_path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run `inferry serve`, which is expected to refuse."""
    given = ["--port", "0", "--data-dir", str(tmp_path / "data"), *flags]
    return run(f"cd {tmp_path} && {shlex.join([sys.executable, '-m', 'inferry', 'serve', *given])}")


def test_the_printed_command_works_when_it_is_pasted(serve):
    server = serve("--workers", "2", auth=True)
    line = next(line for line in server.greeting.splitlines() if "curl " in line)

    answer = run(f"{line} --silent --fail")

    assert answer.returncode == 0, answer.stderr
    assert '"service":"openai"' in answer.stdout


def test_without_authentication_the_printed_command_works_too(serve):
    server = serve()
    line = next(line for line in server.greeting.splitlines() if "curl " in line)

    answer = run(f"{line} --silent --fail")

    assert answer.returncode == 0, answer.stderr
    assert "without authentication" in server.greeting


def test_a_password_that_nobody_gave_is_made_and_printed_once(serve):
    server = serve(auth=True, environment={"INFERRY_AUTH__ADMIN_PASSWORD": ""})
    password = server.greeting.splitlines()[0].rpartition(": ")[2]

    assert server.call("GET", "/", Authorization=basic("elastic", password)).status == 200
    assert server.stop() == 0
    again = serve(auth=True, environment={"INFERRY_AUTH__ADMIN_PASSWORD": ""})

    assert "password of" not in again.greeting
    assert again.call("GET", "/", Authorization=basic("elastic", password)).status == 200


def test_the_data_directory_is_for_its_owner_only(serve, tmp_path):
    server = serve(auth=True)
    server.stop()

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    open_to_others = [
        path.name
        for path in (tmp_path / "data").iterdir()
        if path.is_file() and path.stat().st_mode & 0o077
    ]
    assert open_to_others == []


def test_a_second_server_on_the_same_data_is_refused(serve, tmp_path):
    server = serve()

    second = refusal(tmp_path, "--no-auth")

    assert second.returncode == 1
    assert f"in use by another server (process [{server.process.pid}])" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        refused = refusal(tmp_path, "--no-auth", "--port", str(port))

    assert refused.returncode == 1
    assert f"cannot listen on [127.0.0.1:{port}]: Address already in use" in refused.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_authentication_only_loopback_is_served(tmp_path, host):
    refused = refusal(tmp_path, "--no-auth", "--host", host)

    assert refused.returncode == 2
    assert "loopback only" in refused.stderr


def test_another_address_without_tls_must_be_allowed_on_purpose(tmp_path):
    refused = refusal(tmp_path, "--host", "0.0.0.0")

    assert refused.returncode == 2
    assert "[server.allow_plaintext]" in refused.stderr


def test_children_know_no_secret_of_the_environment(serve):
    secrets = {
        "INFERRY_SECRET_OPENAI": "marker-of-a-reference",
        "INFERRY_AUTH__ADMIN_PASSWORD": "marker-of-the-password",
        "OPENAI_API_KEY": "marker-of-somebody-else",
        "INFERRY_MASTER_KEY": "bWFya2VyLW9mLXRoZS1tYXN0ZXIta2V5LTMyLWJ5dGU=",
    }

    server = serve(auth=True, environment=secrets)

    for child in server.api_processes():
        seen = child.environ()
        assert not [name for name in seen if name.startswith("INFERRY_")]
        assert "OPENAI_API_KEY" not in seen
        assert "marker" not in " ".join(child.cmdline())


def test_the_processes_stay_small(serve, record_property):
    server = serve("--workers", "2", auth=True)
    server.stop()
    again = serve("--workers", "2", auth=True)  # the first start also makes the tables
    for connection in again.connections():
        assert connection.call("GET", "/_inference/_all").status == 200

    supervisor = psutil.Process(again.process.pid).memory_info().rss
    children = [child.memory_info().rss for child in again.api_processes()]

    record_property("supervisor_bytes", supervisor)
    record_property("api_process_bytes", max(children))
    assert supervisor < SUPERVISOR_BYTES
    assert max(children) < API_PROCESS_BYTES


def test_sigterm_ends_the_tree_with_exit_code_0(serve):
    server = serve("--workers", "2")
    children = server.api_processes()

    assert server.stop() == 0

    assert len(children) == 2
    assert not any(child.is_running() for child in children)
    assert "Traceback" not in server.log.read_text()


def test_children_end_when_the_supervisor_is_killed_and_the_port_is_free_at_once(serve):
    server = serve("--workers", "2")
    port = server.url.rpartition(":")[2]

    server.kill()  # waits for the children, which must end by themselves

    again = serve("--port", port)
    assert again.call("GET", "/_inference/_services").status == 200
    assert "Traceback" not in server.log.read_text()


def test_a_signal_to_an_api_process_alone_does_nothing(serve):
    server = serve()
    (child,) = server.api_processes()

    child.send_signal(2)
    child.send_signal(15)

    assert server.call("GET", "/").status == 200
    assert server.api_processes() == [child]


def test_no_descriptor_of_the_data_directory_reaches_a_child(serve, tmp_path):
    server = serve()

    opened = [file.path for child in server.api_processes() for file in child.open_files()]

    assert not [
        path for path in opened if path.startswith(f"{tmp_path}/data/") and "/metrics/" not in path
    ]


def test_no_process_of_the_server_can_be_dumped(serve):
    server = serve("--workers", "2")

    for process in [psutil.Process(server.process.pid), *server.api_processes()]:
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        # Not dumpable: the system has taken its memory away from the user that it runs as.
        assert Path(f"/proc/{process.pid}/mem").stat().st_uid == 0
        assert Path(f"/proc/{process.pid}").stat().st_uid == 0


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_process_that_crashes_shows_no_secret(serve, provider, number, tmp_path):
    server = serve()
    endpoint = openai_endpoint(provider.url, api_key="marker-secret-93d1")
    assert server.call("PUT", "/_inference/text_embedding/a", endpoint).status == 200
    assert server.call("POST", "/_inference/a", {"input": "marker-input-93d1"}).status == 200
    (before,) = server.api_processes()

    before.send_signal(number)

    server.wait_until(lambda: [one.pid for one in server.api_processes()] not in ([], [before.pid]))
    assert "marker-" not in server.log.read_text()
    assert not list(tmp_path.rglob("core*"))
