"""Download a model package, in a process of its own.

`python -m inferry.models.packages` carries out a `PackageOrder`. A repository has three files per
package: `<package>.metadata.json`, `<package>.pt`, and the vocabulary that the first one names.
Format: that of Elastic's model repository, as Elasticsearch 9 reads it.

The module is compared with size and SHA-256 of its description. A transfer that breaks goes on
where it broke, also after a restart.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import msgspec

from inferry.errors import (
    InferenceError,
    NoSuchPackage,
    StoreFailure,
    UnreadableReply,
    UpstreamUnreachable,
)
from inferry.modeling import METADATA_FILE, Progress
from inferry.models.built_in import PLATFORM
from inferry.models.download_program import carry_out
from inferry.models.downloads import PackageOrder
from inferry.models.package_description import Description, read_description
from inferry.models.package_folders import PackageFolders
from inferry.models.repository import Broken, Missing, Repository, open_repository
from inferry.models.torchscript.vocabulary import Vocabulary

_MOST_DESCRIPTION_BYTES = 128 * 1024
_MOST_VOCABULARY_BYTES = 20 * 1024 * 1024
_ATTEMPTS = 5
"""So often a transfer is tried in which nothing comes."""
_PAUSE_S = 0.1
_UNFINISHED = ".part"


def main() -> None:
    """Carry out the order on standard input."""
    carry_out(PackageOrder, download)


def download(order: PackageOrder, report: Callable[[Progress], None]) -> Path:
    """Download what `order` says and give its folder. Raises what went wrong."""
    folders, package = PackageFolders(Path(order.directory)), order.package
    with folders.locked(package), _told(order, folders), open_repository(order) as repository:
        described = _describe(repository, package.name)
        here = folders.find(package)
        if here and (here / f"{described.sha256}.pt").is_file():
            return here
        folder = folders.begin(package, described.sha256)
        module = folder / f"{described.sha256}.pt"
        _check_space(described, module)
        _write(folder / METADATA_FILE, msgspec.json.encode(described))
        report(Progress(0, described.size))
        _write_vocabulary(repository, described, folder)
        if not module.exists():
            _fetch_module(repository, described, module, report)
        return folders.finish(package)


def _describe(repository: Repository, name: str) -> Description:
    """Read the description of a package, else of its form for this platform."""
    missing: Missing | None = None
    for package in (name, f"{name}{PLATFORM}"):
        try:
            content = _read(repository, f"{package}.metadata.json", _MOST_DESCRIPTION_BYTES)
        except Missing as error:
            missing = missing or error
        else:
            return read_description(content, package)
    assert missing is not None
    raise missing


def _write_vocabulary(repository: Repository, described: Description, folder: Path) -> None:
    """Fetch the vocabulary, check it, and write it under the name of its digest."""
    name = described.vocabulary_file
    try:
        content = _read(repository, name, _MOST_VOCABULARY_BYTES)
        vocabulary = msgspec.json.decode(content, type=Vocabulary)
    except Missing as error:
        raise UnreadableReply(f"[{name}], where its vocabulary should be, is missing") from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UnreadableReply(f"[{name}] is no vocabulary: {error}") from error
    if not vocabulary.vocabulary:
        raise UnreadableReply(f"[{name}] is no vocabulary: [vocabulary] must not be empty")
    for former in folder.glob("*.json"):
        if former.name != METADATA_FILE:
            former.unlink()
    encoded = msgspec.json.encode(vocabulary)
    _write(folder / f"{hashlib.sha256(encoded).hexdigest()}.json", encoded)


def _fetch_module(
    repository: Repository,
    described: Description,
    module: Path,
    report: Callable[[Progress], None],
) -> None:
    """Bring what lacks of the module, and compare the whole with its description."""
    unfinished, size = module.with_name(module.name + _UNFINISHED), described.size
    name = f"{described.packaged_model_id}.pt"
    with unfinished.open("ab+") as file:
        if file.seek(0, os.SEEK_END) < size:
            try:
                wanted = _Wanted(name, size, is_exact=True)
                _transfer(repository, wanted, file, lambda done: report(Progress(done, size)))
            except Missing as error:
                raise UnreadableReply(f"[{name}] is missing") from error
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != described.sha256:
        raise UnreadableReply(
            f"Model sha256 checksums do not match, expected [{described.sha256}] but got [{found}]"
        )
    unfinished.replace(module)


def _read(repository: Repository, name: str, at_most: int) -> bytes:
    """Give a small file. Raises `Missing`, `Broken`, and `UnreadableReply` for a large one."""
    content = io.BytesIO()
    _transfer(repository, _Wanted(name, at_most), content, lambda _: None)
    return content.getvalue()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file of a repository, of so many bytes, or of at most so many."""

    name: str
    size: int
    is_exact: bool = False

    def check(self, found: int, *, is_all: bool) -> None:
        """Refuse `found` bytes, which are all of the file or the beginning of it."""
        if self.is_exact and (found > self.size or (is_all and found < self.size)):
            raise UnreadableReply(
                f"Model size does not match, expected [{self.size}] but got [{found}]"
            )
        if found > self.size:
            raise UnreadableReply(f"[{self.name}] has more than [{self.size}] bytes")


