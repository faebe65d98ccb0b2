"""Which files are opened, as Python itself tells."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_NOTED: list[set[Path]] = []


@contextmanager
def files_read() -> Iterator[set[Path]]:
    """Note the files that this process opens within the block."""
    _listen()
    found: set[Path] = set()
    _NOTED.append(found)
    try:
        yield found
    finally:
        _NOTED.pop()


@cache
def _listen() -> None:
    """Hear of what is opened, from now on: no process can end that."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _NOTED and event == "open" and isinstance(arguments[0], str):
        _NOTED[-1].add(Path(arguments[0]))
