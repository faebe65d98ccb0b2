"""HTTP calls to providers as values: what services build and read. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request to a provider. Header names as the provider documents them.

    Its `repr` has only the method: everything else may hold credentials or inputs.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A provider's whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a provider's stream: an SSE event, a JSON line, or an AWS frame.

    name: the SSE `event` field or the frame's event type, "" when there is none.
    """

    data: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Credential:
    """Headers that sign a call, and until when they hold.

    expires_at: seconds since the epoch, `math.inf` for constant keys, None when they sign this
    attempt only and must never be cached.
    otherwise: headers to try when a provider refuses these; what works is remembered.
    """

    headers: Mapping[str, str] = field(repr=False)
    expires_at: float | None
    otherwise: Mapping[str, str] | None = field(default=None, repr=False)
