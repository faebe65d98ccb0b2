"""What connections may take, and what those of a process have taken together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What connections may take.

    max_head_bytes: request line and headers together, also of what follows a body.
    max_headers: lines. head_timeout_s: time to send them. write_timeout_s: how long a client may
    read nothing of an answer, or less than a kilobyte a second. max_connections: per process, and
    of one address if that is not 0.
    max_waiting: requests that were sent before the answers to others came, per process.
    """

    max_head_bytes: int = 64 * 1024
    max_headers: int = 256
    head_timeout_s: float = 30.0
    write_timeout_s: float = 30.0
    max_connections: int = 10_000
    max_connections_per_address: int = 0
    max_waiting: int = 10_000


class Crowd:
    """What the connections of a process share.

    waiting: requests behind others of their connection. full_until: when it is looked again for a
    connection that rests, since to look through all that are busy takes milliseconds. of_address:
    how many connections there are of each.
    """

    __slots__ = ("full_until", "of_address", "waiting")

    def __init__(self) -> None:
        self.of_address: Counter[str] = Counter()
        self.waiting = 0
        self.full_until = 0.0

    def leave(self, address: str) -> None:
        """Count a connection no longer."""
        self.of_address[address] -= 1
        if not self.of_address[address]:
            del self.of_address[address]
