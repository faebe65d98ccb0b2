"""Expressions of the wire that mean several ids: ids, and patterns in which only `*` is special."""

from __future__ import annotations

from fnmatch import fnmatchcase

_ALL = ("", "*", "_all")


def patterns_of(expression: str) -> list[str]:
    """Give what stands between the commas; of an expression that means all ids, `*`."""
    return ["*"] if expression in _ALL else expression.split(",")


def fits(one_id: str, pattern: str) -> bool:
    """Tell whether a pattern means an id."""
    return fnmatchcase(one_id, pattern.replace("[", "[[]").replace("?", "[?]"))
