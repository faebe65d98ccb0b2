"""What callers add to calls of OpenAI and its hosts: a user, and headers of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from inferry.domain import Json, Settings
from inferry.errors import InvalidSettings
from inferry.fields import Field

USER = Field(
    "user",
    "str",
    help="The end user a request is made for, told to the provider.",
    updatable=True,
    listed=False,
)
HEADERS = Field(
    "headers",
    "map",
    label="Custom Headers",
    help="Extra HTTP headers sent with each request (kept in task_settings).",
    updatable=True,
)

OURS = frozenset({"authorization", "content-length", "host", "transfer-encoding"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class CallerSettings(msgspec.Struct, frozen=True):
    """The task settings of a call."""

    user: str | None = None
    headers: dict[str, str] | None = None


def caller_settings(given: Settings, *, ours: frozenset[str] = OURS) -> CallerSettings:
    """Read task settings. They may come with the request, so the headers are checked here again.

    Raises `InvalidSettings`.
    """
    problems = header_problems(given.get("headers"), ours=ours)
    if problems:
        raise InvalidSettings.of(problems)
    return msgspec.convert(given, CallerSettings)


def header_problems(headers: Json, *, ours: frozenset[str] = OURS) -> list[str]:
    """Find headers that HTTP cannot carry or that only we may set, whose names are in `ours`."""
    if not isinstance(headers, dict):
        return []
    problems = []
    for name, value in headers.items():
        if name.lower() in ours:
            problems.append(f"[task_settings] does not allow the header [{name}] in [headers]")
        elif not _NAME.fullmatch(name):
            problems.append(f"[task_settings] Invalid header name [{name!a}] in [headers]")
        elif not isinstance(value, str) or not fits_header(value):
            problems.append(
                f"[task_settings] Invalid value of header [{name}] in [headers]."
                " It must be a string of printable ASCII"
            )
    return problems


def with_headers(ours: Mapping[str, str], task: CallerSettings) -> dict[str, str]:
    """Lay the caller's headers over `ours`, whatever the case of their names."""
    if not task.headers:
        return dict(ours)
    replaced = {name.lower() for name in task.headers}
    return {name: ours[name] for name in ours if name.lower() not in replaced} | task.headers


def fits_header(value: str) -> bool:
    """Tell whether a header can carry `value`."""
    return value.isascii() and value.isprintable()
