"""Describe a setting once.

A description drives validation of PUT and `_update`, redaction, the catalogue of
`GET _inference/_services`, request-time overrides and the generated docs.

The texts are those that existing callers of the API match on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as member
from enum import StrEnum
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from inferry.domain import NO_SETTINGS, Json, Settings, TaskType
from inferry.java_text import MASK, java_text, java_text_of_settings, without_secrets

FieldType: TypeAlias = Literal["str", "int", "long", "float", "bool", "list", "map", "url"]
"""`list` holds non-empty strings; `long` is an integer of 64 bits instead of 32."""


@dataclass(frozen=True, slots=True)
class Field:
    """A setting.

    name: as on the wire; a dot nests (`rate_limit.requests_per_minute`).
    required: a PUT without it is refused. at_least, at_most: both included.
    choices: matched whatever their case, stored as spelled here.
    secret: kept apart, sealed, never answered. updatable: `_update` may change it; task settings
    and `rate_limit` always may.
    listed: shown by `_services`, together with label, help and task_types (empty: all of the
    service). shown_required, shown_default: what `_services` says of it, unread by parsing.
    derived: set by the server only; a user who sends it is refused.
    """

    name: str
    type: FieldType
    label: str = ""
    help: str = ""
    required: bool = False
    default: Json = None
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    secret: bool = False
    updatable: bool = False
    listed: bool = True
    derived: bool = False
    task_types: tuple[TaskType, ...] = ()
    shown_required: bool | None = None
    shown_default: Json = None


@dataclass(frozen=True, slots=True)
class Missing:
    """The problem that a setting is not there, or that none of several is.

    names: of those one of which has to be there. text: of the wire.
    """

    names: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return self.text


Problem: TypeAlias = str | Missing
"""What is wrong with settings, as `str` gives it in the words of the wire."""


def missing(scope: str, *names: str) -> Missing:
    """Give the usual problem of one of `names` that has to be in `scope`."""
    required = "the required setting" if len(names) == 1 else "one of the required settings"
    return Missing(names, f"[{scope}] does not contain {required} [{', '.join(names)}]")


class Purpose(StrEnum):
    """Why settings are parsed: what is required and what may be given depends on it."""

    CREATE = "create"
    UPDATE = "update"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Parsed:
    """Settings that were understood, and what was wrong with the rest.

    values: typed and with defaults filled in (CREATE only), in field order. secrets: split off.
    unknown: left over, in the caller's order. problems: texts of the wire, in field order.
    refused: the names that they are about.
    """

    values: Settings
    secrets: dict[str, str] = member(repr=False)
    unknown: Settings = member(repr=False)
    problems: list[str]
    refused: frozenset[str] = frozenset()


_ALWAYS_UPDATABLE = frozenset({"task_settings", "rate_limit"})
_JAVA_TYPES: Mapping[FieldType, str] = {
    "str": "String",
    "url": "String",
    "int": "Integer",
    "float": "Double",
    "bool": "Boolean",
    "list": "List",
    "map": "Map",
}
_NOT_IN_URLS = re.compile(r"""[\x00-\x20\x7f"<>\\^`{|}]""")


def parse_settings(
    fields: Sequence[Field], given: Settings, *, scope: str, purpose: Purpose
) -> Parsed:
    """Hold `given` against `fields`; `scope` (`service_settings`, ...) goes into the texts.

    A null counts as not sent. An UPDATE requires nothing and fills nothing in; a REQUEST, besides,
    ignores secrets and what it does not know.
    """
    if purpose is Purpose.REQUEST:
        if not given:
            return Parsed(NO_SETTINGS, {}, NO_SETTINGS, [])
        fields = [field for field in fields if not field.secret]
    values: dict[str, Json] = {}
    secrets: dict[str, str] = {}
    problems: list[str] = []
    refused: set[str] = set()
    known: set[str] = set()
    for field in fields:
        name, dot, _ = field.name.partition(".")
        if name in known:
            continue
        known.add(name)
        if dot:
            inner = _parse_nested(name, fields, given.get(name), scope=scope, purpose=purpose)
            problems += inner.problems
            refused |= {name} if inner.problems else set()
            secrets |= inner.secrets
            if inner.values:
                values[name] = dict(inner.values)
            continue
        try:
            value = _read(field, given.get(name), scope=scope, purpose=purpose)
        except ValueError as refusal:
            problems.append(str(refusal))
            refused.add(name)
            continue
        if isinstance(value, str) and field.secret:
            secrets[name] = value
        elif value is not None:
            values[name] = value
    keep_unknown = purpose is not Purpose.REQUEST
    unknown = {name: given[name] for name in given if keep_unknown and name not in known}
    return Parsed(values, secrets, unknown, problems, frozenset(refused))


def _parse_nested(
    group: str, fields: Sequence[Field], given: Json, *, scope: str, purpose: Purpose
) -> Parsed:
    """Parse the object `group` of `scope`; what it has too much is a problem of its own."""
    if given is not None and not isinstance(given, dict):
        problem = _wrong_type(group, _without_secrets(given), "Map")
        return Parsed(NO_SETTINGS, {}, NO_SETTINGS, [problem])
    prefix = f"{group}."
    members = [
        replace(field, name=field.name.removeprefix(prefix))
        for field in fields
        if field.name.startswith(prefix)
    ]
    inner = parse_settings(members, given or {}, scope=group, purpose=purpose)
    if not inner.unknown:
        return inner
    shown = java_text_of_settings(inner.unknown)
    surplus = (
        f"Configuration contains unknown settings [{shown}] while parsing field [{group}]"
        f" for settings [{scope}]"
    )
    return replace(inner, problems=[*inner.problems, surplus], unknown=NO_SETTINGS)


