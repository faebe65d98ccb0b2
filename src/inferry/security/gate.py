"""Who may enter: authentication of a request, authorisation of an action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    roles: names of effective roles, sorted; missing_roles: assigned ones that do not exist.
    api_key_id, api_key_name: set when an API key was used; `username` is then its owner.
    """

    username: str
    roles: tuple[str, ...] = ()
    missing_roles: tuple[str, ...] = ()
    kind: Literal["realm", "api_key", "token", "anonymous"] = "realm"
    api_key_id: str | None = None
    api_key_name: str | None = None


class Gate:
    """Decides for each request who it is and whether the action is allowed."""

    async def authenticate(self, headers: Mapping[str, str], uri: str) -> Principal:
        """Give the caller. Raises `NotAuthenticated` in the wire's words."""
        raise AssertionError((headers, uri))

    def authorize(self, principal: Principal, action: str) -> None:
        """Return if `principal` may do `action`, else raise `NotAuthorized` in the wire's words."""
        raise AssertionError((principal, action))
