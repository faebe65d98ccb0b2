"""Repositories of model packages: their files, and a loopback server that has its moods."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.models.hubs import QuietServer
from tests.models.torchscript.uploads import WORDS

MODULE = bytes(range(256)) * 2048
PART_BYTES = 64 * 1024


def package_files(
    name: str = "m",
    module: bytes = MODULE,
    *,
    task: str = "text_expansion",
    kind: str = "bert",
    vocabulary: Mapping[str, Any] | None = None,
    tokenization: Mapping[str, Any] | None = None,
    **members: Any,
) -> dict[str, bytes]:
    """Give the three files of a package. members: of its description, beside the usual ones."""
    described = {
        "packaged_model_id": name,
        "minimum_version": "11.0.0",
        "size": len(module),
        "sha256": hashlib.sha256(module).hexdigest(),
        "description": f"The model {name}",
        "model_type": "pytorch",
        "tags": ["elastic"],
        "inference_config": {task: {"tokenization": {kind: dict(tokenization or {})}}},
        "vocabulary_file": f"{name}.vocab.json",
        **members,
    }
    words = vocabulary or {"vocabulary": WORDS}
    return {
        f"{name}.metadata.json": json.dumps(described).encode(),
        f"{name}.pt": module,
        f"{name}.vocab.json": json.dumps(words).encode(),
    }


@dataclass
class PackageServer:
    """A server of packages. What a test changes, the next request sees.

    has_ranges: it gives the rest of a file. cut_every: bytes after which it breaks a transfer.
    answers: statuses instead of files, and where a redirect leads. pace_s: how long a module takes
    as a whole. hold: modules wait for it in their middle; held: one does.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    has_ranges: bool = True
    cut_every: int | None = None
    cuts: int = 10**6
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    pace_s: float = 0.0
    hold: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: PackageServer

    def do_GET(self) -> None:
        site, name = self.site, self.path.rpartition("/")[2]
        wanted = self.headers.get("Range", "")
        site.asked.append(f"{name} {wanted}".strip())
        site.headers.append({key.lower(): value for key, value in self.headers.items()})
        if self.path in site.answers:
            status, location = site.answers[self.path]
            self._begin(status, 0, {"Location": location} if location else {})
        elif name not in site.files:
            self._begin(404, 0)
        else:
            self._send(name, site.files[name], wanted)

    def _send(self, name: str, content: bytes, wanted: str) -> None:
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and self.site.has_ranges:
            place = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
            self._begin(206, len(content) - first, place)
        else:
            first = 0
            self._begin(200, len(content))
        if name.endswith(".pt"):
            self._drip(content[first:], len(content))
        else:
            self.wfile.write(content[first:])

    def _drip(self, rest: bytes, whole: int) -> None:
        """Send a module part by part, cut, held or slow as the site is."""
        site, pause_s = self.site, self.site.pace_s * PART_BYTES / whole
        if site.cut_every and site.cuts:
            site.cuts -= 1
            self.wfile.write(rest[: site.cut_every])
            self.close_connection = len(rest) > site.cut_every
            return
        for at in range(0, len(rest), PART_BYTES):
            if at >= len(rest) // 2:
                self.wfile.flush()
                site.held.set()
                site.hold.wait(60)
            site.closing.wait(pause_s)
            self.wfile.write(rest[at : at + PART_BYTES])

    def _begin(self, status: int, length: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def serve_packages(*packages: Mapping[str, bytes]) -> Iterator[PackageServer]:
    """Serve packages at `/models`."""
    site = PackageServer({name: content for files in packages for name, content in files.items()})
    site.hold.set()
    handler = type("Handler", (_Handler,), {"site": site})
    with QuietServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}/models"
        try:
            yield site
        finally:
            site.closing.set()
            site.hold.set()
            server.shutdown()
            thread.join()
