"""Unix sockets with a path, which only their owner can open."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_ADDRESS = 100  # of 108 bytes on Linux, 104 elsewhere
_BACKLOG = 512


def listen_at(path: Path) -> socket.socket:
    """Listen at `path`, in a directory that is made if need be, both for their owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    with short_address(path) as address:
        listening.bind(address)
    path.chmod(0o600)
    listening.listen(_BACKLOG)
    return listening


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Give an address of `path` that the system takes, however long the path is."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
