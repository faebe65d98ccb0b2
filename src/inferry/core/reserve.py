"""Secrets that newer ones replaced, kept in reserve for a while.

A provider may take a moment to know a new key, or somebody may end the wrong one: then the former
secrets still work, and no request fails in between. They are sealed beside the newer ones, under
names that no setting has.
"""

from __future__ import annotations

from collections.abc import Mapping

_PREFIX = "reserve:"
_UNTIL = "reserve:until"


def put_in_reserve(
    stored: Mapping[str, str], sent: Mapping[str, str], *, until_ms: int
) -> dict[str, str]:
    """Give what is to be sealed beside `sent`: those of `stored` that it replaces.

    Former ones in reserve become empty, since there is only one set; nothing is given when nothing
    is replaced.
    """
    current, _ = split_reserve(stored)
    replaced = {name: value for name, value in current.items() if sent.get(name, value) != value}
    if not replaced:
        return {}
    former = dict.fromkeys((name for name in stored if name.startswith(_PREFIX)), "")
    kept = {f"{_PREFIX}{name}": value for name, value in replaced.items()}
    return {**former, **kept, _UNTIL: str(until_ms)}


def split_reserve(secrets: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Give the secrets that are used, and those to use where they are refused, empty for none."""
    current = {name: one for name, one in secrets.items() if not name.startswith(_PREFIX)}
    former = {
        name.removeprefix(_PREFIX): one
        for name, one in secrets.items()
        if name.startswith(_PREFIX) and name != _UNTIL and one
    }
    return current, {**current, **former} if former else {}


def reserve_ends_at(secrets: Mapping[str, str]) -> float:
    """Give when the reserve ends, in seconds since the epoch; 0 without one."""
    return int(secrets.get(_UNTIL) or 0) / 1000
