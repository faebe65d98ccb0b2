"""A strict JSON parser that says where it stopped: RFC 8259, and no key twice in one object.

Bodies of writes go through it, and every body whose fault needs words. Positions are
`[line:column]`, both from 1, in characters, as the wire prints them. It does not recurse, so that
its depth limit is a rule and not an accident.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from inferry.api.fast_json import decode_json
from inferry.domain import Json
from inferry.errors import MissingBody, UnreadableBody

MAX_DEPTH = 200
TOO_DEEP = f"Document nesting depth exceeds the maximum [{MAX_DEPTH}]"
MAX_DIGITS = 400  # converting an integer takes time that grows with the square of its length
MOST_EXACT = 256 * 1024
"""Bytes of a body that is walked through; a larger one is decoded, and its faults have no position.

To walk through a hundred megabytes takes a minute, which nobody may take for a wrong comma.
"""

_SLICE = 1024 * 1024
_BLANK = re.compile(rb"\s*+")
_SPACE = re.compile(r"[ \t\n\r]*+")
_STRING = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')
_STRING_START = re.compile(_STRING.pattern.removesuffix('"'))
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)((?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)")
_WORD = re.compile(r"[A-Za-z0-9_.+-]*+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}

_CLOSERS = {"{": "}", "[": "]"}

_Scalar: TypeAlias = str | int | float | bool | None
# What it is (a bracket, ":" for a key, "" for a scalar), the key or scalar, where it begins.
_Token: TypeAlias = tuple[str, _Scalar, int]


def parse_json(body: bytes, *, max_depth: int = MAX_DEPTH) -> Json:
    """Parse `body`. Raises `UnreadableBody`, whose message begins with `[line:column]`."""
    text = _decode(body)
    root: list[Json] = []
    containers: list[list[Json] | dict[str, Json]] = [root]
    inner: list[Json] | dict[str, Json] = root
    key = ""
    for kind, scalar, offset in _tokens(text, max_depth):
        if kind == ":":
            key = str(scalar)
            if key in inner:
                raise _error(text, offset, f"Duplicate field '{key}'")
            continue
        if kind in ("}", "]"):
            containers.pop()
            inner = containers[-1]
            continue
        value: Json = {} if kind == "{" else [] if kind == "[" else scalar
        if isinstance(inner, dict):
            inner[key] = value
        else:
            inner.append(value)
        if isinstance(value, dict | list):
            containers.append(value)
            inner = value
    return root[0]


def parse_object(body: bytes, *, missing: str = "request body is required") -> dict[str, Json]:
    """Parse `body`, which must be a JSON object.

    Raises `MissingBody` with the text `missing` when there is none, else `UnreadableBody`.
    """
    if is_blank(body):
        raise MissingBody(missing)
    value = parse_json(body) if len(body) <= MOST_EXACT else _decode_large(body)
    if not isinstance(value, dict):
        where = position_of(body, ())
        raise UnreadableBody(f"{where} Expected START_OBJECT but found {token_name(value)}")
    return value


def position_of(body: bytes, path: Sequence[str | int], *, at_key: bool = False) -> str:
    """Give `[line:column]` of the value at `path` (keys and indices), or of its key.

    `body` was parsed before; the outermost position is given when `path` is not in it, and the
    first one for a body that was not read strictly.
    """
    if len(body) > MOST_EXACT:
        return "[1:1]"
    text = _decode(body)
    steps: list[str | int] = []
    wanted = list(path)
    for kind, scalar, offset in _tokens(text, MAX_DEPTH):
        if kind == ":":
            steps[-1] = str(scalar)
            if at_key and steps == wanted:
                return _position(text, offset)
            continue
        if kind in ("}", "]"):
            steps.pop()
        elif steps == wanted and not at_key:
            return _position(text, offset)
        elif kind:
            steps.append(0 if kind == "[" else "")
            continue
        if steps and isinstance(steps[-1], int):
            steps[-1] += 1
    return _position(text, len(text) - len(text.lstrip()))


def is_blank(body: bytes) -> bool:
    """Tell whether a body is nothing but space; a megabyte at a time, to hold nobody up."""
    return all(_BLANK.fullmatch(body, at, at + _SLICE) for at in range(0, len(body), _SLICE))


def token_name(value: Json) -> str:
    """Name the kind of a value as the wire does, e.g. `VALUE_NUMBER`."""
    match value:
        case None:
            return "VALUE_NULL"
        case bool():
            return "VALUE_BOOLEAN"
        case str():
            return "VALUE_STRING"
        case int() | float():
            return "VALUE_NUMBER"
        case list():
            return "START_ARRAY"
        case _:
            return "START_OBJECT"


def _decode_large(body: bytes) -> Json:
    try:
        return decode_json(body)
    except msgspec.DecodeError as error:
        raise UnreadableBody(f"[1:1] {error}") from error
    except RecursionError as error:
        raise UnreadableBody(f"[1:1] {TOO_DEEP}") from error


def _decode(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        before = body[: error.start].decode()
        where = _position(before, len(before))
        raise UnreadableBody(f"{where} Invalid UTF-8") from error
    if text.startswith("\ufeff"):
        raise UnreadableBody("[1:1] Unexpected byte order mark")
    return text


def _tokens(text: str, max_depth: int) -> Iterator[_Token]:
    """Walk over one JSON document and check its grammar."""
    closers: list[str] = []  # of the open containers, innermost last
    at = _skip(text, 0)
    while True:
        if closers and closers[-1] == "}":
            key, end = _string(text, at, "a field name in double quotes")
            yield ":", key, at
            at = _skip(text, end)
            if not text.startswith(":", at):
                raise _unexpected(text, at, "a colon behind the field name")
            at = _skip(text, at + 1)
        opening = text[at : at + 1]
        if opening in _CLOSERS:
            if len(closers) == max_depth:
                raise _error(text, at, f"Document nesting depth exceeds the maximum [{max_depth}]")
            closers.append(_CLOSERS[opening])
            yield opening, None, at
            at = _skip(text, at + 1)
            if not text.startswith(closers[-1], at):
                continue
        else:
            scalar, end = _scalar(text, at)
            yield "", scalar, at
            at = _skip(text, end)
        while closers and text.startswith(closers[-1], at):
            yield closers.pop(), None, at
            at = _skip(text, at + 1)
        if not closers:
            break
        if not text.startswith(",", at):
            raise _unexpected(text, at, f"a comma or [{closers[-1]}]")
        at = _skip(text, at + 1)
    if at != len(text):
        raise _unexpected(text, at, "the end of the document")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _scalar(text: str, at: int) -> tuple[_Scalar, int]:
    """Read the string, number or word at `at` and give it with the offset behind it."""
    if text.startswith('"', at):
        return _string(text, at, "a value")
    if number := _NUMBER.match(text, at):
        return _number(text, number), _end_of_word(text, at, number.end())
    for word, value in _WORDS.items():
        if text.startswith(word, at):
            return value, _end_of_word(text, at, at + len(word))
    raise _unexpected(text, at, "a value")


def _string(text: str, at: int, expected: str) -> tuple[str, int]:
    match = _STRING.match(text, at)
    if match is None:
        start = _STRING_START.match(text, at)
        if start is None:
            raise _unexpected(text, at, expected)
        raise _broken_string(text, start.end())
    raw = match[0]
    if "\\" not in raw:
        return raw[1:-1], match.end()
    value: str = json.loads(raw)
    if "\\u" in raw and (lone := _SURROGATE.search(value)):
        raise _error(text, at, f"Unpaired surrogate [{ord(lone[0]):#x}] in a string")
    return value, match.end()


def _broken_string(text: str, at: int) -> UnreadableBody:
    if at == len(text):
        return _error(text, at, "Unexpected end of input in a string")
    if text[at] == "\\":
        return _error(text, at, "Unrecognized escape in a string")
    return _error(text, at, f"Illegal unquoted character (code {ord(text[at])}) in a string")


def _number(text: str, match: re.Match[str]) -> int | float:
    digits = match[0]
    if match[1]:
        value = float(digits)
        if math.isinf(value):
            raise _error(text, match.start(), "Number out of range")
        return value
    if len(digits) > MAX_DIGITS:
        raise _error(text, match.start(), f"Number with more than {MAX_DIGITS} digits")
    return int(digits)


def _end_of_word(text: str, start: int, end: int) -> int:
    """Check that the number or word from `start` to `end` stops there."""
    match = _WORD.match(text, start)
    if match is not None and match.end() > end:
        raise _error(text, start, "Unrecognized token")  # not shown: it may be an unquoted secret
    return end


def _unexpected(text: str, at: int, expected: str) -> UnreadableBody:
    if at == len(text):
        return _error(text, at, f"Unexpected end of input, expected {expected}")
    word = _WORD.match(text, at)
    if word is not None and word[0]:
        return _error(text, at, f"Unrecognized token, expected {expected}")
    shown = f"'{text[at]}' " if text[at].isprintable() else ""
    found = f"Unexpected character ({shown}(code {ord(text[at])}))"
    return _error(text, at, f"{found}, expected {expected}")


def _error(text: str, at: int, detail: str) -> UnreadableBody:
    return UnreadableBody(f"{_position(text, at)} {detail}")


def _position(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return f"[{line}:{column}]"
