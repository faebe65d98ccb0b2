"""Download a model from a hub, with huggingface_hub, in a process of its own.

`python -m inferry.models.hub` carries out a `HubOrder`. The library reads its settings from the
environment when it is imported and keeps its connections for good: here it finds only what the
parent meant, and leaves nothing behind.

A file goes on where an earlier attempt ended, even one of another day, and is compared with the
checksum that the hub gives for it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from inferry import __version__
from inferry.errors import (
    InferenceError,
    NotFound,
    StoreFailure,
    UnreadableReply,
    UnusableModel,
    UpstreamError,
    UpstreamUnreachable,
)
from inferry.modeling import ModelSource, Progress
from inferry.models.download_program import carry_out
from inferry.models.downloads import HubOrder, Site
from inferry.models.folder import ModelFolder
from inferry.models.hub_folders import HubFolders
from inferry.models.selection import missing_files
from inferry.models.sources import HubId

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_CHUNK_BYTES = 256 * 1024
_UNFINISHED = ".part"
_SHA256_DIGITS, _SHA1_DIGITS = 64, 40


def main() -> None:
    """Carry out the order on standard input."""
    carry_out(HubOrder, download)


def download(order: HubOrder, report: Callable[[Progress], None]) -> Path:
    """Download what `order` says and give its folder. Raises what went wrong."""
    folders = HubFolders(Path(order.directory))
    hub_id = order.hub_id
    with _translated(order), folders.locked(hub_id):
        hub = _Hub(order.hub, hub_id.repository, report)
        commit, listing = hub.list_files(hub_id.revision)
        if folders.find(HubId(hub_id.repository, commit)):
            return folders.finish(hub_id, commit)
        top = folders.begin(hub_id, commit)
        folder = ModelFolder(ModelSource(order.name, top, checksums=order.checksums))
        while wanted := missing_files(folder, listing):
            for file in hub.measure(wanted, commit):
                if not hub.fetch(file, top):
                    raise folder.unusable(file.path, "has another checksum than the hub gives")
        try:
            folder.check_digests()
        except UnusableModel:
            shutil.rmtree(top)
            raise
        return folders.finish(hub_id, commit)


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a hub. etag: the SHA-256 of a large one, the git hash of a small one."""

    path: str
    url: str
    etag: str
    size: int | None


class _Meter:
    """Counts the bytes of all files, in the manner of tqdm."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report
        self.done = self.total = 0

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a file; there is nothing to close."""

    def begin(self, *, initial: int = 0, **_: object) -> _Meter:
        """Begin a file, of which `initial` bytes are there."""
        self.update(initial)
        return self

    def update(self, count: float | None = 1) -> None:
        """Count bytes more, or less when a file began again."""
        self.done += int(count or 0)
        self._report(Progress(self.done, self.total))