def _transfer(
    repository: Repository, wanted: _Wanted, file: BinaryIO, report: Callable[[int], None]
) -> None:
    """Append to `file` what lacks of what is wanted, going on where it breaks off.

    report: told how many bytes there are. Raises `Missing`, and `Broken` when nothing more comes.
    """
    attempts = 0
    while True:
        done = file.seek(0, os.SEEK_END)
        try:
            _read_on(repository, wanted, file, report)
        except Broken as error:
            attempts = attempts + 1 if file.tell() <= done else 0
            if attempts == _ATTEMPTS or (error.is_offline and not done):
                raise Broken(f"{error}, after [{file.tell()}] bytes") from error.__cause__
            time.sleep(_PAUSE_S * 2**attempts)
        else:
            return


def _read_on(
    repository: Repository, wanted: _Wanted, file: BinaryIO, report: Callable[[int], None]
) -> None:
    done = file.tell()
    with repository.open(wanted.name, done) as content:
        if content.first not in (0, done):
            raise Broken(f"[{wanted.name}] begins at [{content.first}], and not at byte [{done}]")
        if content.size is not None:
            wanted.check(content.size, is_all=True)
        file.seek(content.first)
        file.truncate()
        for chunk in content.chunks:
            file.write(chunk)
            wanted.check(file.tell(), is_all=False)
            report(file.tell())
        if content.size is not None and file.tell() < content.size:
            raise Broken(f"[{wanted.name}] ended")
    wanted.check(file.tell(), is_all=True)


def _check_space(described: Description, module: Path) -> None:
    """Raise `StoreFailure` unless what lacks of a module finds room."""
    here = (one for one in module.parent.glob(f"{module.name}*") if one.is_file())
    lacking = described.size - sum(one.stat().st_size for one in here)
    free = shutil.disk_usage(module.parent).free
    if lacking > free:
        raise StoreFailure(f"it needs [{lacking}] bytes more, and [{free}] are free on the disk")


def _write(file: Path, content: bytes) -> None:
    unfinished = file.with_name(file.name + _UNFINISHED)
    with unfinished.open("wb") as written:
        written.write(content)
        written.flush()
        os.fsync(written.fileno())
    unfinished.replace(file)


@contextmanager
def _told(order: PackageOrder, folders: PackageFolders) -> Iterator[None]:
    """Say of what a failure is, and leave only what the next download can go on with.

    Raises `NoSuchPackage`, `UpstreamUnreachable`, `StoreFailure`.
    """
    package = order.package
    place = f"package [{package.name}] of [{package.repository}]"
    try:
        yield
    except Missing as error:
        status = f" (status [{error.status}])" if error.status else ""
        raise NoSuchPackage(
            f"Failed to find package [{package.name}]: [{package.repository}] has no"
            f" [{package.name}.metadata.json]{status}"
        ) from None  # it says no more than this
    except Broken as error:
        raise UpstreamUnreachable(f"The {place} cannot be downloaded: {error}") from error.__cause__
    except OSError as error:
        folders.drop_unfinished(package)
        raise StoreFailure(
            f"The {place} cannot be written to [{order.directory}]: {error.strerror}"
        ) from error
    except InferenceError as error:
        folders.drop_unfinished(package)
        raise replace(error, message=f"{error}; {place}") from error.__cause__


if __name__ == "__main__":
    main()
