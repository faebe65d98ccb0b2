"""`filter_path`: which members of an answer the caller wants.

A comma list of dotted paths; `*` stands for a segment or a part of one, `**` for any depth, a
leading `-` excludes. Array elements are transparent. Exclusions act on what was included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from inferry.domain import Json

_ANY_DEPTH: Final = "**"
# Which patterns are still possible: (which pattern, how many of its segments are matched).
_States: TypeAlias = frozenset[tuple[int, int]]
# The literal parts between the stars of a segment; None for any depth.
_Segment: TypeAlias = list[str] | None


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Patterns of one kind."""

    segments: tuple[tuple[_Segment, ...], ...]

    @classmethod
    def of(cls, paths: Iterable[str]) -> _Patterns:
        return cls(tuple(tuple(map(_split, path.split("."))) for path in paths))

    def start(self) -> _States:
        return self._beyond_any_depth((index, 0) for index in range(len(self.segments)))

    def step(self, states: _States, name: str) -> _States:
        """Go into the member `name`."""
        reached = []
        for index, at in states:
            if at == len(self.segments[index]):
                continue
            segment = self.segments[index][at]
            if segment is None:
                reached.append((index, at))
            elif _fits(name, segment):
                reached.append((index, at + 1))
        return self._beyond_any_depth(reached)

    def is_match(self, states: _States) -> bool:
        return any(at == len(self.segments[index]) for index, at in states)

    def _beyond_any_depth(self, states: Iterable[tuple[int, int]]) -> _States:
        """Add what holds when a `**` stands for nothing more."""
        found = set()
        for index, start in states:
            at = start
            found.add((index, at))
            while at < len(self.segments[index]) and self.segments[index][at] is None:
                at += 1
                found.add((index, at))
        return frozenset(found)


class FilterPath:
    """A parsed `filter_path`."""

    def __init__(self, text: str) -> None:
        paths = [path.strip() for path in text.split(",") if path.strip()]
        self._included = _Patterns.of(path for path in paths if not path.startswith("-"))
        self._excluded = _Patterns.of(path[1:] for path in paths if path.startswith("-"))

    def apply(self, value: Json) -> Json:
        """Give what is wanted of `value`; `{}` when that is nothing."""
        if self._included.segments:
            value = _include(value, self._included, self._included.start())
        if self._excluded.segments and value is not _NOTHING:
            value = _exclude(value, self._excluded, self._excluded.start())
        return {} if value is _NOTHING else value


class _Nothing(str):
    """Marks that no part of a value is wanted."""

    __slots__ = ()


_NOTHING: Final = _Nothing()


def _include(value: Json, patterns: _Patterns, states: _States) -> Json:
    if patterns.is_match(states):
        return value
    if isinstance(value, list):
        items = [_include(item, patterns, states) for item in value]
        kept = [item for item in items if item is not _NOTHING]
        return kept or _NOTHING
    if not isinstance(value, dict) or not states:
        return _NOTHING
    members = {
        name: _include(item, patterns, patterns.step(states, name)) for name, item in value.items()
    }
    return {name: item for name, item in members.items() if item is not _NOTHING} or _NOTHING


def _exclude(value: Json, patterns: _Patterns, states: _States) -> Json:
    if patterns.is_match(states):
        return _NOTHING
    if not states:
        return value
    if isinstance(value, list):
        items = [_exclude(item, patterns, states) for item in value]
        return _unless_emptied(value, [item for item in items if item is not _NOTHING])
    if not isinstance(value, dict):
        return value
    members = {
        name: _exclude(item, patterns, patterns.step(states, name)) for name, item in value.items()
    }
    kept = {name: item for name, item in members.items() if item is not _NOTHING}
    return _unless_emptied(value, kept)


def _unless_emptied(before: Json, after: Json) -> Json:
    """Drop a container of which nothing is left; one that was empty before stays."""
    return _NOTHING if before and not after else after


def _split(segment: str) -> _Segment:
    return None if segment == _ANY_DEPTH else segment.split("*")


def _fits(name: str, parts: list[str]) -> bool:
    """Tell whether `name` is `parts` with anything between them; linear, unlike an expression."""
    if len(parts) == 1:
        return name == parts[0]
    first, *middle, last = parts
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
