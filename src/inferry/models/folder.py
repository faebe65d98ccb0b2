"""A model folder as it was found: every file is looked at before it is opened.

Model folders come from strangers. A path that leads out of the folder, a pickle, or a file that is
not what its name says ends in an `UnusableModel` that names the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from inferry.errors import UnusableModel
from inferry.modeling import ModelSource

T = TypeVar("T")

MAX_JSON_BYTES = 32 * 1024 * 1024
PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.pt")


class ModelFolder:
    """The files of one model, by their path within it."""

    def __init__(self, source: ModelSource) -> None:
        """Open the folder. Raises `UnusableModel` when it is not there."""
        self._source = source
        self._top = Path(source.folder)
        if not self._top.is_dir():
            raise self.unusable("", "there is no such folder")
        self._within = Path(source.within or source.folder).resolve()
        self._read: dict[str, Path] = {}

    def has(self, path: str) -> bool:
        """Tell whether there is a file of this name, whatever is in it."""
        return (self._top / self._checked(path)).is_file()

    def file(self, path: str) -> Path:
        """Give the real place of a file. Raises `UnusableModel` when it is not there or outside."""
        found = self._top / self._checked(path)
        try:
            real = found.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise self._missing(path) from error
        if not real.is_relative_to(self._within):
            raise self.unusable(path, "is a link that leads out of the folder")
        if not real.is_file():
            raise self.unusable(path, "is not a file")
        self._read[path] = real
        return real

    def read_json(self, path: str, shape: type[T]) -> T:
        """Read a JSON file as `shape`. Raises `UnusableModel` when it is something else."""
        file = self.file(path)
        if (size := file.stat().st_size) > MAX_JSON_BYTES:
            raise self.unusable(path, f"has [{size}] bytes, at most [{MAX_JSON_BYTES}] are read")
        try:
            return msgspec.json.decode(file.read_bytes(), type=shape)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self.unusable(path, f"cannot be read: {error}") from error

    def find_json(self, path: str, shape: type[T]) -> T | None:
        """Read a JSON file as `shape`, or give None when it is not there."""
        return self.read_json(path, shape) if self.has(path) else None

    def fingerprint(self) -> str:
        """Tell this state of the files that were asked for so far from any other."""
        digest = hashlib.sha256(repr((self._source.dimensions, self._source.prompts)).encode())
        for path, real in sorted(self._read.items()):
            status = real.stat()
            digest.update(f"\0{path}\0{status.st_size}\0{status.st_mtime_ns}".encode())
        return digest.hexdigest()

    def check_digests(self) -> None:
        """Compare files with the SHA-256 that they must have. Raises `UnusableModel`."""
        for path, expected in self._source.checksums.items():
            with self.file(path).open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            if found != expected:
                raise self.unusable(path, f"has the SHA-256 [{found}], it must be [{expected}]")

    def unusable(self, path: str, problem: str) -> UnusableModel:
        """Make the error for a file, or for the folder when `path` is empty."""
        subject = f"[{path}] " if path else ""
        return UnusableModel(
            f"The model [{self._source.name}] cannot be used: {subject}{problem}"
            + ("" if path else f": [{self._top}]")
        )

    def _checked(self, path: str) -> str:
        """Refuse names that do not stay below the folder, before the file system sees them."""
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path or "\\" in path:
            raise self.unusable(path, "is no path within the folder")
        return path

    def _missing(self, path: str) -> UnusableModel:
        """Say that a file is missing, and why one that is there does not take its place."""
        if path.endswith(".safetensors"):
            beside = PurePosixPath(path).parent
            pickle = next((name for name in PICKLES if self.has(str(beside / name))), None)
            if pickle:
                return self.unusable(
                    str(beside / pickle),
                    "is a pickle, which could run code, and is never opened; weights are read"
                    f" from [{path}]",
                )
        return self.unusable(path, "is missing")
