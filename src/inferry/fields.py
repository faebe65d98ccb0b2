"""One description per setting: it drives validation of PUT and `_update`, redaction, the
catalogue of `GET _inference/_services`, request-time overrides and the generated docs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from inferry.domain import Json, Settings, TaskType

FieldType: TypeAlias = Literal["str", "int", "float", "bool", "list", "map", "url"]


@dataclass(frozen=True, slots=True)
class Field:
    """A setting.

    name: as on the wire; a dot nests (`rate_limit.requests_per_minute`).
    required: a PUT without it is refused. at_least, at_most: both included.
    secret: kept apart, sealed, never answered. updatable: `_update` may change it.
    listed: shown by `_services`, together with label, help and task_types (empty: all of the
    service). derived: set by the server only; a user who sends it is refused.
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


class Purpose(StrEnum):
    """Why settings are parsed: what is required and what may be given depends on it."""

    CREATE = "create"
    UPDATE = "update"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Parsed:
    """Settings that were understood, and what was wrong with the rest.

    values: typed and with defaults filled in (CREATE only). secrets: split off.
    unknown: left over, in the caller's order. problems: texts of the wire, in field order.
    """

    values: Settings
    secrets: dict[str, str]
    unknown: Settings
    problems: list[str]


def parse_settings(
    fields: Sequence[Field], given: Settings, *, scope: str, purpose: Purpose
) -> Parsed:
    """Hold `given` against `fields`; `scope` (`service_settings`, ...) goes into the texts."""
    raise AssertionError((fields, given, scope, purpose))