class _Hub:
    """A repository of a hub."""

    def __init__(self, access: Site, repository: str, report: Callable[[Progress], None]) -> None:
        from huggingface_hub import constants, set_client_factory

        from inferry.models.gated_transport import open_site

        # What came of a chunk is lost when the connection breaks within it.
        constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
        set_client_factory(lambda: open_site(access))
        self._access = access
        self._repository = repository
        self._meter = _Meter(report)
        self._headers = {"user-agent": f"inferry/{__version__}"}
        if access.token:
            self._headers["authorization"] = f"Bearer {access.token}"

    def list_files(self, revision: str) -> tuple[str, set[str]]:
        """Give the commit that a revision stands for, and the paths of its files."""
        from huggingface_hub import HfApi

        api = HfApi(self._access.url, token=False, headers=self._headers)
        try:
            found = api.model_info(
                self._repository, revision=revision, timeout=self._access.connect_timeout_s
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _unreadable(self._access, "is none of a hub") from error
        if not found.sha or not HubId(self._repository, found.sha).is_commit:
            raise _unreadable(self._access, f"names the commit [{found.sha}]")
        paths = {one.rfilename for one in found.siblings or ()}
        return found.sha, {path for path in paths if _is_plain(path)}

    def measure(self, paths: Sequence[str], commit: str) -> list[_File]:
        """Ask for size and checksum of files, and count with their bytes from now on."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        files = []
        for path in paths:
            url = hf_hub_url(self._repository, path, revision=commit, endpoint=self._access.url)
            found = get_hf_file_metadata(
                url, token=False, headers=self._headers, retry_on_errors=True
            )
            if found.etag is None:
                raise _unreadable(self._access, f"has no checksum of [{path}]")
            files.append(_File(path, url, found.etag, found.size))
        self._meter.total += sum(file.size or 0 for file in files)
        return files

    def fetch(self, file: _File, top: Path) -> bool:
        """Download a file, or the rest of it, into the folder `top`; tell whether it is whole."""
        from huggingface_hub.file_download import http_get

        target = top / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}{_UNFINISHED}")
        before = self._meter.done
        with unfinished.open("ab") as content:
            if file.size is None or content.tell() > file.size:
                content.truncate(0)
            http_get(
                file.url,
                content,
                resume_size=content.seek(0, os.SEEK_END),
                headers=self._headers,
                expected_size=file.size,
                tqdm_class=self._meter.begin,  # type: ignore[arg-type]  # called as a class is
            )
            content.flush()
            os.fsync(content.fileno())
            self._meter.done = before + content.tell()
        if not _has_etag(unfinished, file.etag):
            unfinished.unlink()
            return False
        unfinished.replace(target)
        return True


@contextmanager
def _translated(order: HubOrder) -> Iterator[None]:
    """Turn errors of the library and of the disk into ours."""
    try:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise UnusableModel(
            f"The model [{order.name}] cannot be downloaded without the package huggingface_hub:"
            " pip install 'inferry[local]'"
        ) from error
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(order, error) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UpstreamUnreachable(f"The hub [{order.hub.url}] cannot be reached") from error
    except OSError as error:
        if error.errno is None:  # the library's own check of the size
            raise _unreadable(order.hub, "is shorter or longer than announced") from error
        raise StoreFailure(
            f"The model [{order.name}] cannot be downloaded to [{order.directory}]:"
            f" {error.strerror}"
        ) from error


def _refused(order: HubOrder, error: HfHubHTTPError) -> InferenceError:
    """Say what an answer of the hub means for the operator."""
    from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError

    hub, hub_id, status = order.hub, order.hub_id, error.response.status_code
    match error:
        case GatedRepoError():
            return UnusableModel(
                f"The model [{hub_id}] is gated: accept its terms at [{hub.url}] with the account"
                " whose token is [models.hub_token]"
            )
        case RemoteEntryNotFoundError():
            path = urlsplit(str(error.response.url)).path
            return UnusableModel(f"The hub [{hub.url}] lists a file that it has not: [{path}]")
    if status in (401, 403) and hub.token:
        return UnusableModel(
            f"The hub [{hub.url}] does not let the token [models.hub_token] read [{hub_id}]"
        )
    if status in (401, 403):
        return NotFound(
            f"The hub [{hub.url}] has no model [{hub_id}], or shows it only to those with a token:"
            " set [models.hub_token]"
        )
    if status == 404:
        return NotFound(f"The hub [{hub.url}] has no model [{hub_id}]")
    return UpstreamError(
        f"The hub [{hub.url}] answered with status [{status}] for [{hub_id}]",
        upstream_status=status,
    )


def _unreadable(hub: Site, problem: str) -> UnreadableReply:
    return UnreadableReply(f"An answer of the hub [{hub.url}] {problem}")


def _is_plain(path: str) -> bool:
    """Tell whether a path stays below its folder, whoever wrote it."""
    parts = PurePosixPath(path).parts
    is_below = bool(parts) and ".." not in parts and not path.startswith("/")
    return is_below and not set(path) & set("\\\0") and not path.endswith(_UNFINISHED)


def _has_etag(file: Path, etag: str) -> bool:
    """Compare a file with the SHA-256 that the hub gives of large files, the git hash of others.

    Mirrors give the SHA-1 of the content instead, or something that tells nothing.
    """
    with file.open("rb") as content:
        if len(etag) == _SHA256_DIGITS:
            return hashlib.file_digest(content, "sha256").hexdigest() == etag
        if len(etag) == _SHA1_DIGITS:
            header = f"blob {file.stat().st_size}\0".encode()
            digests = [hashlib.sha1(begin, usedforsecurity=False) for begin in (header, b"")]
            while chunk := content.read(_CHUNK_BYTES):
                for digest in digests:
                    digest.update(chunk)
            return etag in [digest.hexdigest() for digest in digests]
    return True


if __name__ == "__main__":
    main()
