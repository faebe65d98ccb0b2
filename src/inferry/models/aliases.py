"""What `inferry models` wrote down: model ids and where their models come from.

A small file in the data directory. It is read at each look-up, so that a running server knows at
once what a command added.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from inferry.errors import StoreFailure
from inferry.models.file_lock import locked_by


class AliasFile:
    """Model ids and sources, in a file that is there only once there are some."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, str]:
        """Give all of them. Raises `StoreFailure` for a file that cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreFailure(f"cannot read [{self._path}]: {error}; it can be deleted") from error

    def put(self, model_id: str, source: str) -> None:
        """Add one, or change where it comes from. Raises `StoreFailure`."""
        with self._changing() as aliases:
            aliases[model_id] = source

    def remove(self, model_id: str) -> bool:
        """Take one out, and tell whether it was there. Raises `StoreFailure`."""
        with self._changing() as aliases:
            return aliases.pop(model_id, None) is not None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """Hand out what the file has and write it back; others that change it wait."""
        unfinished = self._path.with_suffix(".part")
        try:
            with locked_by(self._path.with_suffix(".lock")):
                aliases = self.read()
                yield aliases
                text = msgspec.json.encode(dict(sorted(aliases.items())))
                try:
                    unfinished.write_bytes(msgspec.json.format(text) + b"\n")
                    unfinished.replace(self._path)
                finally:
                    unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise StoreFailure(f"cannot write [{self._path}]: {error.strerror}") from error
