"""A lock that keeps other processes away, for as long as its file is open and in its place."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked_by(file: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold the lock of `file`, which is there only then; wait for who has it.

    waits: false to raise `BlockingIOError` instead.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        with file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            if not _is_in_place(file, lock.fileno()):
                continue  # who had it has removed it, and the next one makes another
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
            return


def _is_in_place(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