def _read(field: Field, given: Json, *, scope: str, purpose: Purpose) -> Json:
    """Give the value of `field`, None when it has none. Raises `ValueError` with the text."""
    if given is None:
        if field.derived or purpose is not Purpose.CREATE:
            return None
        if field.required and field.default is None:
            raise ValueError(missing(scope, field.name))
        return field.default
    if field.derived:
        raise ValueError(f"[{scope}] does not allow the setting [{field.name}]")
    if purpose is Purpose.UPDATE and not field.updatable and scope not in _ALWAYS_UPDATABLE:
        raise ValueError(f"[{field.name}] cannot be updated")
    return _typed(field, given, scope)


def _typed(field: Field, given: Json, scope: str) -> Json:
    match field.type, given:
        case ("int" | "long") as kind, int() if not isinstance(given, bool):
            bits = 31 if kind == "int" else 63
            if -(1 << bits) <= given < 1 << bits:
                _check_range(field, given, scope)
                return given
        case "float", int() | float() if not isinstance(given, bool):
            if abs(given) < 1e308:
                _check_range(field, given, scope)
                return float(given)
        case "bool", bool():
            return given
        case "str", str():
            return _chosen(field, _not_empty(field.name, given, scope), scope)
        case "url", str():
            return _checked_url(field.name, _not_empty(field.name, given, scope), scope)
        case "list", list():
            return [_item(field.name, item, scope) for item in given]
        case "map", dict():
            if not given:
                raise ValueError(
                    f"[{scope}] Invalid value empty map. [{field.name}] must be a non-empty map"
                )
            return given
    shown = MASK if field.secret else _without_secrets(given)
    if field.type == "long":
        raise ValueError(
            f"field [{field.name}] is not of one of the expected types. The value [{shown}] cannot"
            " be converted to one of [Integer, Long]"
        )
    raise ValueError(_wrong_type(field.name, shown, _JAVA_TYPES[field.type]))


def _wrong_type(name: str, shown: str, expected: str) -> str:
    return (
        f"field [{name}] is not of the expected type."
        f" The value [{shown}] cannot be converted to a [{expected}]"
    )


def _without_secrets(given: Json) -> str:
    """Print a refused value, without what looks like a secret."""
    return java_text(without_secrets({"": given})[""])


def _check_range(field: Field, given: float, scope: str) -> None:
    if field.at_least is not None and given < field.at_least:
        if field.at_least == 1 and field.type in ("int", "long"):
            kind = "integer" if field.type == "int" else "long"
            raise ValueError(
                f"[{scope}] Invalid value [{given}]. [{field.name}] must be a positive {kind}"
            )
        raise ValueError(_out_of_range(field.name, given, "greater", field.at_least, scope))
    if field.at_most is not None and given > field.at_most:
        raise ValueError(_out_of_range(field.name, given, "less", field.at_most, scope))


def _out_of_range(name: str, given: float, side: str, bound: float, scope: str) -> str:
    return (
        f"[{scope}] Invalid value [{java_text(float(given))}]."
        f" [{name}] must be a {side} than or equal to [{java_text(float(bound))}]"
    )


def _not_empty(name: str, given: str, scope: str) -> str:
    if not given:
        raise ValueError(
            f"[{scope}] Invalid value empty string. [{name}] must be a non-empty string"
        )
    return given


def _item(name: str, given: Json, scope: str) -> str:
    if isinstance(given, str):
        return _not_empty(name, given, scope)
    raise ValueError(_wrong_type(name, _without_secrets(given), "String"))


def _chosen(field: Field, given: str, scope: str) -> str:
    if not field.choices:
        return given
    for choice in field.choices:
        if choice.casefold() == given.strip().casefold():
            return choice
    offered = ", ".join(sorted(field.choices))
    raise ValueError(
        f"[{scope}] Invalid value [{given}] received. [{field.name}] must be one of [{offered}]"
    )


def _checked_url(name: str, given: str, scope: str) -> str:
    fault = _url_fault(given)
    if fault is None:
        return given
    shown = re.sub(r"//[^/?#]*@", f"//{MASK}@", given)
    raise ValueError(
        f"[{scope}] Invalid url [{shown}] received for field [{name}]."
        f" Error: unable to parse url [{shown}]. Reason: {fault}"
    )


def _url_fault(url: str) -> str | None:
    """Say what keeps `url` from being one we may call; egress decides whether we do."""
    illegal = _NOT_IN_URLS.search(url)
    if illegal:
        return f"illegal character at index {illegal.start()}"
    try:
        parts = urlsplit(url)
        has_port_zero = parts.port == 0
    except ValueError as error:
        return "malformed authority" if "@" in url else str(error)
    if parts.scheme not in ("http", "https"):
        return "the scheme must be http or https"
    if "@" in parts.netloc:
        return "a user name or password is not allowed"
    if not parts.hostname or has_port_zero:
        return "the host is missing" if not parts.hostname else "the port must not be 0"
    return None
