"""How the caller wants an answer written: `filter_path` and `pretty`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Final

import msgspec

from inferry.api.http.filter_path import FilterPath
from inferry.api.parameters import parse_flag
from inferry.errors import IllegalArgument, UnsupportedMediaType

_INLINE: Final = 64 * 1024


def check_rendering(query: Mapping[str, str]) -> None:
    """Refuse parameters of every route that have an impossible value."""
    for name in ("pretty", "human", "error_trace"):
        parse_flag(query, name)
    wanted = query.get("format", "json")
    if wanted.lower() != "json":
        raise UnsupportedMediaType(f"format [{wanted}] is not supported, only [json] is")


def is_rewritten(query: Mapping[str, str]) -> bool:
    """Tell whether an answer must be taken apart and written anew."""
    return bool(query) and (query.get("filter_path", "") != "" or _is_pretty(query))


async def rewrite(body: bytes, query: Mapping[str, str]) -> bytes:
    """Filter a JSON answer and indent it; a large one in a thread, so that the loop goes on."""
    if len(body) <= _INLINE:
        return _rewrite(body, query)
    return await asyncio.to_thread(_rewrite, body, query)


def _rewrite(body: bytes, query: Mapping[str, str]) -> bytes:
    value = msgspec.json.decode(body)
    if path := query.get("filter_path"):
        value = FilterPath(path).apply(value)
    if not _is_pretty(query):
        return msgspec.json.encode(value)
    text = json.dumps(value, indent=2, separators=(",", " : "), ensure_ascii=False)
    return text.encode() + b"\n"


def _is_pretty(query: Mapping[str, str]) -> bool:
    try:
        return parse_flag(query, "pretty")
    except IllegalArgument:
        return False
