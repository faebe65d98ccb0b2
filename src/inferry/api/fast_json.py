"""Decode JSON a hundred times as fast as `strict_json`, and refuse the same, without its words.

The decoder drops a field that is repeated. That it did shows in the colons: each field has one, and
the others stand in strings, so that a body has as many as what it was decoded to.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from inferry.domain import Json

T = TypeVar("T", str, bytes)

_SLICE: Final = 1024 * 1024  # what one call looks through while all other threads wait
_ESCAPED: Final = (rb"\u003a", rb"\u003A")


def decode_json(body: bytes) -> Json:
    """Decode `body`. Raises `msgspec.DecodeError`, for a repeated field too; `RecursionError`."""
    try:
        value: Json = msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError("Invalid UTF-8") from error
    if _colons_in(body) != _colons_of(value):
        raise msgspec.DecodeError("Duplicate field")
    return value


def _colons_in(body: bytes) -> int:
    """Count the colons of a text, also those in strings that are written as an escape."""
    colons = _count(body, b":")
    if _count(body, rb"\u003"):
        escapes = body.replace(rb"\\", b"")  # the second one would seem to begin an escape
        colons += sum(_count(escapes, one) for one in _ESCAPED)
    return colons


def _colons_of(value: Json) -> int:
    """Count the fields of what was decoded, and the colons in its strings."""
    colons = 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            colons += one.count(":") if len(one) <= _SLICE else _count(one, ":")
        elif isinstance(one, dict):
            colons += len(one)
            waiting += one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return colons


def _count(text: T, wanted: T) -> int:
    """Count what may cross the ends of slices, but not overlap itself."""
    if len(text) <= _SLICE:
        return text.count(wanted)
    reach = _SLICE + len(wanted) - 1
    return sum(text.count(wanted, at, at + reach) for at in range(0, len(text), _SLICE))
