"""Folders that are there as a whole or not at all, and what of a model is copied into them."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from inferry.errors import StoreFailure
from inferry.modeling import ModelSource
from inferry.models.folder import ModelFolder
from inferry.models.selection import missing_files

_UNFINISHED = ".part"


@contextmanager
def whole_folder(target: Path, deed: str) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of `target` unless what fills it fails.

    deed: what fills it, for the message of a disk that refuses it. Raises `StoreFailure`.
    """
    unfinished = target.with_name(target.name + _UNFINISHED)
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        shutil.rmtree(target, ignore_errors=True)
        unfinished.replace(target)
    except OSError as error:
        raise StoreFailure(f"cannot {deed} to [{target}]: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
