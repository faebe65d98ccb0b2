"""Who caused what this task does: kept beside the work, so that the audit log can tell.

A request that may change something binds its origin; a command that it sends to the supervisor
takes it along.
"""

from __future__ import annotations

from contextvars import ContextVar

import msgspec


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, from where, for what. user: empty when it is not known.

    api_key_id: of a caller who came with a key. address: the client's, where a trusted proxy told
    it. action: in the words of the wire, empty where none is asked about. request: method and path,
    never the query.
    """

    user: str = ""
    api_key_id: str | None = None
    address: str = ""
    action: str = ""
    request: str = ""
    request_id: str = ""


NOBODY = Origin()
_ORIGIN: ContextVar[Origin] = ContextVar("origin", default=NOBODY)


def bind_origin(origin: Origin) -> None:
    """Let `origin` stand for what this task does from now on."""
    _ORIGIN.set(origin)


def current_origin() -> Origin:
    """Give the origin of what this task does; the server itself is nobody."""
    return _ORIGIN.get()
