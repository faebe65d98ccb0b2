"""The route table: which handler answers a method and a path.

Paths are compared segment by segment; a literal segment wins over a placeholder, and where the
literal one knows another method only, the placeholder is tried next, as upstream does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from inferry.api.exchange import Route
from inferry.errors import IllegalArgument, InferenceError, MethodNotAllowed, NoHandler

METHODS: Final = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_LENIENT_ROOT = "_inference"
_MAX_REMEMBERED = 4096
_LONGEST_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Match:
    """A route, and what its placeholders stand for."""

    route: Route
    values: Mapping[str, str]
    answers_at_once: bool


@dataclass(slots=True)
class _Node:
    """A place in the tree of segments. names: of the placeholders on the way, per method."""

    literals: dict[str, _Node] = field(default_factory=dict)
    placeholder: _Node | None = None
    routes: dict[str, tuple[Route, tuple[str, ...]]] = field(default_factory=dict)


class RouteTable:
    """Finds routes in time that depends on the length of the path only."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        self._found: dict[tuple[str, str], Match] = {}
        for route in self.routes:
            self._add(route)

    def find(self, method: str, raw_path: str, uri: str) -> Match | InferenceError:
        """Give the route of a request; `raw_path` is not decoded yet, `uri` goes into messages.

        A HEAD is answered by the GET. Without a route: `NoHandler` or `MethodNotAllowed`; not
        raised, since a caller without credentials shall not learn it.
        """
        found = self._found.get((method, raw_path))
        return found or self._look_up(method, raw_path, uri)

    def recall(self, method: str, raw_path: str) -> Match | None:
        """Give a match that was found before."""
        return self._found.get((method, raw_path))

    def _look_up(self, method: str, raw_path: str, uri: str) -> Match | InferenceError:
        try:
            segments = _segments(method, raw_path)
        except IllegalArgument as error:
            return error
        allowed: list[str] = []
        for node, values in _walk(self._root, segments, 0, ()):
            found = node.routes.get(method)
            if found is None and method == "HEAD":
                found = node.routes.get("GET")
                if found is not None and not found[0].answers_head:
                    found = None
            if found is not None:
                route, names = found
                match = Match(route, dict(zip(names, values, strict=True)), route.answers_at_once)
                if len(raw_path) <= _LONGEST_REMEMBERED:
                    self._remember((method, raw_path), match)
                return match
            allowed += node.routes
        if not allowed:
            return NoHandler(f"no handler found for uri [{uri}] and method [{method}]")
        listed = ",".join(dict.fromkeys(allowed))
        return MethodNotAllowed(_refusal(method, uri, listed), allowed=listed)

    def _remember(self, key: tuple[str, str], match: Match) -> None:
        if len(self._found) >= _MAX_REMEMBERED:
            self._found.clear()
        self._found[key] = match

    def _add(self, route: Route) -> None:
        node = self._root
        names = []
        for segment in route.path.strip("/").split("/") if route.path != "/" else ():
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                node.placeholder = node.placeholder or _Node()
                node = node.placeholder
            else:
                node = node.literals.setdefault(segment, _Node())
        node.routes[route.method] = (route, tuple(names))


def _segments(method: str, raw_path: str) -> list[str]:
    """Split a path; what is empty at its end counts for nothing.

    Below `/_inference` a GET may leave any segment empty, since callers build such paths from
    optional parts.
    """
    segments = raw_path.split("/")[1:]
    if "%" in raw_path:
        segments = [_decode(segment) for segment in segments]
    if "" in segments:
        if method in ("GET", "HEAD") and segments[0] == _LENIENT_ROOT:
            return [segment for segment in segments if segment]
        if segments[-1] == "":
            segments.pop()
    return segments


def _decode(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise IllegalArgument(f"unable to decode [{segment}] in the path as UTF-8") from error


def _walk(
    node: _Node, segments: list[str], at: int, values: tuple[str, ...]
) -> Iterator[tuple[_Node, tuple[str, ...]]]:
    """Give the nodes that fit, best first, with the values of their placeholders."""
    if at == len(segments):
        if node.routes:
            yield node, values
        return
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, at + 1, values)
    if node.placeholder is not None and segment:
        yield from _walk(node.placeholder, segments, at + 1, (*values, segment))


def _refusal(method: str, uri: str, allowed: str) -> str:
    if method in METHODS:
        incorrect = f"Incorrect HTTP method for uri [{uri}] and method [{method}]"
    else:
        incorrect = f"Unexpected HTTP method [{method}] for uri [{uri}]"
    return f"{incorrect}, allowed: [{allowed.replace(',', ', ')}]"
