"""Models that commands made here: copied from folders, or quantized.

    COPIES/mine/           the copy of an id, whole; the id is quoted as in a URL
    COPIES/mine@part/      what is being made of it
    COPIES/mine@former/    the copy that it takes the place of, while it does
    COPIES/mine@lock       while that id is being changed

What a process leaves that is killed goes with the next look, and a copy is back then that was cut
off on its way out.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from inferry.errors import StoreFailure
from inferry.models.file_lock import locked_by

_UNFINISHED, _FORMER, _LOCK = "@part", "@former", "@lock"  # no quoted id has an `@`


class CopyFolders:
    """What commands made. Methods that change a copy are called within `changing`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def folder(self, model_id: str) -> Path:
        """Give the place of the copy of an id, which need not be there."""
        return self._directory / quote(model_id, safe="")

    @contextmanager
    def changing(self, model_id: str, deed: str) -> Iterator[None]:
        """Keep other processes from changing the copy of an id; wait for one that does.

        deed: what is done to it, for the message of a disk that refuses it. Raises `StoreFailure`.
        """
        folder = self.folder(model_id)
        try:
            with locked_by(_beside(folder, _LOCK)):
                _settle(folder)
                yield
        except OSError as error:
            raise StoreFailure(f"cannot {deed} [{folder}]: {error.strerror}") from error

    @contextmanager
    def filling(self, model_id: str) -> Iterator[Path]:
        """Give a folder to fill, which becomes the copy of an id unless what fills it fails."""
        folder = self.folder(model_id)
        unfinished = _beside(folder, _UNFINISHED)
        try:
            unfinished.mkdir()
            yield unfinished
            with suppress(FileNotFoundError):  # there was none
                folder.replace(_beside(folder, _FORMER))
            unfinished.replace(folder)
        finally:
            _settle(folder)

    def remove(self, model_id: str) -> None:
        """Delete the copy of an id, if there is one."""
        folder = self.folder(model_id)
        with suppress(FileNotFoundError):
            folder.replace(_beside(folder, _UNFINISHED))
        _settle(folder)

    def mend(self, folder: Path) -> None:
        """Put a copy back that was cut off on its way out; leave any other folder alone.

        One that is being exchanged at this moment is there afterwards.
        """
        if folder.parent != self._directory or folder.exists():
            return
        if _beside(folder, _FORMER).exists():
            with suppress(OSError), locked_by(_beside(folder, _LOCK)):
                _settle(folder)

    def sweep(self) -> None:
        """Clean up after processes that were killed, but for what others change by now."""
        for name in {one.name.partition("@")[0] for one in self._directory.glob("*@*")}:
            folder = self._directory / name
            with suppress(OSError), locked_by(_beside(folder, _LOCK), waits=False):
                _settle(folder)


def _beside(folder: Path, mark: str) -> Path:
    return folder.with_name(folder.name + mark)


def _settle(folder: Path) -> None:
    """Leave of a copy only itself: the former one where no other has taken its place."""
    former = _beside(folder, _FORMER)
    if former.exists() and not folder.exists():
        former.replace(folder)
    for left in (former, _beside(folder, _UNFINISHED)):
        shutil.rmtree(left, ignore_errors=True)
