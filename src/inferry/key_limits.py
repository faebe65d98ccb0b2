"""What an API key may use: read from its metadata, and who runs an endpoint with such a key.

Limits stand in `metadata` under a name of ours, since every client of Elasticsearch can send that
and shows it again; anything else in the body of a new key, they would refuse to send.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from msgspec import Meta

from inferry.errors import IllegalArgument

MEMBER = "inferry_limits"
_PATTERN = re.compile(r"[a-z0-9_.*-]{1,256}")
_Amount = Annotated[int, Meta(ge=1, le=2**53)]


class KeyLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a key; None sets none.

    endpoints: patterns of the ids that it may run, `*` for any text. requests_per_minute,
    tokens_per_minute: of the minute that begins with the first request. tokens_per_day: of a day in
    UTC.
    """

    endpoints: list[str] | None = None
    requests_per_minute: _Amount | None = None
    tokens_per_minute: _Amount | None = None
    tokens_per_day: _Amount | None = None

    @property
    def are_counted(self) -> bool:
        """Whether there is anything to count."""
        counted = (self.requests_per_minute, self.tokens_per_minute, self.tokens_per_day)
        return any(one is not None for one in counted)

    def allow(self, inference_id: str) -> bool:
        """Tell whether an endpoint may be run."""
        patterns = self.endpoints
        return patterns is None or any(fnmatchcase(inference_id, one) for one in patterns)


class KeyHolder(msgspec.Struct, frozen=True):
    """Who runs an endpoint with a key that has limits."""

    key_id: str
    owner: str
    limits: KeyLimits


def limits_in(metadata: Mapping[str, object]) -> KeyLimits | None:
    """Read the limits of a key, None when it has none. Raises `IllegalArgument`."""
    given = metadata.get(MEMBER)
    if given is None:
        return None
    try:
        limits = msgspec.convert(given, KeyLimits)
    except msgspec.ValidationError as error:
        raise IllegalArgument(
            f"[metadata.{MEMBER}] may hold [{', '.join(KeyLimits.__struct_fields__)}], the first "
            f"a list of patterns and the others positive numbers: {error}"
        ) from error
    for pattern in limits.endpoints or ():
        if not _PATTERN.fullmatch(pattern):
            raise IllegalArgument(
                f"[metadata.{MEMBER}.endpoints] must hold ids of endpoints or patterns such as "
                f"[docs-*], got [{pattern}]"
            )
    return limits


_HOLDER: ContextVar[KeyHolder | None] = ContextVar("key_holder", default=None)


def bind_key_holder(holder: KeyHolder) -> None:
    """Let what this task runs from now on count for `holder`."""
    _HOLDER.set(holder)


def current_key_holder() -> KeyHolder | None:
    """Give for whom this task runs, None for callers without limits."""
    return _HOLDER.get()
