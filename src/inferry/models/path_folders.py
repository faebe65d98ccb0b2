"""The folders below `models.path`, which an operator keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inferry.errors import IllegalArgument
from inferry.models.wanted import EVERYTHING, Wanted, folders_in


class PathFolders:
    """What is below `top`, as `name` or `organisation/name`; None where there is no such place."""

    def __init__(self, top: Path | None) -> None:
        self.top = top

    def find(self, model_id: str) -> Path | None:
        """Give the folder that an id names; None for an id that is no path.

        Raises `IllegalArgument` for a path that leads elsewhere.
        """
        is_path = model_id.startswith(("/", "./", "../"))
        if self.top is None:
            if is_path:
                raise IllegalArgument(
                    f"model_id [{model_id}] is a path, and [models.path], below which paths"
                    " resolve, is not set"
                )
            return None
        top = self.top.resolve()
        try:
            folder = (top / model_id).resolve()
            is_there = folder != top and folder.is_dir()
        except (OSError, ValueError):  # too long, or with a NUL
            return None
        if not folder.is_relative_to(top) and (is_path or is_there):
            raise IllegalArgument(f"model_id [{model_id}] leads out of [models.path]")
        if is_path and not is_there:
            raise IllegalArgument(f"there is no folder [{model_id}] below [models.path]")
        return folder if is_there else None

    def names(self, wanted: Wanted = EVERYTHING) -> Iterator[str]:
        """Name the folders that have a model which is wanted; no other is looked into."""
        if self.top is None:
            return
        for outer in filter(wanted.may_have, folders_in(self.top)):
            names = [outer]
            if not _is_model(self.top / outer):
                names = [f"{outer}/{inner}" for inner in folders_in(self.top / outer)]
            yield from (one for one in names if wanted.has(one) and _is_model(self.top / one))


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "modules.json").is_file()
