"""A row of the table of security calls."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from inferry.api.exchange import Answer, Handler

ACTION: Final = "cluster:admin/xpack/security/"
"""What the names of these actions begin with."""


class Call(NamedTuple):
    """A call below `/_security`.

    methods: between spaces. action: None for every authenticated caller. missing: the type of the
    answer when nothing was found.
    """

    methods: str
    path: str
    handler: Handler
    action: str | None
    summary: str
    answer: Any
    body: type[msgspec.Struct] | None = None
    parameters: frozenset[str] = frozenset()
    missing: Any = None


def answer(document: object, status: int = 200) -> Answer:
    """Write an answer."""
    return Answer(msgspec.json.encode(document), status)
