"""What our server offers beside the ASGI messages, for what needs no waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

Pairs: TypeAlias = list[tuple[bytes, bytes]]
Whole: TypeAlias = tuple[int, Pairs, bytes]
"""Status, headers and body of an answer."""


class Kept:
    """What a connection keeps of its last request for the next; `head` is the application's."""

    __slots__ = ("head",)

    def __init__(self) -> None:
        self.head: Any = None


AnswerAtOnce: TypeAlias = Callable[[dict[str, Any], Kept], Whole | None]
"""Answers an ASGI scope without waiting; None when the request must go the usual way."""

DIRECT: Final = "inferry.direct"
"""The ASGI extension under which a request has its `Direct`."""


class Direct(Protocol):
    """The connection of one request."""

    def take_body(self) -> bytes | None:
        """Give the whole body if it has arrived; None leaves it to the ASGI messages."""

    def send_whole(self, whole: Whole) -> bool:
        """Write a whole answer at once; False when the ASGI messages must do it."""
