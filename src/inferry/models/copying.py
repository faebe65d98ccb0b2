"""What of a model is copied into another folder."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from inferry.modeling import ModelSource
from inferry.models.folder import ModelFolder
from inferry.models.selection import missing_files


def copy_needed(source: ModelSource, target: Path, listing: Collection[str]) -> None:
    """Copy the files of `listing` that a model needs and `target` lacks. Raises `UnusableModel`."""
    origin, copy = ModelFolder(source), ModelFolder(ModelSource(source.name, target))
    while wanted := missing_files(copy, listing):
        for path in wanted:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin.file(path), target / path)


def paths_in(folder: Path) -> set[str]:
    """List the files of a folder, by their path within it."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
