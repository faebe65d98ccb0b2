"""Repositories of model packages: a folder of this machine, or a web server.

Both hold files under plain names. A file is opened at the byte where an earlier transfer broke off,
where the repository can do that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inferry.errors import UnreadableReply, UnusableModel, UpstreamError
from inferry.models.downloads import PackageOrder

if TYPE_CHECKING:
    import httpx2

_CHUNK_BYTES = 256 * 1024
_MISSING = (403, 404, 410)  # some stores tell strangers 403 of what they do not have
_TOO_MANY = 429
_MOST_DIGITS = 18


class Missing(Exception):
    """A file that a repository does not have. status: of its answer, None of a folder."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__(status)
        self.status = status


class Broken(Exception):
    """A transfer that ended before its time. is_offline: there was not even a connection."""

    def __init__(self, reason: str, *, is_offline: bool = False) -> None:
        super().__init__(reason)
        self.is_offline = is_offline


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it comes. first: the byte it begins with. size: of the whole, None if unknown."""

    first: int
    size: int | None
    chunks: Iterator[bytes]


class Repository(Protocol):
    """Where packages are."""

    def open(self, name: str, first: int = 0) -> AbstractContextManager[Content]:
        """Open a file at its byte `first`, or at its beginning if it cannot be opened there.

        Raises `Missing`, `Broken`, also while it is read, and what is no use to try again.
        """


class FolderRepository:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(self, name: str, first: int = 0) -> Iterator[Content]:
        """Open a file; see `Repository`."""
        file = self._folder / name
        if not file.is_file():
            raise Missing
        if not file.resolve().is_relative_to(self._folder.resolve()):
            raise UnusableModel(f"[{name}] is a link that leads out of its repository")
        try:
            content = file.open("rb")
        except OSError as error:
            raise UnusableModel(f"[{name}] cannot be read: {error.strerror}") from error
        with content:
            content.seek(first)
            chunks = iter(lambda: content.read(_CHUNK_BYTES), b"")
            yield Content(first, file.stat().st_size, chunks)


class WebRepository:
    """A web server, behind the gate of connections."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self._client = client
        self._url = url

    @contextmanager
    def open(self, name: str, first: int = 0) -> Iterator[Content]:
        """Open a file; see `Repository`."""
        import httpx2

        headers = {"accept-encoding": "identity"}
        if first:
            headers["range"] = f"bytes={first}-"
        try:
            with self._client.stream("GET", f"{self._url}/{name}", headers=headers) as reply:
                yield _content_of(reply, name)
        except httpx2.TooManyRedirects as error:
            raise UpstreamError(f"[{name}] is redirected again and again") from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Broken(f"it cannot be reached: {error}", is_offline=True) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Broken(f"[{name}]: {str(error) or type(error).__name__}") from error


def _content_of(reply: httpx2.Response, name: str) -> Content:
    """Read the head of an answer."""
    status, headers = reply.status_code, reply.headers
    if status in _MISSING:
        raise Missing(status)
    if status >= 500 or status == _TOO_MANY:
        raise Broken(f"[{name}] was answered with status [{status}]")
    if status not in (200, 206) or "content-encoding" in headers:
        raise UpstreamError(f"[{name}] was answered with status [{status}]", upstream_status=status)
    if status == 200:
        return Content(0, _number(headers.get("content-length", "")), reply.iter_raw())
    # bytes 1000-1999/2000
    first, _, rest = headers.get("content-range", "").removeprefix("bytes ").partition("-")
    begins_at = _number(first)
    if begins_at is None:
        raise UnreadableReply(f"[{name}] was answered with a part that does not say which")
    return Content(begins_at, _number(rest.rpartition("/")[2]), reply.iter_raw())


@contextmanager
def open_repository(order: PackageOrder) -> Iterator[Repository]:
    """Open the repository of a package."""
    package = order.package
    if package.is_local:
        yield FolderRepository(package.folder)
        return
    from inferry.models.gated_transport import open_site

    with open_site(order.site) as client:
        yield WebRepository(client, package.repository)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None
