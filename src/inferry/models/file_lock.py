"""A lock that keeps other processes away, for as long as its file is open."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked_by(file: Path) -> Iterator[None]:
    """Hold the lock of `file`, which is made if need be with its folder; wait for who has it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
