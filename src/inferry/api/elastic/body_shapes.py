"""Say in the wire's words what is wrong with a body that could not be decoded.

Bodies are described once more, for words only: which parser upstream reads which object with, and
what kinds of values its fields take. Bodies that are decoded often come here only when that fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from inferry.api.parameters import hint
from inferry.api.strict_json import parse_object, position_of, token_name
from inferry.domain import Json
from inferry.errors import IllegalArgument, InferenceError, UnreadableBody


class Kind(StrEnum):
    """A kind of simple value."""

    STRING = "string"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Shape:
    """An object. parser: upstream's name for what reads it. required: must be there at all."""

    parser: str
    fields: Mapping[str, Expected]
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array."""

    item: Expected


@dataclass(frozen=True, slots=True)
class OneOf:
    """Any of several; they differ in the kind of their outermost value."""

    options: tuple[Expected, ...]


Expected: TypeAlias = Kind | Shape | ListOf | OneOf
_Path: TypeAlias = tuple[str | int, ...]


def parse_body(body: bytes, shape: Shape) -> dict[str, Json]:
    """Read a body strictly and hold it against `shape`. Raises `BadRequest` in several kinds."""
    value = parse_object(body)
    check_body(body, value, shape)
    return value


def check_body(body: bytes, value: dict[str, Json], shape: Shape) -> None:
    """Hold `value`, which `body` was parsed to, against `shape`; null counts as not given.

    Raises `UnreadableBody` with the position, or `IllegalArgument` for a missing field.
    """
    _check_object(body, value, shape, ())


def _check_object(body: bytes, value: dict[str, Json], shape: Shape, path: _Path) -> None:
    for name, item in value.items():
        expected = shape.fields.get(name)
        inner = (*path, name)
        if expected is None:
            where = position_of(body, inner, at_key=True)
            close = hint(name, shape.fields, arrow="")
            raise UnreadableBody(f"{where} [{shape.parser}] unknown field [{name}]{close}")
        if item is not None:
            _check_value(body, item, expected, _Field(shape.parser, name, inner))
    missing = [name for name in shape.required if name not in value]
    if missing:
        raise IllegalArgument(f"Required [{', '.join(missing)}]")


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a value stands: in which field of which parser, and its path in the body."""

    parser: str
    name: str
    path: _Path


def _check_value(body: bytes, value: Json, expected: Expected, field: _Field) -> None:
    options = expected.options if isinstance(expected, OneOf) else (expected,)
    option = next((one for one in options if _is_kind(value, one)), None)
    if option is None:
        where = position_of(body, field.path)
        text = f"{field.name} doesn't support values of type: {token_name(value)}"
        raise UnreadableBody(f"{where} [{field.parser}] {text}")
    if isinstance(option, ListOf) and isinstance(value, list):
        for index, item in enumerate(value):
            inner = _Field(field.parser, field.name, (*field.path, index))
            _check_value(body, item, option.item, inner)
    elif isinstance(option, Shape) and isinstance(value, dict):
        try:
            _check_object(body, value, option, field.path)
        except InferenceError as error:
            where = position_of(body, field.path)
            text = f"failed to parse field [{field.name}]"
            raise UnreadableBody(f"{where} [{field.parser}] {text}") from error


def _is_kind(value: Json, expected: Expected) -> bool:
    match expected:
        case Kind.STRING:
            return isinstance(value, str)
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ListOf():
            return isinstance(value, list)
        case OneOf(options):
            return any(_is_kind(value, one) for one in options)
        case _:
            return isinstance(value, dict)
