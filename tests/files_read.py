"""Which files and folders are opened, as Python itself tells."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from os import PathLike
from pathlib import Path

_NOTED: list[tuple[Sequence[str], set[Path]]] = []


def files_read() -> AbstractContextManager[set[Path]]:
    """Note the files that this process opens within the block."""
    return _noting("open")


def folders_read() -> AbstractContextManager[set[Path]]:
    """Note the folders that this process lists within the block."""
    return _noting("os.scandir", "os.listdir")


@contextmanager
def _noting(*events: str) -> Iterator[set[Path]]:
    _listen()
    found: set[Path] = set()
    _NOTED.append((events, found))
    try:
        yield found
    finally:
        _NOTED.pop()


@cache
def _listen() -> None:
    """Hear of what is opened, from now on: no process can end that."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[object, ...]) -> None:
    for events, found in _NOTED:
        if event in events and isinstance(arguments[0], str | PathLike):
            found.add(Path(arguments[0]))
