"""Cluster privileges: what each allows, which name it for a refused action, and raw patterns.

A privilege is a set of action patterns in which `*` stands for any text, slashes included.
Source of names and implications: Elasticsearch reference, "Security privileges".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from inferry.errors import IllegalArgument

_SECURITY = "cluster:admin/xpack/security/*"
_API_KEYS = "cluster:admin/xpack/security/api_key/"
_DEPLOYMENTS = (
    "cluster:admin/xpack/ml/trained_models/deployment/*",
    "cluster:admin/xpack/ml/inference/deployment/*",
)
_MONITOR_INFERENCE = (
    "cluster:monitor/xpack/inference*",
    "cluster:monitor/xpack/ml/trained_models/deployment/infer",
)


@dataclass(frozen=True, slots=True)
class Privilege:
    """What a cluster privilege allows.

    grants: allowed actions; excepts: not those. grants_own: allowed on the caller's own keys only.
    """

    name: str
    grants: tuple[str, ...] = ()
    excepts: tuple[str, ...] = ()
    grants_own: tuple[str, ...] = ()

    def allows(self, action: str, *, on_own: bool) -> bool:
        """Tell whether `action` is allowed, on the caller's own things if `on_own`."""
        if on_own and any(_matches(pattern, action) for pattern in self.grants_own):
            return True
        if any(_matches(pattern, action) for pattern in self.excepts):
            return False
        return any(_matches(pattern, action) for pattern in self.grants)


# Weakest first: the order in which a refusal lists them.
_PREDEFINED = (
    Privilege("none"),
    Privilege("monitor_inference", _MONITOR_INFERENCE),
    Privilege(
        "manage_inference",
        (*_MONITOR_INFERENCE, "cluster:admin/xpack/inference/*", *_DEPLOYMENTS),
    ),
    Privilege("monitor_ml", ("cluster:monitor/xpack/ml/*",)),
    Privilege("manage_ml", ("cluster:monitor/xpack/ml/*", "cluster:admin/xpack/ml/*")),
    Privilege(
        "manage_own_api_key",
        (f"{_API_KEYS}create",),
        grants_own=(f"{_API_KEYS}get", f"{_API_KEYS}invalidate"),
    ),
    Privilege("read_security", ("cluster:admin/xpack/security/*/get",)),
    Privilege("manage_api_key", (f"{_API_KEYS}*",)),
    Privilege("manage_security", (_SECURITY,)),
    Privilege("monitor", ("cluster:monitor/*",)),
    Privilege("manage", ("cluster:*",), excepts=(_SECURITY,)),
    Privilege("all", ("cluster:*",)),
)
PRIVILEGES = {privilege.name: privilege for privilege in _PREDEFINED}


def resolve(name: str) -> Privilege:
    """Give the privilege called `name`, or the one that a raw action pattern stands for.

    Names are case-insensitive. Raises `IllegalArgument` for what is neither.
    """
    found = PRIVILEGES.get(name.lower())
    if found is not None:
        return found
    if name.startswith("cluster:"):
        # Upstream takes a raw action for a prefix: roles written for the 8.x action
        # `cluster:monitor/xpack/inference` then cover `.../get` and `.../post`, its successors.
        return Privilege(name, (f"{name.rstrip('*')}*",))
    raise IllegalArgument(
        f"unknown cluster privilege [{name}]. a privilege must be either one of the predefined "
        f"cluster privilege names [{','.join(sorted(PRIVILEGES))}] or a pattern over one of the "
        "available cluster actions"
    )


def granted_by(action: str) -> list[str]:
    """Name the predefined privileges that allow `action`, weakest first."""
    return [one.name for one in _PREDEFINED if one.allows(action, on_own=True)]


class Rights:
    """What a caller may do.

    Each argument lists cluster privileges that add up; with several arguments an action must be
    allowed by each of them, as for an API key: its owner's rights and its own limits.
    """

    __slots__ = ("_decided", "_unions")

    def __init__(self, *unions: Iterable[str]) -> None:
        self._unions = tuple(tuple(_known(names)) for names in unions)
        self._decided: dict[tuple[str, bool], bool] = {}  # as many as there are actions

    def allow(self, action: str, *, on_own: bool = False) -> bool:
        """Tell whether `action` is allowed; on_own: on the caller's own keys."""
        asked = (action, on_own)
        decided = self._decided.get(asked)
        if decided is None:
            decided = self._decided[asked] = bool(self._unions) and all(
                any(one.allows(action, on_own=on_own) for one in union) for union in self._unions
            )
        return decided

    def cover(self, privilege: str) -> bool:
        """Tell whether everything that `privilege` allows is allowed.

        Never true by mistake; false also where only several privileges together would cover one
        pattern. Raises `IllegalArgument` for an unknown privilege.
        """
        wanted = resolve(privilege)
        return bool(self._unions) and all(_covers(union, wanted) for union in self._unions)


def _known(names: Iterable[str]) -> Iterator[Privilege]:
    """Resolve `names`; one that a later release no longer knows grants nothing."""
    for name in dict.fromkeys(names):
        with suppress(IllegalArgument):
            yield resolve(name)


def _covers(union: Sequence[Privilege], wanted: Privilege) -> bool:
    def grants(pattern: str) -> bool:
        return any(
            any(_matches(given, pattern) for given in one.grants)
            and all(
                not _overlap(pattern, hole) or any(_matches(kept, hole) for kept in wanted.excepts)
                for hole in one.excepts
            )
            for one in union
        )

    def grants_own(pattern: str) -> bool:
        return grants(pattern) or any(
            _matches(given, pattern) for one in union for given in one.grants_own
        )

    return all(map(grants, wanted.grants)) and all(map(grants_own, wanted.grants_own))


def _matches(pattern: str, text: str) -> bool:
    """Tell whether `pattern` matches `text`; of a pattern as text, whether it contains it.

    Linear in the text: the pattern is a caller's, so no regular expression is made of it.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first):
        return False
    at = len(first)
    for piece in rest[:-1]:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return len(text) - at >= len(rest[-1]) and text.endswith(rest[-1])


def _overlap(one: str, other: str) -> bool:
    """Tell whether some text matches both patterns, by what stands before their first `*`.

    Errs towards true, so that an exception is never overlooked.
    """
    first, second = one.split("*", 1)[0], other.split("*", 1)[0]
    return first.startswith(second) or second.startswith(first)
