"""A server whose every answer is searched for a secret, and then all that it leaves behind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.marks import traces_of
from tests.server import Reply
from tests.wire.conftest import Wire

TELLING = "error_trace=true&human=true&pretty=true"
"""The parameters that make an answer say more."""
_numbers = itertools.count(1)


def new_marker() -> str:
    """Make a text that nothing else contains.

    Escaped for JSON, a URL or a header it stays as it is, whatever a secret has around it.
    """
    return f"marker{next(_numbers)}x7f3a9c5e"


def broken(text: str) -> Iterator[bytes]:
    """Give bodies that are no JSON or say something twice, from an object with a marker in it."""
    yield from (text[:-cut].encode() for cut in (1, 2, 3, 10))
    yield f"{text}x".encode()
    yield text.replace(":", "", 1).encode()
    yield text.encode().replace(b"marker", b"\xff marker")
    yield text.replace("marker", "\n marker").encode()
    yield f"{text[:-1]}, {text[1:]}".encode()
    yield f"[{text}]".encode()


@dataclass(frozen=True)
class Watched:
    """A server none of whose answers may have a trace of `marker`."""

    wire: Wire
    marker: str

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        """Send a request, and search the answer."""
        reply = self.wire.call(method, path, body, **more)
        answered = f"{reply.headers}".encode() + reply.content
        self.search(answered, f"{method} {path} {body} {more} -> {answered!r}")
        return reply

    def search(self, written: bytes, where: object) -> None:
        """Check that something has no trace of the marker."""
        for trace in traces_of(self.marker):
            assert trace not in written, where

    def search_what_is_left(self) -> None:
        """Check metrics, log and every file of the data directory, database and WAL among them."""
        assert self.call("GET", "/metrics").status == 200
        server = self.wire.server
        self.search(server.log.read_bytes(), server.log)
        files = [file for file in server.data_dir.rglob("*") if file.is_file()]
        assert {"inferry.db", "inferry.db-wal"} <= {file.name for file in files}
        for file in files:
            self.search(file.read_bytes(), file)
