"""Packages that were downloaded, in the layout of uploaded models (`inferry.models.uploads`).

    PACKAGES/elser_model_2@0123abcd/metadata.json    the description of the package
    PACKAGES/elser_model_2@0123abcd/SHA256.pt        the definition: a TorchScript module
    PACKAGES/elser_model_2@0123abcd/SHA256.json      the vocabulary
    PACKAGES/elser_model_2@0123abcd.part/            what a download has so far

Behind the `@` stands which repository it is from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from inferry.domain import Json
from inferry.modeling import METADATA_FILE
from inferry.models.file_lock import locked_by
from inferry.models.sources import Package

_UNFINISHED = ".part"


class PackageFolders:
    """What we downloaded. Methods that change something are called within `locked`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, package: Package) -> Path | None:
        """Give the folder of a package, None when it has to be downloaded first."""
        folder = self._folder(package)
        return folder if folder.is_dir() else None

    def description(self, package: Package) -> Mapping[str, Json] | None:
        """Give what is known of a package that is here, or on its way; None of any other."""
        for folder in (self._unfinished(package), self._folder(package)):
            try:
                return msgspec.json.decode((folder / METADATA_FILE).read_bytes(), type=dict)
            except (OSError, msgspec.MsgspecError):
                continue
        return None

    def begin(self, package: Package, sha256: str) -> Path:
        """Give the folder to download into, with what an earlier attempt left of that module."""
        folder = self._unfinished(package)
        if folder.is_dir() and not any(folder.glob(f"{sha256}.*")):
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def finish(self, package: Package) -> Path:
        """Make what was downloaded, which is whole, the folder of the package."""
        folder = self._folder(package)
        shutil.rmtree(folder, ignore_errors=True)
        self._unfinished(package).replace(folder)
        return folder

    def drop_unfinished(self, package: Package) -> None:
        """Delete what a download has so far."""
        shutil.rmtree(self._unfinished(package), ignore_errors=True)

    def names(self) -> Sequence[str]:
        """Give the `folder_name` of all that is here, or on its way."""
        found = (one for one in self._directory.glob("*@*") if one.is_dir())
        return sorted({one.name.removesuffix(_UNFINISHED) for one in found})

    def folder_of(self, name: str) -> Path:
        """Give what is there under a name of `names`."""
        folder = self._directory / name
        return folder if folder.is_dir() else self._directory / f"{name}{_UNFINISHED}"

    def remove(self, name: str) -> None:
        """Delete what is there under a name of `names`; call it outside of `locked`."""
        with locked_by(self._lock_of(name)):
            for one in (name, f"{name}{_UNFINISHED}"):
                shutil.rmtree(self._directory / one, ignore_errors=True)

    @contextmanager
    def locked(self, package: Package) -> Iterator[None]:
        """Keep other processes from changing a package; wait for one that does."""
        with locked_by(self._lock_of(package.folder_name)):
            yield

    def _lock_of(self, name: str) -> Path:
        return self._directory / f"{name}.lock"

    def _folder(self, package: Package) -> Path:
        return self._directory / package.folder_name

    def _unfinished(self, package: Package) -> Path:
        return self._directory / f"{package.folder_name}{_UNFINISHED}"
