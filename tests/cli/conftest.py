"""A small HTTP server with prepared answers, and the command line in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from inferry.cli import main


@dataclass(slots=True)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    authorization: str | None
    body: Any


@dataclass(slots=True)
class Answering:
    """The server: prepare `answers`, look at `received`."""

    url: str
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any, *, status: int = 200) -> None:
        """Prepare the answer to a call; bytes go out as they are."""
        self.answers[f"{method} {path}"] = (status, body)


@pytest.fixture
def server() -> Iterator[Answering]:
    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            content = self.rfile.read(length)
            answering.received.append(
                Received(
                    self.command,
                    self.path,
                    self.headers.get("Authorization"),
                    json.loads(content) if content else None,
                )
            )
            missing = (404, {"error": {"reason": f"no answer for {self.path}"}})
            status, body = answering.answers.get(f"{self.command} {self.path}", missing)
            encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815  names of the library

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # so that leaving waits for every handler

    with Server(("127.0.0.1", 0), Handler) as http_server:
        answering = Answering(f"http://127.0.0.1:{http_server.server_address[1]}")
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield answering
        http_server.shutdown()
        thread.join()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    exit_code: int
    out: str
    err: str


@pytest.fixture
def inferry(capsys) -> Callable[..., Ran]:
    """Run the command line with arguments."""

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run
