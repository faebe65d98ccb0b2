"""Writes that leave together: those of one turn of the event loop, in one system call."""

from __future__ import annotations

import asyncio
from typing import Final

_MOST_GATHERED_BYTES: Final = 64 * 1024


class Gathering:
    """What is written on `transport`, until the turn ends or much has come together.

    A transport by itself writes at once, and each write may wake the reader.
    """

    __slots__ = ("_loop", "_parts", "_size", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write by the end of this turn of the loop, or now when enough has come together."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MOST_GATHERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write now what has come together; nobody reads it where the connection is closing."""
        if not self._parts:
            return
        whole = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if not self._transport.is_closing():
            self._transport.write(whole)

    def close(self) -> None:
        """Close after what was written has left."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close now; what has not left is lost."""
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Count the bytes that have not left."""
        return self._size + self._transport.get_write_buffer_size()
