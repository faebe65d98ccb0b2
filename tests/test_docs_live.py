"""The README's sessions, typed into a shell against a running server, answer what it says.

The server runs as `make serve` runs it, on a free port; a loopback provider stands in for OpenAI.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.server import run_server

ROOT = Path(__file__).parent.parent
PORT_IN_THE_README = "127.0.0.1:9210"
README = (ROOT / "README.md").read_text()
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """Answer embeddings of width 4, as OpenAI would."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            items = [
                {"object": "embedding", "index": index, "embedding": [0.5, 0.5, 0.5, 0.5]}
                for index, _ in enumerate(body["input"])
            ]
            answer = json.dumps(
                {
                    "object": "list",
                    "data": items,
                    "model": body["model"],
                    "usage": {"prompt_tokens": 4, "total_tokens": 4},
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def address(provider, tmp_path_factory) -> Iterator[str]:
    """Start the server and give its `host:port`."""
    data_dir = tmp_path_factory.mktemp("server") / "data"
    base_urls = {"INFERRY_OUTBOUND__BASE_URLS__OPENAI": provider}
    with run_server(data_dir, environment=base_urls) as server:
        yield server.url.removeprefix("http://")


def sessions() -> Iterator[tuple[str, str]]:
    """Split the console blocks into commands and what they answer."""
    for language, text in _BLOCK.findall(README):
        if language != "console":
            continue
        for session in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            lines = session.splitlines(keepends=True)
            count = next(n for n in range(1, len(lines) + 1) if is_complete("".join(lines[:n])))
            yield "".join(lines[:count]), "".join(lines[count:])


def is_complete(command: str) -> bool:
    """Tell whether a shell would run this, or wait for another line."""
    if command.rstrip().endswith("\\"):
        return False
    return (
        subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False).returncode
        == 0
    )


def matches(expected: str, answer: str) -> bool:
    """Compare an answer with the README, where `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, answer.strip(), re.DOTALL) is not None


def test_the_sessions_of_the_readme_answer_what_it_says(address):
    environment = os.environ | {"OPENAI_API_KEY": "sk-test"}

    for command, expected in sessions():
        ran = subprocess.run(
            ["bash", "-c", command.replace(PORT_IN_THE_README, address)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert matches(expected, ran.stdout), f"{command}\nanswered\n{ran.stdout}"


def test_the_openai_sdk_works_as_the_readme_says(address):
    (code,) = [text for language, text in _BLOCK.findall(README) if "import OpenAI" in text]
    program = code.replace(PORT_IN_THE_README, address) + "\nprint(answer.data[0].embedding)"

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout.strip() == "[0.5, 0.5, 0.5, 0.5]"


def test_the_command_line_works_as_the_readme_says(address):
    ran = subprocess.run(
        [sys.executable, "-m", "inferry", "infer", "docs", "--input", "The quick brown fox"],
        env=os.environ | {"INFERRY_URL": f"http://{address}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == "0\t4\t[0.5, 0.5, 0.5, 0.5]\n"
