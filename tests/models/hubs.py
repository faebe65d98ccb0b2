"""A hub on loopback: repositories made of folders, served as the real one does.

Small files come from the hub itself with their git hash, large ones from a second server after a
redirect with their SHA-256 (https://huggingface.co/docs/huggingface_hub/guides/download).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

_API = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/revision/(?P<revision>.+)")
_TREE = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/tree/(?P<revision>.+)")
_FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_STORED = re.compile(r"/stored/(?P<repository>[^/]+/[^/]+)/(?P<path>.+)")
_LARGE = (".safetensors", ".onnx", ".bin")


@dataclass(slots=True)
class Asked:
    """A request as it arrived. at: `hub`, or `storage` for large files."""

    at: str
    method: str
    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class Repository:
    """files: contents by path. listed: paths that the listing has beside them."""

    files: dict[str, bytes]
    commit: str = "c0ffee" * 6 + "c0ff"
    listed: tuple[str, ...] = ()


@dataclass
class Hub:
    """The servers. What a test changes, the next request sees.

    token: asked for by the hub. cut_after: bytes of a large file after which a connection breaks,
    one entry per break. status: of every answer. hold: requests for large files wait for it.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    token: str | None = None
    cut_after: list[int] = field(default_factory=list)
    status: int | None = None
    error_code: str | None = None
    wrong_etag: bool = False
    location: str | None = None
    hold: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""
    storage_url: str = ""

    def add(self, repository: str, folder: Path) -> Repository:
        """Serve the files of a folder."""
        files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        self.repositories[repository] = Repository(files)
        return self.repositories[repository]

    def wait_for(self, downloads: int) -> None:
        """Wait until so many requests for large files are here."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.got()) >= downloads, timeout=30)

    def got(self, *, at: str = "storage") -> list[str]:
        """List what was downloaded from one of the servers, with the range that was asked for."""
        return [
            f"{one.path.rpartition('/')[2]} {one.headers.get('range', '')}".strip()
            for one in self.asked
            if one.at == at and one.method == "GET"
        ]


def git_hash(content: bytes) -> str:
    """Give the name that git has for a file."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """What both servers share. The library keeps connections, so the answers have a length."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    at: str

    def note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.asked.append(Asked(self.at, self.command, unquote(self.path), headers))

    def answer(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_file(self, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        first = self.first_byte()
        headers = dict(headers or {})
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self.answer(206 if first else 200, content[first:], headers)

    def first_byte(self) -> int:
        wanted = self.headers.get("Range", "bytes=0-")
        return int(wanted.removeprefix("bytes=").rstrip("-"))

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class _HubHandler(_Handler):
    at = "hub"

    def do_GET(self) -> None:
        self.note()
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        if hub.status is not None:
            self.answer(hub.status, headers=_error(hub.error_code or ""))
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.answer(401)
        elif match := _API.fullmatch(path):
            self._describe(**match.groupdict())
        elif match := _TREE.fullmatch(path):
            self._list(match["repository"])
        elif match := _FILE.fullmatch(path):
            self._resolve(**match.groupdict())
        else:
            self.answer(404)

    do_HEAD = do_GET  # noqa: N815  a name of the library

    def _describe(self, repository: str, revision: str) -> None:
        found = self.hub.repositories.get(repository)
        if found is None:
            self.answer(401, headers=_error("RepoNotFound"))
        elif revision not in ("main", found.commit):
            self.answer(404, headers=_error("RevisionNotFound"))
        else:
            siblings = [{"rfilename": path} for path in (*found.files, *found.listed)]
            described = {"id": repository, "sha": found.commit, "siblings": siblings}
            self.answer(200, json.dumps(described).encode())

    def _list(self, repository: str) -> None:
        files = self.hub.repositories[repository].files
        rows = [
            {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
            for path, content in files.items()
        ]
        self.answer(200, json.dumps(rows).encode())

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        found = self.hub.repositories[repository]
        content = found.files.get(path)
        if content is None:
            self.answer(404, headers=_error("EntryNotFound"))
            return
        commit = {"X-Repo-Commit": found.commit}
        if path.endswith(_LARGE):
            announced = b"something else" if self.hub.wrong_etag else content
            stored = f"{self.hub.storage_url}/stored/{repository}/{path}"
            large = {
                "Location": self.hub.location or stored,
                "X-Linked-Etag": f'"{hashlib.sha256(announced).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            }
            self.answer(302, headers=commit | large)
        else:
            self.answer_file(content, commit | {"ETag": f'"{git_hash(content)}"'})


class _StorageHandler(_Handler):
    at = "storage"

    def do_GET(self) -> None:
        self.note()
        match = _STORED.fullmatch(unquote(self.path))
        assert match
        content = self.hub.repositories[match["repository"]].files[match["path"]]
        self.hub.held.set()
        with self.hub.arrived:
            self.hub.arrived.notify_all()
        self.hub.hold.wait(30)
        if self.hub.cut_after:
            self._cut(content)
        else:
            self.answer_file(content)

    def _cut(self, content: bytes) -> None:
        """Announce the whole and send the beginning."""
        first = self.first_byte()
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : first + self.hub.cut_after.pop(0)])
        self.close_connection = True


def _error(code: str) -> dict[str, str]:
    return {"X-Error-Code": code}


class QuietServer(ThreadingHTTPServer):
    daemon_threads = False  # so that leaving waits for every handler

    def handle_error(self, *_: object) -> None:
        """Take it that a client goes: tests end downloads in the middle."""


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve a hub and its storage for large files."""
    hub = Hub()
    hub.hold.set()
    with _serving(hub, _HubHandler) as hub.url, _serving(hub, _StorageHandler) as hub.storage_url:
        try:
            yield hub
        finally:
            hub.hold.set()


@contextmanager
def _serving(hub: Hub, handler: type[_Handler]) -> Iterator[str]:
    bound = type(handler.__name__, (handler,), {"hub": hub})
    with QuietServer(("127.0.0.1", 0), bound) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
