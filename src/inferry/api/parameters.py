"""Values of query parameters, and of the same values in bodies."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import unquote_plus

from inferry.errors import IllegalArgument

EVERYWHERE: Final = frozenset({"pretty", "human", "error_trace", "filter_path", "format"})
_DURATION = re.compile(r"(-1|0|[0-9]{1,18}(?=[a-z]))(nanos|micros|ms|s|m|h|d)?")
_SECONDS = {"nanos": 1e-9, "micros": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PAGE, _MOST_SHOWN = 100, 1000
_LONGEST_NAME = 64
_DAY_S = 86_400.0
_LONGEST_S = 366 * _DAY_S  # event loops count milliseconds in a bounded integer


def parse_query(query: bytes) -> dict[str, str]:
    """Decode a query string; the last of equal names wins."""
    values: dict[str, str] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if pair:
            values[_decode(name)] = _decode(value)
    return values


def parse_flag(query: Mapping[str, str], name: str) -> bool:
    """Read a boolean: absent is false, empty is true. Raises `IllegalArgument`."""
    value = query.get(name, "false")
    if value in ("true", ""):
        return True
    if value == "false":
        return False
    raise IllegalArgument(f"Failed to parse value [{value}] as only [true] or [false] are allowed.")


def parse_number(
    query: Mapping[str, str], name: str, default: int, *, at_least: int | None = 0
) -> int:
    """Read a whole number. Raises `IllegalArgument`, also for one below `at_least`."""
    text = query.get(name, str(default))
    try:
        number = int(text)
    except ValueError:
        raise IllegalArgument(
            f"Failed to parse int parameter [{name}] with value [{text[:_LONGEST_NAME]}]"
        ) from None
    if at_least is not None and number < at_least:
        raise IllegalArgument(f"Parameter [{name}] cannot be < {at_least}")
    return number


def parse_page(query: Mapping[str, str]) -> tuple[int, int]:
    """Read `from` and `size`. Raises `IllegalArgument`."""
    first, size = parse_number(query, "from", 0), parse_number(query, "size", _PAGE)
    if size > _MOST_SHOWN:
        raise IllegalArgument(f"Parameter [size] cannot be > {_MOST_SHOWN}")
    return first, size


def parse_timeout(text: str, name: str = "timeout") -> tuple[float, str]:
    """Give the seconds that `text` stands for, and the text; `-1` is the longest we know.

    Raises `IllegalArgument`.
    """
    written = text.strip()
    match = _DURATION.fullmatch(written.lower())
    if match is None or (match[1] == "-1" and match[2]):
        raise IllegalArgument(
            f"failed to parse setting [{name}] with value [{text}] as a time value: "
            "unit is missing or unrecognized"
        )
    if match[1] == "-1":
        return _LONGEST_S, written
    seconds = int(match[1]) * _SECONDS.get(match[2] or "s", _DAY_S)
    return min(seconds, _LONGEST_S), written


def check_parameters(given: Collection[str], known: frozenset[str], path: str) -> None:
    """Refuse parameters that the route does not take; `known` leaves out those of every route."""
    unknown = sorted(set(given) - known - EVERYWHERE)
    if not unknown:
        return
    shown = ", ".join(f"[{name}]{hint(name, known | EVERYWHERE)}" for name in unknown)
    plural = "s" if len(unknown) > 1 else ""
    raise IllegalArgument(f"request [{path}] contains unrecognized parameter{plural}: {shown}")


def hint(name: str, known: Collection[str], arrow: str = " ->") -> str:
    """Give ` -> did you mean [..]?` when names like `name` are known, else nothing."""
    scores = {one: _similarity(name, one) for one in known} if len(name) <= _LONGEST_NAME else {}
    close = sorted((one for one in scores if scores[one] > 0.5), key=lambda one: -scores[one])
    if not close:
        return ""
    if len(close) == 1:
        return f"{arrow} did you mean [{close[0]}]?"
    return f"{arrow} did you mean any of [{', '.join(close)}]?"


def _similarity(one: str, other: str) -> float:
    """Give 1 for equal names, 0 for those without anything in common (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        above, row[0] = row[0], i
        for j, right in enumerate(other, start=1):
            above, row[j] = row[j], min(above + (left != right), row[j] + 1, row[j - 1] + 1)
    return 1 - row[-1] / max(len(one), len(other))


def _decode(raw: bytes) -> str:
    return unquote_plus(raw.decode("latin-1"))
